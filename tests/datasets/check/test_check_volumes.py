"""check_dataset.py on volumes: counts, differences in space, masks on other grids, patients."""

import nibabel
import numpy as np
import pytest

from datasets.check.findings import check_dataset
from datasets.check.report import as_json, as_text
from datasets.folders.splits import places_of_folder
from tests.drawn_sets import found
from tests.medical_files import write_dicom, write_nifti
from tests.volume_sets import AFFINE, SHAPE, write_volumes


@pytest.fixture
def volumes(tmp_path):
    """Volumes in all three splits, on one grid."""
    write_volumes(tmp_path / "train", anomalous=0, seed=1)
    write_volumes(tmp_path / "valid", normal=1, anomalous=1, seed=2)
    write_volumes(tmp_path / "test", normal=2, anomalous=1, seed=3)
    return tmp_path


def noise(shape=SHAPE):
    return np.random.default_rng(9).integers(0, 400, shape).astype(np.int16)


def test_volumes_and_slices_are_counted(volumes):
    report = check_dataset(places_of_folder(volumes))
    assert report.findings == []
    splits = as_json(report)["splits"]
    assert [(each["num_volumes"], each["num_slices"]) for each in splits] == [
        *((3, 18), (2, 12), (3, 18))
    ]
    assert splits[0]["volume_grids"] == {"20 × 28 × 6": 3}
    assert splits[0]["volume_spacings"] == {"1 × 1 × 3 mm": 3}
    assert splits[0]["volume_orientations"] == {"RAI": 3}
    header, train, *_ = as_text(report).splitlines()
    assert header.split()[:4] == ["split", "normal", "anomalous", "volumes"]
    assert "3 (18 slices)" in train


# Another volume in the test split → kinds of findings, and what the line of that split says.
OTHERS = {
    "grid": ((20, 28, 5), AFFINE, {"grid"}, "20 × 28 × 6 (3, such as"),
    "spacing": (SHAPE, np.diag([1, 1, -2.5, 1]), {"spacing", "affine"}, "1 × 1 × 2.5 mm (1, such"),
    "orientation": (SHAPE, np.diag([-1, 1, -3, 1]), {"orientation", "affine"}, "LAI (1, such as"),
    "affine": (SHAPE, AFFINE + np.eye(4, k=3) * 7, {"affine"},
               "[1 0 0 7; 0 1 0 0; 0 0 -3 0] (1, such as test/good/x.nii.gz)"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_volumes_that_lie_otherwise_are_told_by_split(volumes, what):
    shape, affine, expected, text = OTHERS[what]
    write_nifti(volumes / "test" / "good" / "x.nii.gz", noise(shape), affine)
    findings = found(volumes)
    assert {kind for _, kind, _ in findings} == {f"volume_{each}" for each in expected}
    lines = [line for _, kind, line in findings if kind == f"volume_{what}"]
    assert [line.partition(":")[0] for line in lines] == ["train", "valid", "test"]
    assert text in lines[2]
    severities = {severity for severity, kind, _ in findings if kind == f"volume_{what}"}
    assert severities == {"warning" if what == "spacing" else "note"}


def test_many_grids_are_cut_short(volumes):
    for number in range(4):
        write_nifti(volumes / "train" / "good" / f"x{number}.nii", noise((20, 28, 9 + number)))
    (line,) = [text for _, kind, text in found(volumes) if text.startswith("train: grid")]
    assert line.endswith(", 2 more")


def test_a_mask_on_another_grid_is_told(volumes):
    (mask,) = (volumes / "test" / "Ungood" / "label").iterdir()
    values = np.asarray(nibabel.load(mask).dataobj)
    write_nifti(mask, values[:, :, ::-1].copy(), AFFINE @ flipped(SHAPE[2]))
    ((severity, kind, text),) = found(volumes)
    assert (severity, kind) == ("note", "mask_grid")
    assert text.startswith(f"test/Ungood/label/{mask.name}: is on a different grid from its image")
    assert "orientation RAS instead of RAI" in text
    assert "grid" not in text.partition("(")[2]


def flipped(length: int) -> np.ndarray:
    """Voxels of a third axis that is stored backwards."""
    flip = np.diag([1.0, 1, -1, 1])
    flip[2, 3] = length - 1
    return flip


def test_a_damaged_volume_is_counted_and_told_once(volumes):
    (volumes / "train" / "good" / "p0_0.nii.gz").write_bytes(b"no volume")
    findings = found(volumes)
    assert [kind for _, kind, _ in findings] == ["unreadable"]


def test_patients_across_splits_are_told_by_dicom_and_not_named(tmp_path):
    generator = np.random.default_rng(0)
    for split, patients in {"train": ("ANNA", "BERT"), "test": ("BERT", "CARL")}.items():
        for number, patient in enumerate(patients):
            pixels = generator.integers(0, 255, (8, 8)).astype(np.uint8)
            path = tmp_path / split / "good" / f"{number}.dcm"
            write_dicom(path, pixels, PatientID=patient, WindowCenter=128, WindowWidth=256)
    text = "the same PatientID is in train (train/good/1.dcm), test (test/good/0.dcm)"
    assert found(tmp_path) == [("error", "patient_overlap", text)]
