"""Volumes in, maps of volumes out: what is bright in a source is bright at the same place in mm."""

from __future__ import annotations

import base64
import csv
import io
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from engine.evaluate.calibration import Calibration, ColourScale
from engine.evaluate.scorer import ScoredBatch
from engine.predict import Output, predict
from engine.prediction import report_volumes
from engine.predictor import Predictor
from engine.report import volumes
from tests.series_files import write_enhanced, write_series

# (N, rows, columns); a bright block in slices 6 and 7, at rows 12 to 16 and columns 5 to 8.
STACK = np.zeros((10, 20, 24), np.uint16)
STACK[6:8, 12:17, 5:9] = 1000
# The same as (X, Y, Z) with the affine that tests.series_files gives it: LPS to RAS.
VOLUME = np.ascontiguousarray(STACK.transpose(2, 1, 0))
AFFINE = np.array([[-1.25, 0, 0, 10], [0, -1.5, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1.0]])
# In mm: what resizing by no whole number moves the centre of a block.
NEAR = 0.3
CENTRE = (AFFINE @ (6.5, 14, 6.5, 1))[:3]


class Brightness:
    """A scorer whose map is the image itself."""

    def score(self, images: torch.Tensor, names: Sequence[str]) -> ScoredBatch:
        pixels = images.float() / 255
        maps = pixels.mean(dim=1)
        return ScoredBatch(maps.amax(dim=(1, 2)), maps, pixels, pixels)


@pytest.fixture
def run(tiny, tmp_path, monkeypatch) -> Callable[..., list[dict[str, str]]]:
    """Predicts on sources with :class:`Brightness`; gives the rows of volumes.csv."""

    def run(*sources: Path, keys: Sequence[str] = (), **options: Any) -> list[dict[str, str]]:
        calibration = Calibration(
            *(0.5, "", ColourScale(0, 1, ""), "", 1, 1, ""),
            *(0.5, "", None, {}),
        )
        monkeypatch.setattr(
            Predictor,
            "from_config",
            lambda config, threshold: Predictor(Brightness(), config.testing, calibration),
        )
        config = tiny("INTENSITY_WINDOW=0,1000", *keys)
        predict(
            config, sources, Output(tmp_path / "out", overwrite=True, **options), recursive=True
        )
        return read(tmp_path / "out/volumes.csv")

    return run


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def centre(path: Path) -> NDArray[np.float64]:
    """Where a map is bright, in mm of RAS+; nibabel and SimpleITK agree."""
    image = nibabel.load(path)
    values = image.get_fdata()
    index = (np.argwhere(values > 0) * values[values > 0][:, None]).sum(axis=0) / values.sum()
    place = nibabel.affines.apply_affine(image.affine, index)
    itk = SimpleITK.ReadImage(str(path))
    assert np.array_equal(SimpleITK.GetArrayFromImage(itk).T, values)
    lps = itk.TransformContinuousIndexToPhysicalPoint(index.tolist())
    assert lps == pytest.approx(place * (-1, -1, 1), abs=1e-3)
    return np.asarray(place)


def geometry(path: Path) -> dict[str, tuple[float, ...]]:
    """How SimpleITK lays a file into space."""
    image = SimpleITK.ReadImage(str(path))
    return {
        "size": image.GetSize(),
        "origin": image.GetOrigin(),
        "spacing": image.GetSpacing(),
        "direction": image.GetDirection(),
    }


def reoriented(codes: str) -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(VOLUME, AFFINE)
    return image.as_reoriented(ornt_transform(io_orientation(AFFINE), axcodes2ornt(codes)))


