"""Masks in picture files: whatever is above zero is marked, or what is not transparent."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.readers.image import read_image, read_mask, read_size
from utils.intensity import IntensityWindow

LEVELS = np.array([[0, 58, 122], [255, 0, 1]], np.uint8)
BLACK = np.zeros_like(LEVELS)
WHITE = BLACK + 255
ALPHA = np.where(LEVELS > 0, WHITE, BLACK)
DEEP_ALPHA = np.dstack([WHITE, ALPHA]).astype(np.uint16) * 257


def save(*channels):
    pixels = channels[0] if len(channels) == 1 else np.dstack(channels)
    return lambda path: Image.fromarray(pixels).save(path)


def save_palette(indices, colours, **options):
    def write(path):
        image = Image.fromarray(indices.astype(np.uint8)).copy()
        image.putpalette(colours)
        image.save(path, **options)

    return write


MASKS = {
    "levels.png": save(LEVELS),
    "levels.bmp": save(LEVELS),
    "deep.png": save(LEVELS.astype(np.uint16) * 256),
    "signed.tif": save(LEVELS.astype(np.int32)),
    "float.tif": save(LEVELS.astype(np.float32) / 255),
    "bits.png": save(LEVELS > 0),
    "red.png": save(LEVELS, BLACK, BLACK),
    "blue.png": save(BLACK, BLACK, LEVELS),
    # By colour and not by index: the first one is no background.
    "palette.png": save_palette(LEVELS == 0, [255, 0, 0, 0, 0, 0]),
    "cmyk.tif": lambda path: Image.fromarray(LEVELS).convert("RGB").convert("CMYK").save(path),
    # Colours come before alpha.
    "opaque.png": save(LEVELS, LEVELS, LEVELS, WHITE),
    "grey-opaque.png": save(LEVELS, WHITE),
    "half-clear.png": save(LEVELS, LEVELS, LEVELS, WHITE - ALPHA // 2),
    # Where all have one colour, the alpha says all.
    "clear-white.png": save(WHITE, WHITE, WHITE, ALPHA),
    "clear-black.png": save(BLACK, BLACK, BLACK, ALPHA),
    "clear-red.png": save(WHITE, BLACK, BLACK, ALPHA),
    "clear-grey.png": save(WHITE, ALPHA),
    "clear-deep.png": lambda path: path.write_bytes(imagecodecs.png_encode(DEEP_ALPHA)),
    "clear-palette.png": save_palette(LEVELS > 0, [9] * 6, transparency=bytes([0, 255])),
    # Colours that are transparent mark nothing.
    "clear-paper.png": save(WHITE, WHITE - ALPHA, WHITE - ALPHA, ALPHA),
    "clear.tif": lambda path: tifffile.imwrite(
        path, np.dstack([WHITE, ALPHA]), photometric="minisblack", planarconfig="contig",
        extrasamples=["unassalpha"], metadata=None),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks_mark_whatever_is_above_zero(tmp_path, name):
    MASKS[name](tmp_path / name)
    mask = read_mask(tmp_path / name)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, LEVELS > 0)


@pytest.mark.parametrize("colour", [BLACK, WHITE])
def test_one_transparent_colour_marks_nothing(tmp_path, colour):
    save(colour, colour, colour, BLACK)(tmp_path / "x.png")
    assert not read_mask(tmp_path / "x.png").any()


def test_a_mask_beside_an_oriented_jpeg_is_not_turned(tmp_path):
    stored = np.zeros((32, 48), np.uint8)
    stored[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "x.jpg", exif=exif, quality=95)
    Image.fromarray(np.rot90(stored, -1).copy()).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg", IntensityWindow()) > 127, mask)
    assert read_size(tmp_path / "x.jpg") == mask.shape
