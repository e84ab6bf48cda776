"""DICOM files to stacks of parallel slices, by their positions in space, not by their names."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.readers.formats import absolute, shown, stem_of
from datasets.volumes.planes import KINDS, OF_WHOLE_VOLUMES, SAME_POSITION, Plane, read_header

_EVEN, _STRAIGHT = 0.02, 0.1  # tolerances for rounding: share of the slices' distance, of a pixel
_MOST_PLANES = 20  # of the grid, per slice; with more, the positions are wrong
_OTHER_GRID = "different orientation or grid"
_ROW = 3  # this many parallel slices, each with its own series, look like one volume
# Its file is read as the volume of the others.
_NOT_SCORED = (
    "frame {} at {:.2f} mm belongs to no volume although other frames of this file do; it is not "
    "scored"
)


@dataclass(frozen=True, eq=False)
class Series:
    """A stack of parallel slices: one volume."""

    uid: str  # SeriesInstanceUID
    patient: str  # PatientID, "" if there is none
    # Two or more, in the order of their positions along the normal; no two at one.
    planes: tuple[Plane, ...]
    findings: tuple[str, ...] = ()  # what is unusual, a line each: its kind, and where
    name: Path = Path()  # its folder or file, with a suffix if that contains several

    @cached_property
    def heights(self) -> NDArray[np.float64]:
        """(N,) positions along the normal, mm, growing."""
        return np.array([plane.height for plane in self.planes])

    @cached_property
    def distance(self) -> float:
        """Between neighbours, mm: the mean, missing slices counted; of an uneven stack the median.

        Positions are often rounded, and with a median the error would add up over many slices.
        """
        gaps = np.diff(self.heights)
        median = np.median(gaps)
        steps = np.rint(gaps / median)
        regular = steps.all() and (np.abs(gaps - steps * median) <= _EVEN * gaps).all()
        return float(gaps.sum() / steps.sum() if regular else median)

    @cached_property
    def steps(self) -> NDArray[np.float64]:
        """(N - 1,) number of distances between neighbours: 1, or more if slices are missing."""
        return np.rint(np.diff(self.heights) / self.distance)

    @cached_property
    def even(self) -> bool:
        """Whether each slice is on a plane of the grid, within rounding."""
        planes = self.heights[0] + self.distance * np.cumsum([0, *self.steps])
        return bool(np.abs(self.heights - planes).max() <= _EVEN * self.distance)

    @cached_property
    def shifts(self) -> NDArray[np.float64]:
        """(N, 2) rows and columns by which each slice is off the normal through the first one."""
        first = self.planes[0]
        moved = np.array([plane.position for plane in self.planes]) - first.position
        along_columns, along_rows = (moved @ direction for direction in first.directions)
        return np.stack([along_rows / first.spacing[0], along_columns / first.spacing[1]], axis=1)

    @cached_property
    def straight(self) -> bool:
        """Whether the slices are the planes of a grid as they are."""
        leans = np.abs(self.shifts).max() > _STRAIGHT
        return bool(self.even and (self.steps == 1).all() and not leans)


@dataclass(frozen=True)
class Grouped:
    """Volumes in a number of DICOM files, and what is left over."""

    series: list[Series]
    problems: list[tuple[Path, str]]  # why slices are in no volume, and where
    # SeriesInstanceUID → files without a position → number of their pictures.
    unplaced: dict[str, dict[Path, int]]
    copies: set[Path]  # files of pictures that are read from another file
    scattered: list[Path]  # parallel slices that each have their own series
    no_images: dict[Path, str]  # files that contain something else, and what


def group_series(paths: Iterable[Path], *, masks: bool = False) -> Grouped:
    """DICOM files as volumes, grouped by SeriesInstanceUID, orientation and kind of slice.

    Files that belong to no volume are pictures. A DICOM SEG object is only a volume among masks.
    """
    found = Grouped([], [], defaultdict(dict), set(), [], {})
    alone: list[Plane] = []
    by_series = defaultdict[tuple[str, str], list[Plane]](list)
    for path in paths:
        header = read_header(path)
        if header.other and not masks:
            found.no_images[path] = header.other
            continue
        if header.planes:
            by_series[header.series, header.patient] += header.planes
        elif header.num_frames:
            found.unplaced[header.series][path] = header.num_frames
    for (uid, patient), planes in by_series.items():
        first, *others = _parallel(planes)
        # A single slice is not a volume with findings, so the first volume reports it.
        single = [stack[0] for stack in others if len(stack) == 1 and stack[0].frame is None]
        notes = [f"{_OTHER_GRID}: {_count(single)}; scored as separate images"] if single else []
        alone += _add_stack(found, uid, patient, first, notes)
        for stack in others:
            notes = [f"{_OTHER_GRID}: {_count(stack)}"]
            alone += _add_stack(found, uid, patient, stack, notes)
    found.scattered.extend(_scattered(by_series.values()))
    in_volumes = {plane.path for each in found.series for plane in each.planes}
    found.problems.extend(
        (plane.path, _NOT_SCORED.format(plane.frame, plane.height))
        for plane in alone
        if plane.path in in_volumes
    )
    found.series[:] = list(_named(found.series))
    return found


def _parallel(planes: Iterable[Plane]) -> list[list[Plane]]:
    """Groups of parallel slices, the largest first."""
    stacks: list[list[Plane]] = []
    for plane in planes:
        stack = next((each for each in stacks if each[0].lies_along(plane)), None)
        if stack is None:
            stacks.append([plane])
        else:
            stack.append(plane)
    return sorted(stacks, key=len, reverse=True)


def _scattered(by_series: Iterable[Sequence[Plane]]) -> Iterator[Path]:
    """Parallel slices in a row in one folder, which look like one volume."""
    folders = defaultdict[Path, list[Plane]](list)
    for planes in by_series:
        if len(planes) == 1:
            folders[planes[0].path.parent] += planes
    for stack in chain.from_iterable(map(_parallel, folders.values())):
        ordered = sorted(stack, key=lambda plane: plane.height)
        if len(_by_position(ordered)) == len(ordered) >= _ROW:
            yield from (plane.path for plane in ordered)


def _add_stack(
    found: Grouped, uid: str, patient: str, stack: Sequence[Plane], notes: list[str]
) -> list[Plane]:
    """Add the volumes of a stack; returns its slices that belong to none."""
    kept: dict[object, Plane] = {}
    ordered = sorted(stack, key=lambda plane: plane.height)
    # Some programs use one SOPInstanceUID for all slices: a copy has the same position too.
    copies = [
        plane
        for plane in ordered
        if kept.setdefault((plane.uid, plane.frame, *plane.position), plane) is not plane
    ]
    planes = list(kept.values())
    if copies:
        notes = [*notes, f"duplicates: skipping copies of {_count(copies)}"]
        found.copies.update(plane.path for plane in copies)
    parts, kind = _told_apart(planes)
    if not parts:
        doubled = next(each for each in _by_position(planes) if len(each) > 1)
        text = (
            f"same position: {len(doubled)} slices are at {doubled[0].height:.2f} mm, such as "
            f"{shown(doubled[0].path)} and {shown(doubled[1].path)}, and nothing in them says "
            "which belongs to this volume; all slices are scored as separate images"
        )
        found.problems.append((planes[0].path.parent, text))
        return planes
    alone = []
    for part in parts:
        series = Series(uid, patient, tuple(part))
        if len(part) == 1:
            alone += part
        elif np.ptp(series.heights) / series.distance > _MOST_PLANES * len(part):
            text = (
                f"wrong positions: {len(part)} slices, {series.distance:.3g} mm apart, reach from "
                f"{part[0].height:.2f} to {part[-1].height:.2f} mm; all are scored as separate "
                "images"
            )
            found.problems.append((part[0].path.parent, text))
            alone += part
        else:
            findings = (*notes, *kind, *_irregularities(series))
            found.series.append(replace(series, findings=findings))
    return alone


def _told_apart(planes: list[Plane]) -> tuple[list[list[Plane]], list[str]]:
    """Stacks without double positions, and what distinguishes them; no stacks if nothing does."""
    most = max(len(each) for each in _by_position(planes))
    for tag, kind in KINDS.items():
        parts = defaultdict[str, list[Plane]](list)
        for plane in planes:
            parts[plane.kinds[tag]].append(plane)
        sizes = {len(part) for part in parts.values()}
        # As many as are at one position: times may differ between slices of one volume.
        beside = most > 1 and len(parts) == most
        # Volumes with interleaved slices.
        between = (
            most == 1 and tag in OF_WHOLE_VOLUMES and len(sizes) == 1 < min(len(parts), *sizes)
        )
        if (beside or between) and all(
            len(_by_position(part)) == len(part) for part in parts.values()
        ):
            start = f"from {planes[0].height:.2f} mm on"
            return list(parts.values()), [f"{kind}: {len(parts)} volumes in one series, {start}"]
    return ([planes], []) if most == 1 else ([], [])


def _by_position(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Slices in the order of their heights, those at one position together."""
    places = [list(planes[:1])]
    for plane in planes[1:]:
        if plane.height - places[-1][-1].height < SAME_POSITION:
            places[-1].append(plane)
        else:
            places.append([plane])
    return places


