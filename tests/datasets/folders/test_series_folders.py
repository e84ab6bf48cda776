"""DICOM series among the files of inputs and splits."""

import logging
import shutil

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import RTPlanStorage, generate_uid

from datasets.folders.find import find_normal_images, find_split
from datasets.folders.inputs import find_inputs
from datasets.folders.samples import ANOMALOUS, NORMAL
from datasets.folders.scan import check_headers
from datasets.folders.slicing import Slicing
from datasets.patients import patients_of
from datasets.volumes.map_files import write_segmentation
from datasets.volumes.series import group_series
from tests.medical_files import write_dicom, write_nifti
from tests.series_files import write_series
from utils.errors import UserError
from utils.intensity import IntensityWindow

STACK = np.random.default_rng(0).integers(0, 999, (4, 8, 6)).astype(np.uint16)
# Slice 2 of the stack is marked.
MARKED = np.zeros_like(STACK)
MARKED[2, 1, 1] = 1
AUTO = IntensityWindow()


def labels(split):
    return [sample.label for sample in split.samples]


def test_inputs_are_pictures_and_the_slices_of_volumes_in_order(tmp_path):
    paths = write_series(tmp_path / "b", STACK)
    alone = write_dicom(tmp_path / "c.dcm", STACK[0])
    write_nifti(tmp_path / "a.nii", np.ones((3, 4, 2), np.uint8))
    samples = find_inputs([tmp_path], recursive=True)
    assert [sample.name for sample in samples] == [
        f"{tmp_path}/a.nii#0",
        f"{tmp_path}/a.nii#1",
        str(alone),
        *map(str, paths),
    ]
    names = [sample.volume_name for sample in samples]
    assert names == [tmp_path / "a.nii"] * 2 + [None] + [tmp_path / "b"] * 4
    assert len(find_inputs([tmp_path / "b", paths[0]])) == 4
    across = find_inputs([tmp_path / "b"], slicing=Slicing("coronal"))
    assert [sample.name for sample in across] == [f"{tmp_path}/b#{each}" for each in range(8)]


def test_a_segmentation_beside_its_series_is_no_image(tmp_path, caplog):
    (series,) = group_series(write_series(tmp_path / "scan", STACK)).series
    write_segmentation(tmp_path / "scan/seg.dcm", MARKED > 0, series, "")
    with caplog.at_level(logging.WARNING):
        samples = find_inputs([tmp_path / "scan"])
    assert len(samples) == 4
    assert caplog.messages == [
        f"{tmp_path}/scan/seg.dcm: is a segmentation, not an image; skipping it"
    ]


def test_a_dose_beside_its_series_is_no_image(tmp_path, caplog):
    write_series(tmp_path, STACK)
    write_dicom(tmp_path / "dose.dcm", STACK, SeriesInstanceUID=generate_uid(), Modality="RTDOSE")
    assert len(find_inputs([tmp_path])) == 4
    assert caplog.messages == [
        f"{tmp_path}/dose.dcm: is a dose distribution, not an image; skipping it"
    ]


def test_a_nifti_of_one_plane_is_a_picture(tmp_path):
    write_nifti(tmp_path / "a.nii", np.ones((3, 4, 1), np.uint8))
    (sample,) = find_inputs([tmp_path])
    assert sample.volume_name is None


def test_what_is_unusual_is_told_with_the_name_of_the_series(tmp_path, caplog):
    write_series(tmp_path / "scan", STACK, heights=[0, 2, 4, 8])
    with caplog.at_level(logging.WARNING):
        assert len(find_inputs([tmp_path / "scan"])) == 4
    (line,) = caplog.messages
    assert line == f"{tmp_path}/scan: missing slice: between 4.00 and 8.00 mm"


def test_a_series_in_no_order_is_told_and_its_files_are_pictures(tmp_path):
    uid = generate_uid()
    for number, part in enumerate(("a", "b")):
        write_series(tmp_path / part, STACK + number, uid=uid)
    problems = []
    samples = find_inputs([tmp_path], recursive=True, problems=problems)
    assert {sample.series for sample in samples} == {None}
    assert len(samples) == 8
    ((_, text),) = problems
    assert text.startswith("same position: 2 slices are at 0.00 mm")