@pytest.mark.parametrize(
    ("axis", "window"),
    [("axial", "auto"), ("axial", "0,1000"), ("coronal", "0,1000"), ("sagittal", "auto")],
)
def test_one_volume_has_one_map_in_space_however_it_is_stored(run, tmp_path, axis, window):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (8, -6, 10), degrees=True).as_matrix()
    source = tmp_path / "in"
    source.mkdir()
    for codes in ("RAS", "LPS", "SRA"):
        nibabel.save(reoriented(codes), source / f"{codes}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(VOLUME, turn @ AFFINE), source / "oblique.nii")
    write_series(source / "dicom", STACK)
    write_enhanced(source / "frames.dcm", STACK, order=[3, 7, 1, 9, 0, 6, 2, 8, 5, 4])
    rows = run(source, keys=[f"SLICE_AXIS={axis}", f"INTENSITY_WINDOW={window}"])
    assert [Path(row["path"]).name for row in rows] == [
        *("LPS.nii.gz", "RAS.nii.gz", "SRA.nii.gz", "frames.dcm", "oblique.nii", "dicom"),
    ]
    assert len({(row["score"], row["num_slices"], row["worst_slice"]) for row in rows}) == 1
    canonical = {}
    for row in rows:
        path, name = tmp_path / "out" / row["map"], Path(row["path"]).name.partition(".")[0]
        image = nibabel.load(path)
        assert (image.get_data_dtype(), path.name) == (np.float32, f"{name}_map.nii.gz")
        if name not in ("dicom", "frames"):
            original = nibabel.load(row["path"])
            assert image.shape == original.shape
            assert image.affine == pytest.approx(original.affine, abs=1e-4)
            for key, value in geometry(Path(row["path"])).items():
                assert geometry(path)[key] == pytest.approx(value, abs=1e-4), key
        canonical[name] = nibabel.as_closest_canonical(image).get_fdata()
        expected = (turn @ (*CENTRE, 1))[:3] if name == "oblique" else CENTRE
        assert centre(path) == pytest.approx(expected, abs=NEAR)
        mask = nibabel.load(path.with_name(f"{name}_mask.nii.gz"))
        assert mask.get_data_dtype() == np.uint8
        assert np.array_equal(mask.get_fdata(), image.get_fdata() >= 0.5)
    for values in canonical.values():
        assert values == pytest.approx(canonical["RAS"], abs=2e-3 * canonical["RAS"].max())


@pytest.mark.parametrize("axis", ["axial", "coronal"])
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("reversed", {"heights": range(18, -1, -2)}, CENTRE - [0, 0, 8]),
        ("missing", {"heights": [0, 2, 6, *range(8, 22, 2)]}, CENTRE - [0, 0, -2]),
        ("uneven", {"heights": [0, 2, 4, 5.5, 7.5, 9.5, 12, 14, 16.5, 18]}, CENTRE),
        ("tilted", {"lean": (0, 0.25)}, CENTRE - [0, 0.25 * 13, 0]),
    ],
)
def test_the_map_lies_where_the_slices_lie(run, tmp_path, caplog, name, options, expected, axis):
    write_series(tmp_path / name, STACK, **options)
    (row,) = run(tmp_path / name, keys=[f"SLICE_AXIS={axis}"])
    assert row["map"] == f"maps/{name}_map.nii.gz"
    assert centre(tmp_path / "out" / row["map"]) == pytest.approx(expected, abs=NEAR)


def test_simpleitk_lays_a_map_over_its_series(run, tmp_path):
    write_series(tmp_path / "scan", STACK)
    (row,) = run(tmp_path / "scan")
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "scan"))
    source = SimpleITK.ReadImage(files)
    found = SimpleITK.ReadImage(str(tmp_path / "out" / row["map"]))
    # dcm2niix turns rows round: on the source's grid the map has the source's geometry.
    turned = SimpleITK.Flip(found, (False, True, False))
    assert turned.GetSize() == source.GetSize()
    for key in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(turned, key)() == pytest.approx(getattr(source, key)(), abs=1e-4)
    bright = SimpleITK.GetArrayFromImage(turned) > 0.5
    assert (bright & (STACK > 0)).sum() > 0.8 * (bright | (STACK > 0)).sum()


def test_frames_of_an_enhanced_file_are_a_volume(run, tmp_path):
    write_enhanced(tmp_path / "mr.dcm", STACK, order=[3, 7, 1, 9, 0, 6, 2, 8, 5, 4])
    (row,) = run(tmp_path / "mr.dcm", dicom_seg=True)
    assert (row["num_slices"], row["worst_slice"]) == ("10", "6")
    assert centre(tmp_path / "out/maps/mr_map.nii.gz") == pytest.approx(CENTRE, abs=NEAR)
    scores = {row["path"]: float(row["score"]) for row in read(tmp_path / "out/scores.csv")}
    assert [name for name, score in scores.items() if score > 0] == [
        f"{tmp_path}/mr.dcm#{number}" for number in (6, 7)
    ]


def test_time_points_of_one_series_are_volumes_of_their_own(run, tmp_path):
    uid = generate_uid()
    for number in range(2):
        write_series(
            tmp_path / "scan" / f"{number}", STACK, uid=uid, TemporalPositionIdentifier=number + 1
        )
    rows = run(tmp_path / "scan")
    assert [Path(row["path"]).name for row in rows] == ["0", "1"]
    for row in rows:
        assert centre(tmp_path / "out" / row["map"]) == pytest.approx(CENTRE, abs=NEAR)


