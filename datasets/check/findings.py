"""Finds everything in a data set that would spoil a training or a test."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datasets.check import bmad
from datasets.check.observation import Finding, Observation, observe
from datasets.check.report import Report, SplitSummary
from datasets.check.volumes import VolumeSummary, differences, mask_grids
from datasets.folders.find import inspect_split
from datasets.folders.samples import Sample, Split
from datasets.folders.scan import scan
from datasets.folders.slicing import AXIAL, Slicing
from datasets.folders.splits import Place
from datasets.patients import dicom_patient, patient_of
from datasets.readers.formats import shown
from datasets.readers.image import name_of
from utils.errors import UserError


def check_dataset(
    places: Sequence[Place],
    *,
    names: tuple[str, ...] = (),
    patient_pattern: str | None = None,
    slicing: Slicing = AXIAL,
) -> Report:
    """Look at every image and mask; problems do not stop the check.

    Only a digest of each image is kept.

    Args:
        places: The splits.
        names: The config's names of the set, to recognise BMAD's.
        patient_pattern: Finds the patient in a file name, see
            :func:`datasets.patients.patient_of`; without one, PatientIDs of DICOM files are used.
        slicing: How volumes become images.
    """
    check = _Check(patient_pattern, slicing)
    for place in places:
        check.add(place)
    return check.report(names)


class _Check:
    """What is known so far; splits are added one after another."""

    def __init__(self, patient_pattern: str | None, slicing: Slicing) -> None:
        self._pattern = patient_pattern
        self._slicing = slicing
        self._folders: dict[Path, Place] = {}
        self._summaries: list[SplitSummary] = []
        self._findings: list[Finding] = []
        # Digest → where a picture was seen first.
        self._seen: dict[bytes, tuple[Place, Sample]] = {}
        # Patient and their name in messages → first file in each split.
        self._patients: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)

    def _note(self, kind: str, text: str) -> None:
        self._findings.append(Finding(kind, text))

    def add(self, place: Place) -> None:
        """Look at a split."""
        other = self._folders.setdefault(place.folder.resolve(), place)
        if other is not place:
            text = f"{place.key}: {shown(place.folder)} is also the {other.name} split; "
            self._note("leak", f"{text}each split needs its own folder")
            return
        try:
            split = inspect_split(
                place.folder,
                key=place.key,
                slicing=self._slicing,
                normal_only=place.name == "train",
            )
        except UserError as error:
            self._note("layout", str(error))
            return
        self._findings += [Finding("masks", problem) for problem in split.problems]
        self._findings += [Finding("unread", line) for line in split.unread]
        self._add_patients(place, split)
        summary = SplitSummary(place)
        self._summaries.append(summary)
        masks = split.normal_masks
        samples = [
            replace(each, mask=each.mask or masks.get(each.path) or masks.get(name_of(each.source)))
            for each in split.samples
        ]
        for sample, seen in zip(samples, scan(samples, observe, place.name), strict=True):
            summary.take(sample, seen)
            self._compare(place, sample, seen)
            self._findings += seen.findings
        summary.volumes = VolumeSummary.of(samples)
        self._findings += mask_grids(samples)
        self._sum_up(summary)

    def _compare(self, place: Place, sample: Sample, seen: Observation) -> None:
        if seen.digest is None:
            return
        where, first = self._seen.setdefault(seen.digest, (place, sample))
        if first is sample:
            return
        text = f"{shown(Path(sample.name))}: is the same picture as {shown(Path(first.name))}"
        if where is not place:
            self._note("leak", f"{text} in the {where.name} split; remove one")
        elif first.label != sample.label:
            self._note("label", f"{text}, which has the other label; remove one")
        else:
            self._note("duplicate", text)

    def _add_patients(self, place: Place, split: Split) -> None:
        if self._pattern is None:
            self._add_dicom_patients(place, split)
            return
        unmatched = []
        for sample in split.samples:
            try:
                patient = patient_of(sample.stem, self._pattern)
            except ValueError as error:
                unmatched.append(f"{shown(sample.path)}: {error}")
            else:
                key = (patient, f"patient {patient}")
                self._patients[key].setdefault(place.name, sample.path)
        if unmatched:
            more = f" (and {len(unmatched) - 1} more)" if len(unmatched) > 1 else ""
            self._note("patient_pattern", unmatched[0] + more)

    def _add_dicom_patients(self, place: Place, split: Split) -> None:
        sources = list(dict.fromkeys(sample.source for sample in split.samples))
        for source, patient in zip(sources, scan(sources, dicom_patient, "patients"), strict=True):
            if patient is not None:
                key = (patient, "the same PatientID")
                self._patients[key].setdefault(place.name, name_of(source))

    def _sum_up(self, summary: SplitSummary) -> None:
        name, kinds = summary.place.name, summary.kinds
        if len(kinds) > 1:
            rarer = kinds[True] <= kinds[False]
            text = f"{name}: {kinds[rarer]} of {kinds.total()} images are "
            text += f"{'coloured' if rarer else 'grey'}, such as "
            text += shown(summary.examples["coloured", rarer])
            self._note("colour", text)
        if summary.alpha:
            text = f"{name}: {summary.alpha} images have transparency, which is dropped"
            self._note("alpha", text)
        if name != "train" and not summary.normal:
            wanted = "the threshold is learnt from them" if name == "valid" else "metrics need them"
            self._note("no_normal", f"{name}: contains no normal images; {wanted}")
        if len(summary.mask_levels) > 2:
            levels = ", ".join(f"{level:g}" for level in sorted(summary.mask_levels))
            text = f"{name}: masks contain {levels}; everything above 0 counts as anomalous"
            self._note("mask_levels", text)

    def _compare_depths(self) -> None:
        counts = {True: sum(each.deep for each in self._summaries)}
        counts[False] = sum(each.sizes.total() for each in self._summaries) - counts[True]
        if min(counts.values()) == 0:
            return
        rarer = counts[True] <= counts[False]
        example = next(
            each.examples["deep", rarer]
            for each in self._summaries
            if ("deep", rarer) in each.examples
        )
        more = "more than " * rarer
        self._note(
            "depth",
            f"{counts[rarer]} of {sum(counts.values())} images have {more}8 bits (such as "
            f"{shown(example)}): those with more go through INTENSITY_WINDOW, the others do not; "
            "store all at the same depth",
        )

    def report(self, names: tuple[str, ...]) -> Report:
        """Compare the splits with one another and with BMAD's."""
        if self._pattern is None and len(self._patients) == 1:
            # A single PatientID in all files, as anonymisers write it, means nothing.
            self._patients.clear()
        for (_, patient), files in self._patients.items():
            if len(files) > 1:
                places = ", ".join(f"{name} ({shown(path)})" for name, path in files.items())
                self._note("patient_overlap", f"{patient} is in {places}")
        self._compare_depths()
        volumes = {each.place.name: each.volumes for each in self._summaries}
        self._findings += differences(volumes)
        counts = {each.place.name: each.counts for each in self._summaries}
        dataset = bmad.recognise(names, counts)
        known = bmad.SPLITS[dataset] if dataset else {}
        for summary in self._summaries:
            summary.expected = expected = known.get(summary.place.name)
            if expected and expected != summary.counts:
                text = "{}: {} normal and {} anomalous images, but BMAD has {} and {}: metrics "
                text = text.format(summary.place.name, *summary.counts, *expected)
                self._note("counts", text + "will not be comparable")
        return Report(dataset, self._summaries, self._findings, bool(self._patients))
