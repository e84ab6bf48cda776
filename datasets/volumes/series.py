"""DICOM files to stacks of parallel slices, by their positions in space, not by their names."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.readers.formats import shown, stem_of
from datasets.volumes.planes import KINDS, Plane, read_planes

# Slices this near to one another, in mm, lie at one position.
_SAME_POSITION = 0.01
# What rounding explains: of the distance of slices, of a pixel.
_EVEN, _STRAIGHT = 0.02, 0.1


@dataclass(frozen=True, eq=False)
class Series:
    """A stack of parallel slices: one volume.

    Attributes:
        uid: SeriesInstanceUID.
        patient: PatientID, "" where there is none.
        planes: Two or more, in the order of their positions along the normal; no two at one.
        findings: What is unusual, a line each: its kind, and where.
        name: What to call it: its folder or file, made longer where that holds several.
    """

    uid: str
    patient: str
    planes: tuple[Plane, ...]
    findings: tuple[str, ...] = ()
    name: Path = Path()

    @cached_property
    def heights(self) -> NDArray[np.float64]:
        """(N,) positions along the normal, mm, growing."""
        return np.array([plane.height for plane in self.planes])

    @cached_property
    def distance(self) -> float:
        """Between neighbours, mm: the median, which a missing slice does not move."""
        return float(np.median(np.diff(self.heights)))

    @cached_property
    def shifts(self) -> NDArray[np.float64]:
        """(N, 2) rows and columns that each slice lies off the normal through the first one."""
        first = self.planes[0]
        moved = np.array([plane.position for plane in self.planes]) - first.position
        along_columns, along_rows = (moved @ direction for direction in first.directions)
        return np.stack([along_rows / first.spacing[0], along_columns / first.spacing[1]], axis=1)

    @cached_property
    def straight(self) -> bool:
        """Whether the slices are the planes of a grid as they are."""
        gaps = np.diff(self.heights)
        even = np.abs(gaps - self.distance).max() <= _EVEN * self.distance
        return bool(even and np.abs(self.shifts).max() <= _STRAIGHT)

    def lies_on(self, other: Series) -> bool:
        """Whether its slices lie where those of another one do."""
        if len(self.planes) != len(other.planes):
            return False
        gaps = [
            np.linalg.norm(mine.position - its.position) if mine.lies_along(its) else np.inf
            for mine, its in zip(self.planes, other.planes, strict=True)
        ]
        return bool(max(gaps) < _SAME_POSITION)


@dataclass(frozen=True)
class Grouped:
    """What a number of DICOM files hold.

    Attributes:
        series: The volumes.
        pictures: Files that are slices of none, sorted.
        problems: Series whose slices lie at one position for no reason given in them, with a
            line each; their files are among the pictures.
        unplaced: By SeriesInstanceUID, files that say nothing of where they lie; all are among the
            pictures.
    """

    series: list[Series]
    pictures: list[Path]
    problems: list[tuple[Path, str]]
    unplaced: dict[str, list[Path]]


def group_series(paths: Iterable[Path]) -> Grouped:
    """DICOM files as volumes, grouped by SeriesInstanceUID, orientation and kind of slice.

    Args:
        paths: DICOM files. One whose header cannot be read is a picture: reading it says why.
    """
    found = Grouped([], [], [], defaultdict(list))
    by_series: dict[tuple[str, str], list[list[Plane]]] = defaultdict(list)
    for path in paths:
        series, planes = read_planes(path)
        if not planes:
            found.pictures.append(path)
            found.unplaced[series[0]].append(path)
        for plane in planes:
            stacks = by_series[series]
            stack = next((each for each in stacks if each[0].lies_along(plane)), None)
            if stack is None:
                stacks.append([plane])
            else:
                stack.append(plane)
    for (uid, patient), stacks in by_series.items():
        stacks.sort(key=len, reverse=True)
        first, *others = stacks
        # A single slice is no volume that could tell it: the first one does.
        alone = [stack[0] for stack in others if len(stack) == 1]
        notes = (
            [f"another orientation or grid: {_count(alone)}; scored as pictures"] if alone else []
        )
        _add_stack(found, uid, patient, first, notes)
        for stack in others:
            notes = [f"another orientation or grid: {_count(stack)}"]
            _add_stack(found, uid, patient, stack, notes)
    found.series[:] = list(_named(found.series))
    found.pictures[:] = sorted(set(found.pictures))
    return found


def _add_stack(
    found: Grouped, uid: str, patient: str, stack: Sequence[Plane], notes: list[str]
) -> None:
    kept: dict[tuple[str, int | None], Plane] = {}
    ordered = sorted(stack, key=lambda plane: plane.height)
    copies = [
        plane for plane in ordered if kept.setdefault((plane.uid, plane.frame), plane) is not plane
    ]
    planes = list(kept.values())
    if copies:
        notes = [*notes, f"doubled position: {_count(copies)} of the same picture, left out"]
    parts, kind = _told_apart(planes)
    if not parts:
        doubled = next(each for each in _by_position(planes) if len(each) > 1)
        text = (
            f"doubled position: {len(doubled)} slices lie at {doubled[0].height:.2f} mm, such as "
            f"{shown(doubled[0].path)} and {shown(doubled[1].path)}, and nothing in them tells "
            "which is of this volume; all are scored as pictures of their own"
        )
        found.problems.append((planes[0].path.parent, text))
        found.pictures.extend(plane.path for plane in planes)
        return
    for part in parts:
        if len(part) == 1:
            found.pictures.append(part[0].path)
            continue
        series = Series(uid, patient, tuple(part))
        findings = (*notes, *kind, *_irregularities(series))
        found.series.append(replace(series, findings=findings))


def _told_apart(planes: list[Plane]) -> tuple[list[list[Plane]], list[str]]:
    """Stacks without doubled positions and what tells them apart; no stack where nothing does."""
    most = max(len(each) for each in _by_position(planes))
    if most == 1:
        return [planes], []
    for tag, kind in KINDS.items():
        parts = defaultdict[str, list[Plane]](list)
        for plane in planes:
            parts[plane.kinds[tag]].append(plane)
        # As many as lie at one position: times may differ from slice to slice of one volume.
        if len(parts) == most and all(
            len(_by_position(part)) == len(part) for part in parts.values()
        ):
            return list(parts.values()), [f"{kind}: {most} volumes under one series"]
    return [], []


def _by_position(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Slices in the order of their heights, those of one position together."""
    places = [list(planes[:1])]
    for plane in planes[1:]:
        if plane.height - places[-1][-1].height < _SAME_POSITION:
            places[-1].append(plane)
        else:
            places.append([plane])
    return places


