"""Liver slices (BMAD's BTCV + LiTS) centred on black and smoothed, their masks moved along.

The liver fills a small part of a slice. What is not zero is cut out and put into the middle of
224 × 224 pixels of black; images are then smoothed by a bilateral filter. Masks go through the
geometry of their image, so that a marked lesion stays where it shows.
"""

import io
import warnings
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from datasets.folders.find import VALIDATION_NAMES
from datasets.folders.layouts import MASK_FOLDERS, list_images, walk_folders
from datasets.readers.formats import IMAGE_SUFFIXES
from utils.errors import UserError
from utils.files import write_atomically

# Masks keep their depth (8 or 16 bits); images are always 8-bit grey.
Grey = npt.NDArray[Any]

SIDE = 224
_FILTER_DIAMETER, _FILTER_SIGMA = 9, 75


def preprocess_liver_dataset(source: Path, destination: Path, *, debug: int | None = None) -> int:
    """Preprocess every image and mask below a folder into another of the same layout.

    Folders keep their names, but for ``valid`` in any of its spellings, which becomes ``val``.
    Files keep their stems and are written as PNG. Files of the same name in ``destination`` are
    replaced, each in one step; nothing is ever deleted there, so a run that was interrupted or
    cut by ``debug`` is completed by running again.

    Args:
        source: Data set in BMAD's layout, which stays as it is.
        destination: Folder to write to, outside ``source``; created if missing.
        debug: Take only the first N images of each folder; None for all.

    Returns:
        Number of images written.

    Raises:
        UserError: A folder or a file cannot be used. Problems that show without decoding images
            are found before anything is written.
    """
    _check_folders(source, destination)
    slices = _find_slices(source)
    _check_targets(slices, source)
    folders = groupby(slices, key=lambda path: path.parent)
    chosen = [path for _, members in folders for path in islice(members, debug)]
    for path in tqdm(chosen, desc="liver", unit="image", disable=None):
        image, mask = _read_grey(path), slices[path]
        _write_png(destination / _target(path, source), preprocess_image(image))
        if mask is not None:
            moved = preprocess_mask(_read_mask(mask, path, image.shape), image)
            _write_png(destination / _target(mask, source), moved)
    return len(chosen)


def preprocess_image(image: Grey) -> Grey:
    """Centre what is not zero on 224 × 224 pixels of black, then smooth; (H, W) uint8."""
    centred = _centre(image, image, cv2.INTER_LINEAR)
    return np.asarray(cv2.bilateralFilter(centred, _FILTER_DIAMETER, _FILTER_SIGMA, _FILTER_SIGMA))


def preprocess_mask(mask: Grey, image: Grey) -> Grey:
    """Move a mask, (H, W), as :func:`preprocess_image` moves its image; its grey levels stay."""
    # NEAREST_EXACT samples at pixel centres, as the bilinear resizing of the image does.
    return _centre(mask, image, cv2.INTER_NEAREST_EXACT)


def _centre(picture: Grey, image: Grey, interpolation: int) -> Grey:
    """The part of a picture where its image is not zero, in the middle of (224, 224)."""
    canvas = np.zeros((SIDE, SIDE), picture.dtype)
    left, top, width, height = cv2.boundingRect(image)
    if not width:
        return canvas
    cut = _shrink(picture[top : top + height, left : left + width], interpolation)
    height, width = cut.shape
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = cut
    return canvas


def _shrink(picture: Grey, interpolation: int) -> Grey:
    longest = max(picture.shape)
    if longest <= SIDE:
        return picture
    height, width = (max(1, round(side * SIDE / longest)) for side in picture.shape)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation))


def _read_grey(path: Path, flags: int = cv2.IMREAD_GRAYSCALE) -> Grey:
    """(H, W) as OpenCV's ``imread`` gives it, by default of 8 bits."""
    try:
        encoded = path.read_bytes()
        # OpenCV may return the upper part of a truncated file, and prints its own complaints;
        # Pillow raises, so it goes first.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded)) as image:
            image.load()
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, cv2.error):
        decoded = None
    if decoded is None or decoded.size == 0:
        raise UserError(
            f"{path}: is empty, damaged or not an image; download it again or delete it"
        )
    return np.asarray(decoded)


def _read_mask(path: Path, image: Path, shape: tuple[int, ...]) -> Grey:
    mask = _read_grey(path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if mask.shape != shape:
        found, wanted = ("{1}×{0}".format(*each) for each in (mask.shape, shape))
        raise UserError(
            f"{path}: is {found} pixels but its image {image} is {wanted}; "
            "replace it by the mask that belongs to the image"
        )
    return mask


def _check_folders(source: Path, destination: Path) -> None:
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; pass the unpacked data set as --input")
    if destination.exists() and not destination.is_dir():
        raise UserError(f"{destination}: is a file; pass a folder as --output")
    if destination.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{destination}: is inside the input folder; choose another --output")


def _find_slices(source: Path) -> dict[Path, Path | None]:
    """All images below a folder, sorted by path, with the mask of each."""
    files = [path for folder in walk_folders(source) for path in list_images(folder)]
    masks: dict[tuple[Path, str], Path] = {}
    for path in files:
        if path.parent.name in MASK_FOLDERS:
            other = masks.setdefault(_slice_key(path), path)
            if other != path:
                raise UserError(f"{path}: {other} is also a mask of this image; remove one of them")
    images = [path for path in files if path.parent.name not in MASK_FOLDERS]
    if not images:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise UserError(
            f"{source}: contains no images ({kinds}); pass the unpacked data set as --input"
        )
    slices = {path: masks.pop(_slice_key(path), None) for path in images}
    for mask in masks.values():
        raise UserError(
            f"{mask}: this mask has no image of the same name; add the image or delete the mask"
        )
    return slices


def _slice_key(path: Path) -> tuple[Path, str]:
    """Class folder and stem, which an image shares with its mask."""
    nested = path.parent.name == "img" or path.parent.name in MASK_FOLDERS
    return path.parent.parent if nested else path.parent, path.stem


def _check_targets(slices: dict[Path, Path | None], source: Path) -> None:
    taken: dict[Path, Path] = {}
    for path in filter(None, chain.from_iterable(slices.items())):
        other = taken.setdefault(_target(path, source), path)
        if other != path:
            raise UserError(f"{path}: would be written to the same file as {other}; rename one")


def _target(path: Path, source: Path) -> Path:
    """Where a file goes, relative to the output folder."""
    folders = path.relative_to(source).parent.parts
    renamed = ("val" if name in VALIDATION_NAMES else name for name in folders)
    return Path(*renamed, f"{path.stem}.png")


def _write_png(path: Path, picture: Grey) -> None:
    encoded = cv2.imencode(".png", picture)[1].tobytes()
    write_atomically(path, lambda file: file.write(encoded))