def _irregularities(series: Series) -> Iterator[str]:
    """What keeps a stack from being a grid: kind and position."""
    heights, distance, steps = series.heights, series.distance, series.steps
    gaps = np.diff(heights)
    missing = (steps > 1) & (np.abs(gaps - steps * distance) <= _EVEN * gaps)
    for index in np.flatnonzero(missing):
        count = int(steps[index]) - 1
        slices = "missing slice" if count == 1 else f"{count} missing slices"
        yield f"{slices}: between {heights[index]:.2f} and {heights[index + 1]:.2f} mm"
    if not series.even:
        odd = ~missing & (np.abs(gaps - distance) > _EVEN * distance)
        # Distances that grow gradually are all within the limit.
        odd = odd if odd.any() else ~missing
        first = heights[np.flatnonzero(odd)[0]]
        ends = dict.fromkeys(f"{gap:.3g}" for gap in (gaps[odd].min(), gaps[odd].max()))
        yield (
            f"uneven distances: {' to '.join(ends)} mm instead of {distance:.3g}, "
            f"from {first:.2f} mm on"
        )
    if np.abs(series.shifts).max() > _STRAIGHT:
        yield _aside(series)


def _aside(series: Series) -> str:
    """How slices are off the normal through the first one."""
    heights = series.heights - series.heights[0]
    leaning = np.outer(heights / heights[-1], series.shifts[-1])
    distances = np.linalg.norm(series.shifts * series.planes[0].spacing, axis=1)  # mm
    if np.abs(series.shifts - leaning).max() > _STRAIGHT:
        moved = np.flatnonzero(np.abs(series.shifts).max(axis=1) > _STRAIGHT)[0]
        start = series.heights[moved]
        return f"shifted slices: up to {distances.max():.3g} mm sideways, from {start:.2f} mm on"
    angle, start = math.degrees(math.atan(distances[-1] / heights[-1])), series.heights[0]
    return f"gantry tilt: the stack leans by {angle:.1f} degrees, from {start:.2f} mm on"


def _named(series: Sequence[Series]) -> Iterator[Series]:
    """Named after their folders, or after their first files if a folder has several."""
    folders = [_folder_of(each) for each in series]
    names = Counter[Path]()
    for each, folder in zip(series, folders, strict=True):
        first = min(plane.path for plane in each.planes)
        name = folder if folders.count(folder) == 1 else first.parent / stem_of(first)
        names[name] += 1
        number = names[name]
        yield replace(each, name=name.with_name(f"{name.name}-{number}") if number > 1 else name)


def _folder_of(series: Series) -> Path:
    """The folder of all its files, or its file if there is only one."""
    paths = {plane.path for plane in series.planes}
    folders = {path.parent for path in paths}
    if len(folders) == 1:
        return paths.pop() if len(paths) == 1 else folders.pop()
    # Paths of one series may be relative, absolute, or with "..".
    common = os.path.commonpath(map(absolute, folders))
    given = any(folder.is_absolute() for folder in folders)
    return Path(common if given else os.path.relpath(common))


def _count(planes: Sequence[Plane]) -> str:
    example = shown(planes[0].path)
    many = "1 slice" if len(planes) == 1 else f"{len(planes)} slices"
    return f"{many}, from {planes[0].height:.2f} mm on, such as {example}"
