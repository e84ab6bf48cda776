"""Volumes in, maps of volumes out: what is bright in a source is bright at the same place in mm."""

import logging
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from tests.conftest import read_csv
from tests.engine.prediction.conftest import AFFINE, STACK, VOLUME
from tests.series_files import write_enhanced, write_series

# In mm: what resizing by no whole number moves the centre of a block.
NEAR = 0.3
CENTRE = (AFFINE @ (6.5, 14, 6.5, 1))[:3]


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
def test_the_map_lies_where_the_slices_lie(run, tmp_path, name, options, expected, axis):
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
    scores = {row["path"]: float(row["score"]) for row in read_csv(tmp_path / "out/scores.csv")}
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
    write_series(tmp_path / "in/old", STACK, StudyInstanceUID=None)
    rows = run(tmp_path / "in", dicom_seg=True)
    assert [Path(row["map"]).name for row in rows] == ["normal_map.nii.gz", "old_map.nii.gz"]
    segmentation = highdicom.seg.segread(tmp_path / "out/maps/normal_seg.dcm")
    assert not segmentation.pixel_array.any()
    (error,) = read_csv(tmp_path / "out/errors.csv")
    assert error["path"] == str(tmp_path / "in/old")
    assert "StudyInstanceUID" in error["error"]
    assert error["error"].endswith("but its map was")
    run(tmp_path / "in/old", dicom_seg=True, maps=False)
    (error,) = read_csv(tmp_path / "out/errors.csv")
    assert "no DICOM SEG was written" in error["error"]
    assert "map" not in error["error"]


def test_a_place_that_is_not_clear_is_told(run, tmp_path, caplog):
    image = nibabel.Nifti1Image(VOLUME, AFFINE)
    image.set_sform(AFFINE, 2)
    image.set_qform(np.diag([1.0, 2, 3, 1]), 1)
    nibabel.save(image, tmp_path / "a.nii")
    (row,) = run(tmp_path / "a.nii")
    assert "its sform and qform disagree, or neither is set" in caplog.text
    assert geometry(tmp_path / "out" / row["map"]) == geometry(tmp_path / "a.nii")


def test_a_sheared_source_is_told(run, tmp_path, caplog):
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.5
    nibabel.save(nibabel.Nifti1Image(VOLUME, sheared), tmp_path / "a.nii")
    with caplog.at_level(logging.WARNING):
        (row,) = run(tmp_path / "a.nii")
    assert "axes are up to 14.0 degrees away from perpendicular" in caplog.text
    found = nibabel.load(tmp_path / "out" / row["map"])
    assert found.affine == pytest.approx(sheared, abs=1e-4)
