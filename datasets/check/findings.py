"""Everything about a data set that would spoil a training or a test, found before either."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from datasets.check import bmad
from datasets.check.observation import Observation, observe
from datasets.check.report import Finding, Report, Severity, SplitSummary
from datasets.folders.find import inspect_normal_images, inspect_split, paired_masks
from datasets.folders.layouts import list_images, normal_folders
from datasets.folders.samples import ANOMALOUS, NORMAL, Sample, Split, mask_without_mark
from datasets.folders.scan import scan
from datasets.folders.splits import Place
from datasets.folders.volumes import choose_volume
from datasets.readers.base import SliceAxis
from datasets.readers.formats import KINDS, shown
from utils.errors import UserError
from utils.patients import patient_of

_EXAMPLES = 20
# More grey levels than anybody draws: traces of JPEG or of resizing.
_MANY_LEVELS = 16


def check_dataset(
    places: Sequence[Place],
    *,
    names: tuple[str, ...] = (),
    patient_pattern: str | None = None,
    axis: SliceAxis = "axial",
    volume: int = 0,
) -> Report:
    """Look at every image and mask; nothing that is wrong stops the check.

    Of each image a digest is kept and nothing else.

    Args:
        places: The splits.
        names: What a config calls the set, to recognise BMAD's.
        patient_pattern: Tells the patient of a file name, see
            :func:`utils.patients.patient_of`; None to leave patients alone.
        axis: How volumes are cut.
        volume: Which volume of NIfTI files of four dimensions.
    """
    check = _Check(patient_pattern, axis, volume)
    for place in places:
        check.add(place)
    return check.report(names)


class _Check:
    """What is known so far; splits are added one after another."""

    def __init__(self, patient_pattern: str | None, axis: SliceAxis, volume: int) -> None:
        self._pattern = patient_pattern
        self._volume = volume
        self._axis = axis
        self._folders: dict[Path, Place] = {}
        self._summaries: list[SplitSummary] = []
        self._findings: list[Finding] = []
        # Digest → where a picture was seen first.
        self._seen: dict[bytes, tuple[Place, Sample]] = {}
        # Patient → first file in each split.
        self._patients: dict[str, dict[str, Path]] = defaultdict(dict)

    def _note(self, severity: Severity, kind: str, text: str) -> None:
        self._findings.append(Finding(severity, kind, text))

    def add(self, place: Place) -> None:
        """Look at a split."""
        other = self._folders.setdefault(place.folder.resolve(), place)
        if other is not place:
            self._note(
                "error",
                "leak",
                f"{place.key}: {shown(place.folder)} is the {other.name} split as well; give each "
                "split a folder of its own",
            )
            return
        try:
            split = self._find(place)
        except UserError as error:
            self._note("error", "layout", str(error))
            return
        summary = SplitSummary(place)
        self._summaries.append(summary)
        self._add_patients(place, split)
        masks = _masks_of_normal_images(split.folder)
        samples = choose_volume(split.samples, self._volume)
        looks = scan(
            samples, lambda each: observe(each, each.mask or masks.get(each.path)), place.name
        )
        for sample, seen in zip(samples, looks, strict=True):
            self._add_sample(summary, sample, seen)
        self._sum_up(summary)

    def _find(self, place: Place) -> Split:
        inspect = inspect_normal_images if place.name == "train" else inspect_split
        split, problems = inspect(place.folder, key=place.key, axis=self._axis)
        for problem in problems:
            self._note("error", "masks", problem)
        for line in split.unread:
            self._note("error", "unread", line)
        return split

    def _add_sample(self, summary: SplitSummary, sample: Sample, seen: Observation) -> None:
        if sample.label == ANOMALOUS:
            summary.anomalous += 1
        else:
            summary.normal += 1
        if seen.unreadable:
            self._note("error", "unreadable", seen.unreadable)
            return
        summary.sizes[seen.size] += 1
        summary.kinds[seen.coloured] += 1
        if len(summary.examples[seen.coloured]) < _EXAMPLES:
            summary.examples[seen.coloured].append(sample.name)
        summary.alpha += seen.alpha
        if seen.constant:
            self._note("warning", "blank", f"{_name(sample)}: all pixels are alike")
        else:
            self._compare(summary.place, sample, seen.digest)
        self._add_mask(summary, sample, seen)

    def _add_mask(self, summary: SplitSummary, sample: Sample, seen: Observation) -> None:
        mask = seen.mask
        if mask is None:
            return
        summary.masks += 1
        if mask.unreadable:
            self._note("error", "unreadable", mask.unreadable)
        if mask.another_size:
            self._note("error", "mask_size", mask.another_size)
        if mask.num_levels > _MANY_LEVELS:
            text = f"{_name(sample)}: its mask holds {mask.num_levels} grey levels, as after JPEG "
            self._note("warning", "lossy_mask", text + "or resizing; all above 0 count as marked")
        else:
            summary.mask_levels.update(mask.levels)
        if sample.label == NORMAL and mask.marked:
            text = f"{_name(sample)}: is filed as normal, and its mask marks something; "
            self._note("warning", "marked_normal", text + "normal images count as unmarked")
        if sample.mask is not None and mask.num_levels and not mask.marked:
            self._note("warning", "empty_mask", mask_without_mark(sample))
        if sample.mask is not None and mask.full:
            text = f"{shown(sample.mask)}: marks everything; draw it anew unless that is meant"
            self._note("warning", "full_mask", text)

    def _compare(self, place: Place, sample: Sample, digest: bytes) -> None:
        where, first = self._seen.setdefault(digest, (place, sample))
        if first is sample:
            return
        text = f"{_name(sample)}: is the same picture as {_name(first)}"
        if where is not place:
            self._note("error", "leak", f"{text}, of the {where.name} split; remove one")
        elif first.label != sample.label:
            self._note("error", "label", f"{text}, which is filed otherwise; remove one")
        else:
            self._note("warning", "duplicate", text)

    def _add_patients(self, place: Place, split: Split) -> None:
        if self._pattern is None:
            return
        unmatched = []
        for sample in split.samples:
            try:
                patient = patient_of(sample.stem, self._pattern)
            except ValueError as error:
                unmatched.append(f"{shown(sample.path)}: {error}")
            else:
                self._patients[patient].setdefault(place.name, sample.path)
        if unmatched:
            more = f" (and {len(unmatched) - 1} more)" if len(unmatched) > 1 else ""
            self._note("error", "patient_pattern", unmatched[0] + more)

    def _sum_up(self, summary: SplitSummary) -> None:
        name = summary.place.name
        if len(summary.kinds) > 1:
            rarer = summary.kinds[True] <= summary.kinds[False]
            word = "coloured" if rarer else "grey"
            text = f"{name}: {summary.kinds[rarer]} of {summary.kinds.total()} images are {word}, "
            self._note(
                "warning", "colour", f"{text}such as {shown(Path(summary.examples[rarer][0]))}"
            )
        if summary.alpha:
            text = f"{name}: {summary.alpha} images have transparency, which is dropped"
            self._note("note", "alpha", text)
        if len(summary.mask_levels) > 2:
            levels = ", ".join(f"{level:g}" for level in sorted(summary.mask_levels))
            self._note(
                "note", "mask_levels", f"{name}: masks hold {levels}; all above 0 count as marked"
            )

    def report(self, names: tuple[str, ...]) -> Report:
        """Compare the splits with one another and with BMAD's."""
        for patient, files in self._patients.items():
            if len(files) > 1:
                places = ", ".join(f"{name} ({shown(path)})" for name, path in files.items())
                self._note("error", "patient_overlap", f"patient {patient} is in {places}")
        counts = {each.place.name: (each.normal, each.anomalous) for each in self._summaries}
        dataset = bmad.recognise(names, counts)
        for summary in self._summaries if dataset else ():
            self._expect(summary, bmad.SPLITS[dataset or ""][summary.place.name])
        return Report(dataset, self._summaries, self._findings)

    def _expect(self, summary: SplitSummary, expected: bmad.Counts) -> None:
        summary.expected = expected
        found = (summary.normal, summary.anomalous)
        if found != expected:
            self._note(
                "warning",
                "counts",
                f"{summary.place.name}: {found[0]} normal and {found[1]} anomalous images, BMAD "
                f"has {expected[0]} and {expected[1]}: metrics will not compare",
            )


def _masks_of_normal_images(folder: Path) -> dict[Path, Path]:
    """Image → mask in ``good``, which training and test never read."""
    return {
        image: mask
        for each in normal_folders(folder)
        for image, mask in paired_masks(
            each, list_images(each.images, KINDS, tell=False), []
        ).items()
    }


def _name(sample: Sample) -> str:
    return shown(Path(sample.name))