def test_a_dicom_seg_marks_the_source_instances(run, tmp_path):
    write_series(tmp_path / "scan", STACK)
    run(tmp_path / "scan", dicom_seg=True)
    segmentation = highdicom.seg.segread(tmp_path / "out/maps/scan_seg.dcm")
    uids = [each[2] for each in segmentation.get_source_image_uids()]
    marked = segmentation.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)[
        ..., 0
    ]
    mask = nibabel.load(tmp_path / "out/maps/scan_mask.nii.gz").get_fdata()
    assert marked.sum() == mask.sum() > 0
    assert np.count_nonzero(marked.any(axis=(1, 2))) == 2


def test_nothing_marked_and_nothing_to_refer_to_stop_no_map(run, tmp_path):
    write_series(tmp_path / "in/normal", STACK // 3)
    for path in write_series(tmp_path / "in/old", STACK):
        header = pydicom.dcmread(path)
        del header.StudyInstanceUID
        header.save_as(path)
    rows = run(tmp_path / "in", dicom_seg=True)
    assert [Path(row["map"]).name for row in rows] == ["normal_map.nii.gz", "old_map.nii.gz"]
    segmentation = highdicom.seg.segread(tmp_path / "out/maps/normal_seg.dcm")
    assert not segmentation.pixel_array.any()
    (error,) = read(tmp_path / "out/errors.csv")
    assert error["path"] == str(tmp_path / "in/old")
    assert "StudyInstanceUID" in error["error"]


def test_a_volume_has_one_row_and_its_slices_no_pictures(run, tmp_path):
    write_series(tmp_path / "in/scan", STACK)
    Image.fromarray(np.full((9, 9), 255, np.uint8)).save(tmp_path / "in/alone.png")
    (row,) = run(tmp_path / "in", keys=["VOLUME_REDUCTION=mean"])
    assert list(row) == [
        *("path", "score", "predicted", "num_slices", "num_anomalous", "worst_slice", "map"),
    ]
    assert float(row["score"]) == pytest.approx(0.2)
    found = [row[key] for key in ("predicted", "num_slices", "num_anomalous", "worst_slice")]
    assert found == ["1", "10", "2", "6"]
    out = tmp_path / "out"
    assert len(read(out / "scores.csv")) == 11
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {each for each in files if "/" in each} == {
        *("maps/alone.png.npy", "overlays/alone.png.png"),
        *("maps/scan_map.nii.gz", "maps/scan_mask.nii.gz"),
    }


def test_the_report_shows_the_volumes_of_the_highest_scores(run, tmp_path, monkeypatch):
    monkeypatch.setattr(report_volumes, "SHOWN_VOLUMES", 2)
    monkeypatch.setattr(volumes, "SHOWN_SLICES", 4)
    for name, part in (("a", 0.3), ("b", 0.9), ("c", 0.2), ("d", 0.6)):
        write_series(tmp_path / "in" / name, (STACK * part).astype(np.uint16))
    run(tmp_path / "in", maps=False)
    page = (tmp_path / "out/report.html").read_text()
    assert re.findall(r'aria-label="Volume [^"]*/(\w)"', page) == ["b", "d"]
    assert re.findall(r'<th scope="row" class="path">[^<]*/(\w)</th>', page) == ["a", "c"]
    # Evenly chosen are 0, 4 or 5, and 9; the worst is 6.
    shown = re.findall(r'id="slice-0-\d" .* data-text="slice (\d+), score ([\d.]+)"', page)
    assert [int(number) for number, _ in shown] == [0, 4, 6, 9]
    assert float(shown[2][1]) == pytest.approx(0.9, abs=0.01)
    (uri,) = re.findall(r'id="slice-0-2-image" href="data:image/webp;base64,([^"]*)"', page)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
    # Of a slice as it is looked at: the patient's right on the left.
    assert np.abs(picture[..., 0] - 0.255 * 0.9 * STACK[6]).max() < 60
    assert 'viewBox="0 0 256.0 256.0"' in page, "20 rows of 1.5 mm, 24 columns of 1.25 mm"


def test_without_a_gallery_volumes_have_no_pictures(run, tmp_path):
    write_series(tmp_path / "scan", STACK)
    run(tmp_path / "scan", keys=["REPORT_IMAGES=0"])
    page = (tmp_path / "out/report.html").read_text()
    assert "All volumes, the highest score first" in page
    assert "data:image" not in page


def test_one_volume_has_its_verdict_on_the_screen(run, tmp_path, capsys):
    write_series(tmp_path / "scan", STACK)
    run(tmp_path / "scan")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path}/scan: score 1: anomalous, worst slice 6"
    assert second.startswith("10 images scored, 2 called anomalous (threshold 0.5), the highest ")
    assert third == f"0 not readable; all files are in {tmp_path / 'out'}"
    write_series(tmp_path / "other", STACK // 4)
    run(tmp_path / "scan", tmp_path / "other")
    first, *_ = capsys.readouterr().out.splitlines()
    expected = "2 volumes, 1 called anomalous, the highest score 1"
    assert first == f"{expected}: {tmp_path / 'scan'}"


def test_no_map_takes_the_place_of_another(run, tmp_path):
    for name in ("a.nii.gz", "a.nii", "a-2.nii"):
        nibabel.save(nibabel.Nifti1Image(VOLUME, AFFINE), tmp_path / name)
    rows = run(tmp_path / "a-2.nii", tmp_path / "a.nii.gz", tmp_path / "a.nii")
    assert len({row["map"] for row in rows}) == 3


def test_a_place_that_is_not_clear_is_told(run, tmp_path, caplog):
    image = nibabel.Nifti1Image(VOLUME, AFFINE)
    image.set_sform(AFFINE, 2)
    image.set_qform(np.diag([1.0, 2, 3, 1]), 1)
    nibabel.save(image, tmp_path / "a.nii")
    (row,) = run(tmp_path / "a.nii")
    assert "its sform and qform disagree, or neither is set" in caplog.text
    assert geometry(tmp_path / "out" / row["map"]) == geometry(tmp_path / "a.nii")


def test_slices_of_background_are_not_counted(run, tmp_path, caplog, capsys):
    write_series(tmp_path / "scan", STACK)
    keys = ["MIN_FOREGROUND=0.01", "VOLUME_REDUCTION=mean"]
    (row,) = run(tmp_path / "scan", keys=keys)
    assert "2 images scored, 8 slices of background not, 2 called" in capsys.readouterr().out
    assert (row["score"], row["num_slices"]) == ("1.0", "2")
    texts = re.findall('data-text="([^"]*)"', (tmp_path / "out/report.html").read_text())
    assert texts == ["slice 6, score 1", "slice 7, score 1"]
    assert len(read(tmp_path / "out/scores.csv")) == 10
    (row,) = run(tmp_path / "scan", keys=["MIN_FOREGROUND=0.5"])
    assert [row[key] for key in ("score", "predicted", "num_slices", "worst_slice")] == [
        *("0.0", "", "0", ""),
    ]
    assert f"{tmp_path}/scan: no slice shows enough to be scored" in caplog.text


def test_a_damaged_volume_is_one_error_and_the_others_are_written(run, tmp_path):
    source = tmp_path / "in"
    for name in ("a", "b"):
        write_series(source / name, STACK)
    first = next((source / "a").iterdir())
    first.write_bytes(first.read_bytes()[:-90])
    nibabel.save(nibabel.Nifti1Image(VOLUME, AFFINE), source / "c.nii.gz")
    (source / "c.nii.gz").write_bytes((source / "c.nii.gz").read_bytes()[:-40])
    rows = run(source, keys=["SLICE_AXIS=coronal"])
    assert [Path(row["path"]).name for row in rows] == ["b"]
    names = [Path(row["path"]).name for row in read(tmp_path / "out/errors.csv")]
    assert names[0].startswith("c.nii.gz")
    assert names[-1] == "a"
    rows = run(source)
    assert [row["num_slices"] for row in rows if "nii" not in row["path"]] == ["9", "10"]


def test_a_sheared_source_is_told(run, tmp_path, caplog):
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.5
    nibabel.save(nibabel.Nifti1Image(VOLUME, sheared), tmp_path / "a.nii")
    with caplog.at_level(logging.WARNING):
        (row,) = run(tmp_path / "a.nii")
    assert "axes are off a right angle by up to 14.0 degrees" in caplog.text
    found = nibabel.load(tmp_path / "out" / row["map"])
    assert found.affine == pytest.approx(sheared, abs=1e-4)
