"""Which mask belongs to which image of a class folder."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datasets.folders.layouts import ClassFolder, files_below, list_images
from datasets.folders.series_samples import with_series
from datasets.readers.formats import KINDS, kind_of, shown, stem_of
from datasets.readers.image import Source, name_of
from datasets.volumes.planes import read_header
from datasets.volumes.series import Series


def paired_masks(
    folder: ClassFolder, images: Sequence[Source], problems: list[str]
) -> dict[Path, Source]:
    """Image → mask of a class folder; problems are appended to ``problems``.

    Images are named by their files or their series' names; masks of single slices of a series by
    the slices' files.
    """
    masks = defaultdict[str, list[Source]](list)
    volumes, single = by_stem(images), by_stem(_slice_files(images))
    for mask in _mask_sources(folder.masks, problems) if folder.masks else []:
        stem = stem_of(name_of(mask))
        # MVTec's masks are called 000_mask.png.
        known = stem in volumes or stem in single
        masks[stem if known else stem.removesuffix("_mask")].append(mask)
    paired: dict[Path, Source] = {}
    for stem, (first, *others) in masks.items():
        whole = isinstance(first, Series) or kind_of(first) == "nifti"
        owners = volumes.get(stem, []) if whole else []
        owners = owners or single.get(stem, []) or volumes.get(stem, [])
        paired |= {name_of(owner): _placed(first, owner) for owner in owners}
        if fault := _fault(folder, stem, owners, others) or _without_place(paired, owners):
            problems.append(f"{shown(name_of(first))}: {fault}")
    return paired


def _fault(
    folder: ClassFolder, stem: str, owners: Sequence[Source], others: Sequence[Source]
) -> str:
    """What is wrong with a mask, or ""."""
    if not owners:
        return (
            f"this mask has no image; add one named {shown(Path(stem))}.* to "
            f"{shown(folder.images)}, or remove the mask"
        )
    if others:
        return f"{shown(name_of(others[0]))} is also a mask of this image; remove one of them"
    if len(owners) > 1:
        first, second = (shown(name_of(each)) for each in owners[:2])
        return f"could belong to {first} or to {second}; rename one of the images"
    return ""


def _mask_sources(folder: Path, problems: list[str]) -> list[Source]:
    """Mask files, and the DICOM series in folders below; files beside one another stay apart."""
    without_order: list[tuple[Path, str]] = []
    series = with_series(files_below(folder), without_order, masks=True)
    problems += (f"{shown(path)}: {problem}" for path, problem in without_order)
    return [
        *list_images(folder, KINDS, tell=False),
        *(each for each in series if isinstance(each, Series)),
    ]


def _slice_files(images: Iterable[Source]) -> list[Path]:
    """Files that are one slice of a series each."""
    series = (each for each in images if isinstance(each, Series))
    return [plane.path for each in series for plane in each.planes if plane.frame is None]


def _placed(mask: Source, image: Source) -> Source:
    """A DICOM file as the series of its frames, if it is the mask of a volume."""
    volume = isinstance(image, Series) or kind_of(image) == "nifti"
    if volume and isinstance(mask, Path) and kind_of(mask) == "dicom":
        header = read_header(mask)
        if header.planes:
            return Series(header.series, header.patient, header.planes, name=mask)
    return mask


def _without_place(masks: Mapping[Path, Source], owners: Sequence[Source]) -> str:
    """What is wrong with the mask of a whole series that has no position, or ""."""
    for owner in owners:
        mask = masks[name_of(owner)]
        if isinstance(owner, Series) and isinstance(mask, Path) and kind_of(mask) != "nifti":
            return (
                f"has no position in the series {shown(owner.name)}; use a NIfTI file, a DICOM "
                "SEG, or one mask per slice, named like the slice's file"
            )
    return ""


def by_stem(sources: Iterable[Source]) -> dict[str, list[Source]]:
    """Sources by their stems, which masks and images share."""
    stems: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        stems[stem_of(name_of(source))].append(source)
    return stems
