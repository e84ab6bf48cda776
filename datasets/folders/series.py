"""DICOM files of a folder as volumes, where two or more of them are one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from datasets.folders.layouts import files_below, list_images, tell_once
from datasets.readers.formats import KINDS, kind_of, shown
from datasets.readers.image import Source
from datasets.volumes.series import Series, group_series


def with_series(
    paths: Sequence[Path], problems: list[tuple[Path, str]], *, masks: bool = False
) -> list[Source]:
    """Files in their order, those of a DICOM series as one, where its first file stands.

    What is unusual about a series is told once. Each header is read once.

    Args:
        paths: Files of any kind.
        problems: Takes series that cannot be put in order, with a line each; their files stay.
        masks: Whether they are masks; else DICOM SEG objects, which lie beside their series, are
            told and left out.
    """
    dicom = [path for path in paths if kind_of(path) == "dicom"]
    with tqdm(
        dicom, "reading DICOM headers", unit="file", leave=False, delay=2, disable=None
    ) as bar:
        grouped = group_series(bar)
    problems += grouped.problems
    placed = {series.uid for series in grouped.series}
    for uid, files in grouped.unplaced.items():
        # One file alone may be an X-ray, several of one series are slices or views.
        if uid and (len(files) > 1 or uid in placed):
            count = "1 file of a" if len(files) == 1 else f"{len(files)} files of one"
            tell_once(
                f"{shown(files[0].parent)}: no position: {count} series, such as "
                f"{shown(files[0])}, say nothing of where they lie; read as pictures"
            )
    series_of: dict[Path, list[Series]] = {path: [] for path in grouped.copies}
    for series in grouped.series:
        for finding in series.findings:
            tell_once(f"{shown(series.name)}: {finding}")
        for path in files_of(series):
            series_of.setdefault(path, []).append(series)
    if not masks:
        for path in grouped.segmentations:
            tell_once(f"{shown(path)}: is a segmentation, no image: left out")
            series_of[path] = []
    found: dict[Source, None] = {}
    for path in paths:
        found |= dict.fromkeys(series_of.get(path, [path]))
    return list(found)


def sources_of(folder: Path) -> list[Source]:
    """The images of a folder of a split: its files, and the DICOM series in folders below it.

    Series that cannot be put in order are told; their files directly in the folder are pictures.

    Raises:
        UserError: A folder cannot be listed.
    """
    files = list_images(folder, KINDS, tell=False)
    problems: list[tuple[Path, str]] = []
    sources = with_series([*files, *files_below(folder)], problems)
    for path, problem in problems:
        tell_once(f"{shown(path)}: {problem}")
    directly = set(files)
    return [each for each in sources if isinstance(each, Series) or each in directly]


def files_of(source: Source) -> set[Path]:
    """The files that are read of an image."""
    return {plane.path for plane in source.planes} if isinstance(source, Series) else {source}