def test_slices_without_a_position_are_told_and_are_pictures(tmp_path, caplog):
    uid = generate_uid()
    write_series(tmp_path / "placed", STACK)
    for number in range(3):
        path = tmp_path / "scan" / f"{number}.dcm"
        write_dicom(path, STACK[number], SeriesInstanceUID=uid, Modality="CT")
    write_dicom(tmp_path / "alone.dcm", STACK[0], SeriesInstanceUID=generate_uid())
    with caplog.at_level(logging.WARNING):
        samples = find_inputs([tmp_path], recursive=True)
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}/scan: no position: 3 files of one series (such as ")
    assert sum(sample.series is None for sample in samples) == 4


def test_frames_without_a_position_are_told_and_are_pictures(tmp_path, caplog):
    path = write_dicom(tmp_path / "a.dcm", STACK, SeriesInstanceUID=generate_uid(), Modality="NM")
    assert {sample.series for sample in find_inputs([path])} == {None}
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}: no position: 4 frames of one file (such as {path}")


def test_slices_without_a_series_are_told_and_are_pictures(tmp_path, caplog):
    write_series(tmp_path, STACK, SeriesInstanceUID="")
    assert {sample.series for sample in find_inputs([tmp_path])} == {None}
    (line,) = caplog.messages
    assert "no position: 4 files without a SeriesInstanceUID (such as " in line


def test_documents_beside_a_series_are_left_out(tmp_path, caplog):
    path = write_dicom(tmp_path / "plan.dcm", STACK[0], Modality="RTPLAN")
    plan = pydicom.dcmread(path)
    del plan.Rows, plan.PixelData
    plan.SOPClassUID = RTPlanStorage
    plan.save_as(path)
    with pytest.raises(UserError, match=r"plan\.dcm: contains no images to score"):
        find_inputs([path])
    caplog.clear()
    write_series(tmp_path, STACK)
    assert len(find_inputs([tmp_path])) == 4
    assert caplog.messages == [f"{path}: is RT Plan Storage, not an image; skipping it"]


def test_slices_of_a_series_each_are_told_and_are_pictures(tmp_path, caplog):
    for number in range(4):
        paths = write_series(tmp_path / "a", STACK)
        paths[number].rename(tmp_path / f"{number}.dcm")
    shutil.rmtree(tmp_path / "a")
    assert {sample.series for sample in find_inputs([tmp_path])} == {None}
    assert caplog.messages == [
        f"{tmp_path}: 4 parallel slices (such as {tmp_path}/0.dcm) each have their own "
        "SeriesInstanceUID; reading them as separate images"
    ]


def test_slices_need_no_name_of_their_own(tmp_path):
    write_series(tmp_path, STACK, SOPInstanceUID="")
    assert None not in {sample.series for sample in find_inputs([tmp_path])}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", ["nan"] * 3),
        ("ImageOrientationPatient", [0] * 6),
        ("PixelSpacing", [0, 0]),
        ("PixelSpacing", [-1, 1]),
        ("PixelSpacing", None),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_slice_in_no_place_is_told_and_is_a_picture(tmp_path, caplog, keyword, value):
    first, *_ = write_series(tmp_path, STACK)
    dataset = pydicom.dcmread(first)
    setattr(dataset, keyword, value)
    if value is None:
        del dataset[keyword]
    dataset.save_as(first)
    with caplog.at_level(logging.WARNING):
        samples = find_inputs([tmp_path])
    assert sum(sample.series is None for sample in samples) == 1
    # pydicom may warn as well.
    (line,) = (each.message for each in caplog.records if each.name.startswith("datasets."))
    assert line.startswith(f"{tmp_path}: no position: 1 file of a series (such as {first}")


def test_a_split_holds_series_with_masks_on_their_grids(tmp_path):
    for name in ("p1", "p2"):
        write_series(tmp_path / "Ungood/img" / name, STACK)
    write_series(tmp_path / "good/p3", STACK)
    write_series(tmp_path / "Ungood/label/p1", MARKED)
    affine = np.diag([1.25, 1.5, 2, 1])
    affine[:3, 3] = 10 - 5 * 1.25, 20 - 7 * 1.5, 0
    volume = np.ascontiguousarray(MARKED[:, ::-1, ::-1].transpose(2, 1, 0))
    write_nifti(tmp_path / "Ungood/label/p2.nii.gz", volume, affine)
    split = find_split(tmp_path, key="TEST_DATA_PATH")
    assert (split.unread, split.problems) == ((), ())
    one = [NORMAL, NORMAL, ANOMALOUS, NORMAL]
    assert labels(split) == one + one + [NORMAL] * 4
    for number in (2, 6):
        assert np.argwhere(split.samples[number].read_mask()).tolist() == [[1, 1]]
    check_headers(split)
    across = find_split(tmp_path, key="TEST_DATA_PATH", slicing=Slicing("sagittal"))
    assert labels(across).count(ANOMALOUS) == 2


def test_slices_may_have_masks_of_their_own(tmp_path):
    """As before series were known: one file, one mask; turned with its slice."""
    paths = write_series(
        tmp_path / "Ungood/img", STACK, ImageOrientationPatient=[-1, 0, 0, 0, 1, 0]
    )
    for path in paths:
        marked = np.zeros((8, 6), np.uint8)
        marked[1, 1] = 255
        (tmp_path / "Ungood/label").mkdir(exist_ok=True)
        Image.fromarray(marked).save(tmp_path / "Ungood/label" / f"{path.stem}.png")
    split = find_split(tmp_path, key="TEST_DATA_PATH")
    assert labels(split) == [ANOMALOUS] * 4
    check_headers(split)
    for sample in split.samples:
        assert np.argwhere(sample.read_mask()).tolist() == [[1, 4]]
        assert sample.mask.stem == sample.path.stem
    with pytest.raises(UserError, match=r"add img.nii.gz \(for the whole volume\) to the label/"):
        find_split(tmp_path, key="TEST_DATA_PATH", slicing=Slicing("coronal"))


def test_a_limit_leaves_volumes_whole_where_they_are_scored(tmp_path):
    for number in range(6):
        write_series(tmp_path / "good" / f"p{number}", STACK)
    split = find_split(tmp_path, key="VAL_DATA_PATH")
    kept = split.cut(11, seed=1, whole_volumes=True)
    names = [sample.volume_name for sample in kept.samples]
    assert (len(names), len(set(names)), kept.num_left_out) == (8, 2, 16)
    assert len(split.cut(1, seed=1, whole_volumes=True).samples) == 4
    assert len({sample.volume_name for sample in split.cut(11, seed=1).samples}) > 3


def test_patients_of_series_are_told_by_the_name_of_the_series(tmp_path):
    for number in range(2):
        write_series(tmp_path / "good" / f"p{number}_scan", STACK)
    split = find_split(tmp_path, key="VAL_DATA_PATH")
    assert patients_of(split.samples, r"^(p\d+)_") == ["p0"] * 4 + ["p1"] * 4


def test_a_series_without_a_mask_is_named_once(tmp_path):
    for name in ("p1", "p2"):
        write_series(tmp_path / "Ungood/img" / name, STACK)
    write_series(tmp_path / "Ungood/label/p1", MARKED)
    with pytest.raises(UserError) as error:
        find_split(tmp_path, key="TEST_DATA_PATH")
    assert str(error.value).count("\n") == 0
    assert "p2: has no mask" in str(error.value)


@pytest.mark.parametrize("folder", ["good/p1", "p1", "good/img"])
def test_training_folders_hold_series(tmp_path, folder):
    paths = write_series(tmp_path / folder, STACK)
    split = find_normal_images(tmp_path, key="TRAIN_DATA_PATH")
    assert [sample.path for sample in split.samples] == paths
    assert all(sample.series is split.samples[0].series for sample in split.samples)
    plane = split.samples[1].read(AUTO)
    assert plane.shape == (8, 6)
    assert split.unread == ()


def test_headers_of_series_are_read_once(tmp_path, monkeypatch):
    write_series(tmp_path / "good", STACK)
    read = []
    monkeypatch.setattr(
        "datasets.folders.series_samples.group_series",
        lambda paths, **options: group_series(
            (read.append(each) or each for each in paths), **options
        ),
    )
    check_headers(find_split(tmp_path, key="TEST_DATA_PATH"))
    assert len(read) == len(set(read)) == 4


def test_no_file_of_a_folder_is_compared_with_all_others(tmp_path, monkeypatch):
    for number in range(200):
        Image.new("L", (2, 2)).save(tmp_path / f"{number}.png")
    equal, calls = type(tmp_path).__eq__, []
    monkeypatch.setattr(
        type(tmp_path), "__eq__", lambda self, other: calls.append(1) or equal(self, other)
    )
    assert len(find_normal_images(tmp_path, key="TRAIN_DATA_PATH").samples) == 200
    # Sorting compares a few times for each; all with all would be 20,000 more.
    assert len(calls) < 200**2 / 2
