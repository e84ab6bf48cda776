"""DICOM files by their form: known by content, each compression, one line for what is broken."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    HTJ2K,
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGLSLossless,
    RLELossless,
    SegmentationStorage,
)

from datasets.folders.find import find_normal_images
from datasets.folders.inputs import find_inputs
from datasets.readers.formats import kind_of
from datasets.readers.image import read_image
from tests.medical_files import dicom_dataset, packaged, saved, stretched, write_dicom
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO = IntensityWindow()
CT = np.random.default_rng(15).integers(0, 3000, (5, 8), dtype=np.int16)


def test_a_deflated_file(tmp_path):
    dataset = dicom_dataset(CT)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pixels = read_image(saved(dataset, tmp_path / "x.dcm"), AUTO)
    np.testing.assert_array_equal(pixels, stretched(CT))
    assert read_image(packaged("image_dfl.dcm"), AUTO).shape == (512, 512)


# One file of each kind of compression, and its shape.
COMPRESSED = {
    "JPEG baseline": ("SC_rgb_jpeg_dcmtk.dcm", (100, 100, 3)),
    "JPEG extended, 12 bits": ("JPGExtended.dcm", (1024, 256)),
    "JPEG lossless": ("SC_rgb_jpeg_gdcm.dcm", (100, 100, 3)),
    "JPEG-LS": ("MR_small_jpeg_ls_lossless.dcm", (64, 64)),
    "JPEG-LS near-lossless": ("JPEGLSNearLossless_16.dcm", (50, 10)),
    "JPEG 2000 lossless": ("MR_small_jp2klossless.dcm", (64, 64)),
    "JPEG 2000": ("JPEG2000.dcm", (1024, 256)),
    "RLE": ("MR_small_RLE.dcm", (64, 64)),
}


@pytest.mark.parametrize(("name", "shape"), COMPRESSED.values(), ids=COMPRESSED)
def test_each_compression_is_unpacked(name, shape):
    pixels = read_image(packaged(name), AUTO)
    assert pixels.shape == shape
    assert pixels.std() > 10
    if name.startswith("MR_small"):
        np.testing.assert_array_equal(pixels, read_image(packaged("MR_small.dcm"), AUTO))
    # No file of these is at hand.
    assert all(get_decoder(each).is_available for each in (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL))


def compressed(path: Path, syntax: UID) -> None:
    dataset = dicom_dataset(CT)
    dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = syntax
    saved(dataset, path)


def test_compression_that_is_not_installed_names_the_plugin(tmp_path, monkeypatch):
    plugin = "pylibjpeg - requires pylibjpeg>=2.0 and pylibjpeg-libjpeg>=2.1"
    monkeypatch.setattr(Decoder, "is_available", False)
    monkeypatch.setattr(Decoder, "missing_dependencies", [plugin])
    compressed(tmp_path / "x.dcm", JPEGLSLossless)
    message = r"x\.dcm: is compressed as JPEG-LS.*pip install.*pylibjpeg"
    with pytest.raises(UserError, match=message):
        read_image(tmp_path / "x.dcm", AUTO)


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.113619", "slice.IMA", "v1.final"])
def test_dicom_is_known_by_its_content(tmp_path, name):
    path = write_dicom(tmp_path / "good" / name, CT)
    write_dicom(tmp_path / "good" / "dicomdir", CT)
    (tmp_path / "good" / "README").write_text("no image")
    assert kind_of(path) == "dicom"
    split = find_normal_images(tmp_path, key="TRAIN_DATA_PATH")
    assert [sample.path for sample in split.samples] == [path]
    assert [sample.path for sample in find_inputs([tmp_path / "good"])] == [path]
    np.testing.assert_array_equal(read_image(path, AUTO), stretched(CT))


def no_pixels(path: Path) -> None:
    dataset = dicom_dataset(CT)
    del dataset.Rows, dataset.PixelData
    dataset.SOPClassUID = SegmentationStorage
    saved(dataset, path)


def copy_of(name: str) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(packaged(name).read_bytes())


def with_elements(**elements: Any) -> Callable[[Path], Any]:
    return lambda path: write_dicom(path, CT, **elements)


def with_content(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(change(write_dicom(path, CT).read_bytes()))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text": (lambda path: path.write_text("no image"), "cannot be read"),
    "long text": (lambda path: path.write_bytes(b"no image" * 40), "'DICM' at byte 128 is missing"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "preamble": (lambda path: path.write_bytes(b"\0" * 128 + b"DICM"), "contains no image"),
    "no header": (copy_of("no_meta.dcm"), "'DICM' at byte 128 is missing"),
    "cut": (with_content(lambda content: content[:-20]), "cannot be read"),
    "truncated": (copy_of("MR_truncated.dcm"), "its pixels are cut short"),
    "no pixels": (no_pixels, r"contains no image \(Segmentation Storage\)"),
    "huge": (with_elements(Rows=60_000, Columns=60_000), "over the limit"),
    "flat": (with_elements(Rows=0), "empty"),
    "high bit": (with_elements(BitsStored=12, HighBit=15), r"HighBit \(0028,0102\) is 15.*12"),
    "slope": (with_elements(RescaleSlope=0, RescaleIntercept=0),
              r"RescaleSlope \(0028,1053\) is 0"),
    "video": (lambda path: compressed(path, MPEG2MPML), "is compressed as MPEG2.*decompress"),
    "missing": (lambda path: None, "no such file"),
}  # fmt: skip


@pytest.mark.parametrize(("write", "reason"), BROKEN.values(), ids=BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_broken_dicom(tmp_path, write, reason):
    write(tmp_path / "x.dcm")
    with pytest.raises(UserError, match=reason) as caught:
        read_image(tmp_path / "x.dcm", AUTO)
    assert str(caught.value).startswith(f"{tmp_path / 'x.dcm'}: ")
    assert str(caught.value).isprintable()
    assert "force" not in str(caught.value)


@given(place=st.integers(132, 700), byte=st.integers(0, 255))
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_gives_pixels_or_an_error_that_names_it(tmp_path_factory, place, byte):
    path = write_dicom(tmp_path_factory.mktemp("damaged") / "x.dcm", CT, WindowCenter=9)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content)
    try:
        outcome = str(read_image(path, AUTO, 0).dtype)
    except UserError as error:
        outcome = str(error)
    assert outcome == "uint8" or "x.dcm" in outcome
