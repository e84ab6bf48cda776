"""Maps that viewers open: NIfTI on a grid, DICOM SEG on the slices of its series."""

from dataclasses import replace

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK

from datasets.volumes.grid import Grid, grid_of, laid_on_grid
from datasets.volumes.map_files import forms_agree, write_nifti, write_segmentation
from datasets.volumes.series import group_series
from tests.series_files import write_enhanced, write_series
from utils.errors import UserError


def oblique(spacing=(0.7, 1.1, 3.0), degrees=23.0):
    turn = np.radians(degrees)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = (-30, 12, 5)
    return Grid((4, 5, 6), affine)


def test_simpleitk_and_nibabel_read_one_place(tmp_path):
    grid = oblique()
    values = np.random.default_rng(0).random(grid.shape, np.float32)
    write_nifti(tmp_path / "map.nii.gz", values, grid)
    image = nibabel.load(tmp_path / "map.nii.gz")
    assert np.allclose(image.affine, grid.affine, atol=1e-4)
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    assert (image.header["qform_code"], image.header["sform_code"]) == (1, 1)
    assert image.header.get_zooms() == pytest.approx(grid.spacing)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.get_data_dtype() == np.float32
    itk = SimpleITK.ReadImage(str(tmp_path / "map.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(itk).T, values)
    where = itk.TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0))
    expected = grid.affine @ (1, 2, 3, 1)
    assert where == pytest.approx([-expected[0], -expected[1], expected[2]], abs=1e-4)


def test_a_form_that_is_not_set_may_hold_anything_and_so_may_units(tmp_path):
    grid = oblique()
    image = nibabel.Nifti1Image(np.ones(grid.shape, np.int16), grid.affine)
    image.header["qform_code"], image.header["xyzt_units"] = 0, 255
    for key in ("quatern_b", "quatern_c", "quatern_d"):
        image.header[key] = 1
    source, path = tmp_path / "source.nii", tmp_path / "map.nii.gz"
    source.write_bytes(image.header.binaryblock + bytes(4) + image.dataobj.tobytes("F"))
    assert forms_agree(source)
    write_nifti(path, np.ones(grid.shape, np.float32), grid, source)
    written = nibabel.load(path)
    assert np.allclose(written.get_qform(), grid.affine, atol=1e-4)
    assert np.allclose(written.get_sform(), grid.affine, atol=1e-4)


@pytest.mark.parametrize("unit", ["mm", "micron", "meter"])
@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 1), (1, 2), (0, 1), (1, 0), (0, 0)])
def test_a_map_lies_over_its_source_in_each_viewer(tmp_path, codes, unit):
    grid = oblique()
    image = nibabel.Nifti1Image(np.ones(grid.shape, np.int16), grid.affine)
    image.set_sform(grid.affine, codes[0])
    image.set_qform(np.diag([*grid.spacing, 1.0]), codes[1])
    image.header.set_xyzt_units(unit, "sec")
    source, path = tmp_path / "source.nii.gz", tmp_path / "map.nii.gz"
    nibabel.save(image, source)
    grid = Grid(grid.shape, nibabel.load(source).affine)
    write_nifti(path, np.ones(grid.shape, np.float32), grid, source)
    theirs, ours = (SimpleITK.ReadImage(str(each)) for each in (source, path))
    assert ours.GetOrigin() == pytest.approx(theirs.GetOrigin(), abs=1e-4)
    assert ours.GetSpacing() == pytest.approx(theirs.GetSpacing(), abs=1e-4)
    assert ours.GetDirection() == pytest.approx(theirs.GetDirection(), abs=1e-4)
    assert np.allclose(nibabel.load(path).affine, nibabel.load(source).affine, atol=1e-4)
    written = nibabel.load(path).header
    if forms_agree(source):
        assert int(written["sform_code"]) == int(written["qform_code"]) == max(codes)
    assert forms_agree(source) == (sum(code > 0 for code in codes) == 1)


def test_equal_maps_are_equal_files(tmp_path):
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", np.ones((4, 5, 6), np.uint8), oblique())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_sitk_places_a_series_as_we_do(tmp_path):
    stack = np.random.default_rng(0).integers(0, 1000, (5, 8, 6), dtype=np.uint16)
    paths = write_series(tmp_path / "dicom", stack)
    (series,) = group_series(paths).series
    values = laid_on_grid(stack.astype(np.float32), series)
    write_nifti(tmp_path / "map.nii.gz", values, grid_of(series))
    ours = SimpleITK.ReadImage(str(tmp_path / "map.nii.gz"))
    theirs = SimpleITK.ReadImage([str(path) for path in paths])
    for voxel in ((0, 0, 0), (5, 7, 4), (2, 3, 1)):
        place = theirs.TransformIndexToPhysicalPoint(voxel)
        assert ours[ours.TransformPhysicalPointToIndex(place)] == theirs[voxel]


def test_a_segmentation_lies_on_the_slices_of_its_series(tmp_path):
    stack = np.zeros((5, 16, 8), np.uint16)
    (series,) = group_series(write_series(tmp_path / "dicom", stack)).series
    mask = np.zeros(stack.shape, bool)
    mask[1, 2:5, 3] = mask[3, 7, 1:6] = True
    write_segmentation(tmp_path / "seg.dcm", mask, series, "0.5 or more")
    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [plane.uid for plane in series.planes]
    read = segmentation.get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True, combine_segments=True
    )
    assert np.array_equal(read.astype(bool), mask)
    source = pydicom.dcmread(series.planes[0].path)
    assert segmentation.StudyInstanceUID == source.StudyInstanceUID
    assert segmentation.PatientID == source.PatientID
    assert segmentation.FrameOfReferenceUID == source.FrameOfReferenceUID
    described = segmentation.get_segment_description(1)
    assert described.algorithm_identification.name == "QFAE"


def test_frames_of_several_files_have_no_segmentation(tmp_path):
    stack = np.zeros((4, 16, 8), np.uint16)
    files = [write_enhanced(tmp_path / f"{name}.dcm", stack) for name in "ab"]
    parts = [list(group_series([file]).series[0].planes) for file in files]
    series = replace(group_series(files[:1]).series[0], planes=(*parts[0][:2], *parts[1][2:]))
    with pytest.raises(UserError, match="because its frames are in 2 files and a SEG can refer to"):
        write_segmentation(tmp_path / "seg.dcm", np.ones(stack.shape, bool), series, "")


ANONYMISED = ("PatientBirthDate", "PatientSex", "PatientName", "StudyID", "StudyTime")
JAPANESE = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"}


@pytest.mark.parametrize(
    ("tags", "keyword", "expected"),
    [
        (dict.fromkeys(ANONYMISED), "PatientBirthDate", ""),
        (JAPANESE, "PatientName", "Yamada^Tarou=山田^太郎"),
    ],
    ids=["anonymised", "another script"],
)
def test_series_of_any_patient_have_a_segmentation(tmp_path, tags, keyword, expected):
    files = write_series(tmp_path / "scan", np.zeros((3, 16, 8), np.uint16), **tags)
    (series,) = group_series(files).series
    write_segmentation(tmp_path / "seg.dcm", np.ones((3, 16, 8), bool), series, "0.5 or more")
    assert str(pydicom.dcmread(tmp_path / "seg.dcm")[keyword].value) == expected
