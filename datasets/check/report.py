"""What a check of a data set found: its parts, a table for the screen, and JSON."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

from datasets.check import bmad
from datasets.check.observation import Finding, Observation, Severity
from datasets.check.volumes import VolumeSummary
from datasets.folders.samples import ANOMALOUS, Sample
from datasets.folders.splits import Place
from datasets.readers.formats import shown

_SHOWN = 5
_HEADINGS: dict[Severity, str] = {
    "error": "must be fixed",
    "warning": "worth a look",
    "note": "good to know",
}
_COLUMNS = ("split", "normal", "anomalous", "volumes", "masks", "size", "in BMAD", "folder")


@dataclass
class SplitSummary:
    """The counts of one split."""

    place: Place
    normal: int = 0
    anomalous: int = 0
    masks: int = 0  # images with a mask
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (height, width) → images
    mask_levels: set[float] = field(default_factory=set)  # values that occur in masks
    kinds: Counter[bool] = field(default_factory=Counter)  # coloured (True) and grey images
    # The first of each, and the first of each depth.
    examples: dict[tuple[str, bool], Path] = field(default_factory=dict)
    alpha: int = 0  # images with transparency
    deep: int = 0  # images that may have more than 8 bits
    # The volumes that images are slices of.
    volumes: VolumeSummary = field(default_factory=VolumeSummary)
    # BMAD's numbers of (normal, anomalous) images, None if it is not a set of BMAD.
    expected: bmad.Counts | None = None

    @property
    def counts(self) -> bmad.Counts:
        """Normal and anomalous images."""
        return self.normal, self.anomalous

    def take(self, sample: Sample, seen: Observation) -> None:
        """Count an image."""
        self.anomalous += sample.label == ANOMALOUS
        self.normal += sample.label != ANOMALOUS
        if seen.size is None:
            return
        self.masks += sample.mask is not None
        self.sizes[seen.size] += 1
        self.kinds[seen.coloured] += 1
        for kind in (("coloured", seen.coloured), ("deep", seen.deep)):
            self.examples.setdefault(kind, Path(sample.name))
        self.alpha += seen.alpha
        self.deep += seen.deep
        self.mask_levels.update(seen.mask_levels)


@dataclass
class Report:
    """What a check found."""

    dataset: str | None  # name of the set in BMAD, None for others
    splits: list[SplitSummary]  # one summary per split that has images
    findings: list[Finding]  # in the order in which they were found
    patients_known: bool  # whether patients were known and compared between splits

    @property
    def clean(self) -> bool:
        """Whether nothing must be fixed."""
        return not any(finding.severity == "error" for finding in self.findings)


def as_text(report: Report) -> str:
    """A table of the splits, then the first few findings of each kind."""
    rows = [_COLUMNS, *(_row(summary) for summary in report.splits)]
    left_out = {"in BMAD"} if report.dataset is None else set()
    if not any(summary.volumes.slices for summary in report.splits):
        left_out.add("volumes")
    kept = [name not in left_out for name in _COLUMNS]
    rows = [tuple(compress(row, kept)) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [f"{report.dataset} of BMAD", ""] if report.dataset else []
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    for severity, heading in _HEADINGS.items():
        found = [finding for finding in report.findings if finding.severity == severity]
        if found:
            lines += ["", f"{heading} ({len(found)})", *_grouped(found)]
    verdict = "clean" if report.clean else "not clean: see above"
    if not report.patients_known:
        verdict += " (patients were not compared between splits: use --patient-pattern)"
    return "\n".join([*lines, "", verdict])


def _row(summary: SplitSummary) -> tuple[str, ...]:
    expected = summary.expected
    return (
        summary.place.name,
        str(summary.normal),
        str(summary.anomalous),
        _volumes(summary),
        str(summary.masks or "-"),
        _size(summary),
        f"{expected[0]} + {expected[1]}" if expected else "-",
        shown(summary.place.folder),
    )


def _volumes(summary: SplitSummary) -> str:
    slices = summary.volumes.slices
    return f"{len(slices)} ({slices.total()} slices)" if slices else "-"


def _size(summary: SplitSummary) -> str:
    if not summary.sizes:
        return "-"
    (height, width), _ = summary.sizes.most_common(1)[0]
    others = len(summary.sizes) - 1
    return f"{width} × {height}" + (f" and {others} more" if others else "")


def _grouped(findings: list[Finding]) -> list[str]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        kinds[finding.kind].append(finding.text)
    lines = []
    for kind, texts in kinds.items():
        lines += [f"  {kind}: {text}" for text in texts[:_SHOWN]]
        if len(texts) > _SHOWN:
            lines.append(f"  {kind}: and {len(texts) - _SHOWN} more; --json FILE lists all")
    return lines


def as_json(report: Report) -> dict[str, Any]:
    """Everything found, with stable names."""
    return {
        "clean": report.clean,
        "dataset": report.dataset,
        "splits": [_split_as_json(summary) for summary in report.splits],
        "findings": [
            {"severity": finding.severity, "kind": finding.kind, "text": finding.text}
            for finding in report.findings
        ],
    }


def _split_as_json(summary: SplitSummary) -> dict[str, Any]:
    return {
        "name": summary.place.name,
        "folder": str(summary.place.folder),
        "num_normal": summary.normal,
        "num_anomalous": summary.anomalous,
        "num_masks": summary.masks,
        "num_coloured": summary.kinds[True],
        "num_with_alpha": summary.alpha,
        "sizes": {f"{w}x{h}": count for (h, w), count in summary.sizes.most_common()},
        "mask_levels": sorted(summary.mask_levels),
        "num_volumes": len(summary.volumes.slices),
        "num_slices": summary.volumes.slices.total(),
        "volume_grids": summary.volumes.counts("grid"),
        "volume_spacings": summary.volumes.counts("spacing"),
        "volume_orientations": summary.volumes.counts("orientation"),
        "in_bmad": summary.expected,
    }