def _irregularities(series: Series) -> Iterator[str]:
    """What keeps a stack from being a grid: kind and position."""
    heights, distance = series.heights, series.distance
    gaps = np.diff(heights)
    odd = np.abs(gaps - distance) > _EVEN * distance
    whole = np.rint(gaps / distance)
    missing = odd & (whole > 1) & (np.abs(gaps - whole * distance) <= _EVEN * gaps)
    for index in np.flatnonzero(missing):
        count = int(whole[index]) - 1
        slices = "missing slice" if count == 1 else f"{count} missing slices"
        yield f"{slices}: between {heights[index]:.2f} and {heights[index + 1]:.2f} mm"
    uneven = gaps[odd & ~missing]
    if uneven.size:
        first = heights[np.flatnonzero(odd & ~missing)[0]]
        yield (
            f"uneven distances: {uneven.min():.3g} to {uneven.max():.3g} mm instead of "
            f"{distance:.3g}, from {first:.2f} mm on"
        )
    shifts = series.shifts * series.planes[0].spacing  # (N, 2) in mm
    if np.abs(series.shifts).max() > _STRAIGHT:
        lean = np.linalg.norm(shifts[-1] - shifts[0]) / (heights[-1] - heights[0])
        angle = math.degrees(math.atan(lean))
        yield f"gantry tilt: the stack leans by {angle:.1f} degrees, from {heights[0]:.2f} mm on"


def _named(series: Sequence[Series]) -> Iterator[Series]:
    """Called by their folders; where one holds several, by their first files."""
    folders = [_folder_of(each) for each in series]
    names = Counter[Path]()
    for each, folder in zip(series, folders, strict=True):
        first = min(plane.path for plane in each.planes)
        name = folder if folders.count(folder) == 1 else first.parent / stem_of(first)
        names[name] += 1
        number = names[name]
        yield replace(each, name=name.with_name(f"{name.name}-{number}") if number > 1 else name)


def _folder_of(series: Series) -> Path:
    """The folder of all its files, or its file where there is one."""
    paths = {plane.path for plane in series.planes}
    return paths.pop() if len(paths) == 1 else Path(os.path.commonpath(p.parent for p in paths))


def _count(planes: Sequence[Plane]) -> str:
    example = shown(planes[0].path)
    many = "1 slice" if len(planes) == 1 else f"{len(planes)} slices"
    return f"{many} at {planes[0].height:.2f} mm and on, such as {example}"
