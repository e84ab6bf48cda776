"""Phantoms as files: a seeded data set in BMAD's layout, drawn once.

Run as ``python -m datasets.phantom.write --output data/phantom --size 64 --train 2048``.
"""

import argparse
import inspect
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datasets.phantom.draw import (
    DRAWING_VERSION,
    LESION_KINDS,
    MIN_SIZE,
    Image,
    add_lesion,
    draw_phantom,
)
from utils.errors import UserError, run_script

RECORD_NAME = "phantom.json"
PARTS = ("train/good", "valid/good", "valid/Ungood", "test/good", "test/Ungood")


def write_phantom_dataset(
    folder: Path,
    *,
    size: int = 64,
    train: int = 2048,
    valid_good: int = 32,
    valid_ungood: int = 32,
    test_good: int = 96,
    test_ungood: int = 96,
    seed: int = 0,
) -> bool:
    """Write phantoms in BMAD's layout, and :data:`RECORD_NAME` with what they were drawn from.

    Each image has its own random state, so adding images does not change the others. The name of
    an anomalous image says the kind of its lesion. The folder appears only when everything is
    drawn.

    Returns:
        True if images were drawn, False if the folder already contained exactly these images.

    Raises:
        UserError: If a number makes no sense, or ``folder`` contains anything else, which is never
            deleted here.
    """
    counts = (train, valid_good, valid_ungood, test_good, test_ungood)
    return fill_folder(folder, _write_part, counts, seed, size=size)


def fill_folder(
    folder: Path,
    write_part: Callable[..., None],
    counts: Sequence[int],
    seed: int,
    **sizes: int,
) -> bool:
    """Write a data set all at once, unless it is there.

    Args:
        folder: Where to; its parents are created.
        write_part: Takes the folder of a part, the number of its images, its seed, and the sizes.
        counts: Number of images for each of :data:`PARTS`.
        seed: Seed of all images.
        sizes: Sizes of an image.

    Returns, Raises:
        As :func:`write_phantom_dataset`.
    """
    if min(sizes.values()) < MIN_SIZE or min(seed, *counts) < 0:
        names = " and ".join(sizes)
        raise UserError(f"{names} must be {MIN_SIZE} or more; seed and counts must be 0 or more")
    images = dict(zip(PARTS, counts, strict=True))
    record = {"drawing": DRAWING_VERSION, **sizes, "seed": seed, "images": images}
    if _holds(folder, record):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".phantom-", dir=folder.parent) as scratch:
        draft = Path(scratch, "draft")
        for number, (part, count) in enumerate(images.items()):
            write_part(draft / part, count, (seed, number), **sizes)
        Path(draft, RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n")
        draft.replace(folder)
    return True


def _holds(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a folder contains the recorded images; False if it is missing or empty."""
    remedy = "delete it, or choose another --output"
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    path = folder / RECORD_NAME
    if not path.is_file():
        raise UserError(f"{folder}: already exists and contains no phantoms; {remedy}")
    if _read_record(path) != record:
        raise UserError(f"{folder}: contains phantoms with other settings (see {path}); {remedy}")
    for part, count in record["images"].items():
        found = len(list((folder / part / "img").glob("[!.]*")))
        if found != count:
            raise UserError(f"{folder / part / 'img'}: has {found} of {count} images; {remedy}")
    return True


def _read_record(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _write_part(folder: Path, count: int, seed: tuple[int, int], size: int) -> None:
    anomalous, with_masks = folder.name == "Ungood", folder.parent.name != "train"
    for name in ("img", "label") if with_masks else ("img",):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        phantom = draw_phantom(rng, size)
        image, mask, name = phantom.image, np.zeros_like(phantom.image), f"{index:05d}.png"
        if anomalous:
            kind = LESION_KINDS[index % len(LESION_KINDS)]
            image, mask = add_lesion(rng, phantom, kind)
            name = f"{index:05d}_{kind}.png"
        _write_png(folder / "img" / name, image)
        if with_masks:
            _write_png(folder / "label" / name, mask)


def _write_png(path: Path, image: Image) -> None:
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, with ``arguments`` instead of those of the process."""
    run_command(
        write_phantom_dataset,
        arguments,
        prog="python -m datasets.phantom.write",
        output="data/phantom",
        description="Draw head phantoms with and without lesions, in BMAD's layout. Options set "
        "the size in pixels, the number of images in each folder, and the seed.",
    )


def run_command(
    write: Callable[..., bool],
    arguments: Sequence[str] | None,
    *,
    prog: str,
    output: str,
    description: str,
) -> None:
    """The command line of a function that writes phantoms, with an option per number."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    shown = "default: %(default)s"
    parser.add_argument("--output", type=Path, default=Path(output), help=shown)
    for name, parameter in inspect.signature(write).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            flag = f"--{name.replace('_', '-')}"
            default = parameter.default
            parser.add_argument(flag, type=int, metavar="N", default=default, help=shown)
    options = vars(parser.parse_args(arguments))
    folder = options.pop("output")
    drawn = write(folder, **options)
    print(f"{folder}: {'drawn' if drawn else 'already there'}")


if __name__ == "__main__":
    run_script(main)
