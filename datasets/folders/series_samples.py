"""Groups DICOM files of a folder into volumes, where two or more belong together."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets.folders.layouts import files_below, list_images
from datasets.folders.scan import progress
from datasets.readers.formats import KINDS, kind_of, shown
from datasets.readers.image import Source
from datasets.volumes.series import Series, group_series

logger = logging.getLogger(__name__)


def with_series(
    paths: Sequence[Path], problems: list[tuple[Path, str]], *, masks: bool = False
) -> list[Source]:
    """Files in their order; a DICOM series takes the place of its first file.

    Warnings name what is unusual about a series. Each header is read once.

    Args:
        paths: Files of any kind.
        problems: Receives series that cannot be put in order, with a line each; their files stay.
        masks: Whether they are masks; otherwise DICOM objects that are not images, such as a SEG
            beside its series, are skipped with a warning.
    """
    dicom = [path for path in paths if kind_of(path) == "dicom"]
    with progress(dicom, "reading DICOM headers", "file") as bar:
        grouped = group_series(bar, masks=masks)
    problems += grouped.problems
    placed = {series.uid for series in grouped.series}
    for uid, files in grouped.unplaced.items():
        first = next(iter(files))
        # A single picture may be an X-ray; several are slices or views.
        if files[first] > 1 or len(files) > 1 or uid in placed:
            logger.warning(
                "%s: no position: %s (such as %s); reading them as separate images",
                shown(first.parent),
                _count(uid, files),
                shown(first),
            )
    if scattered := grouped.scattered:
        logger.warning(
            "%s: %d parallel slices (such as %s) each have their own SeriesInstanceUID; reading "
            "them as separate images",
            shown(scattered[0].parent),
            len(scattered),
            shown(scattered[0]),
        )
    series_of: dict[Path, list[Series]] = {path: [] for path in grouped.copies}
    for series in grouped.series:
        for finding in series.findings:
            logger.warning("%s: %s", shown(series.name), finding)
        for path in files_of(series):
            series_of.setdefault(path, []).append(series)
    for path, kind in grouped.no_images.items():
        logger.warning("%s: is %s, not an image; skipping it", shown(path), kind)
        series_of[path] = []
    found: dict[Source, None] = {}
    for path in paths:
        found |= dict.fromkeys(series_of.get(path, [path]))
    return list(found)


def _count(uid: str, files: Mapping[Path, int]) -> str:
    if not uid:
        return f"{len(files)} file{'s' * (len(files) > 1)} without a SeriesInstanceUID"
    if len(files) > 1:
        return f"{len(files)} files of one series"
    (frames,) = files.values()
    return "1 file of a series" if frames == 1 else f"{frames} frames of one file"


def sources_of(folder: Path) -> list[Source]:
    """The images of a folder of a split: its files, and the DICOM series in folders below it.

    Warns of series that cannot be put in order; their files directly in the folder are pictures.
    """
    files = list_images(folder, KINDS, tell=False)
    problems: list[tuple[Path, str]] = []
    sources = with_series([*files, *files_below(folder)], problems)
    for path, problem in problems:
        logger.warning("%s: %s", shown(path), problem)
    directly = set(files)
    return [each for each in sources if isinstance(each, Series) or each in directly]


def files_of(source: Source) -> set[Path]:
    """The files of an image."""
    return {plane.path for plane in source.planes} if isinstance(source, Series) else {source}
