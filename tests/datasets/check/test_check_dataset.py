"""check_dataset.py: every fault is found, named, and none stops the search."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import check_dataset as script
from datasets.check import bmad
from datasets.check.findings import check_dataset
from datasets.folders.splits import Place, places_of_folder
from datasets.patients import patient_of
from tests.config_helpers import small_ini
from tests.drawn_sets import found, put
from tests.medical_files import write_dicom, write_nifti
from tests.processes import python
from utils.errors import UserError

NORMAL, IMAGE = "train/good/p1_a.png", "test/Ungood/img/p4_f.png"
MASK = "test/Ungood/label/p4_f.png"


def test_a_clean_set(data):
    report = check_dataset(places_of_folder(data))
    assert report.findings == []
    assert report.clean
    assert [(each.place.name, *each.counts, each.masks) for each in report.splits] == [
        ("train", 2, 0, 0),
        ("valid", 1, 1, 1),
        ("test", 1, 1, 1),
    ]
    assert report.splits[0].sizes == {(6, 8): 2}


def damage(name):
    return lambda data: (data / name).write_bytes(b"")


def add(name, **options):
    return lambda data: put(data, name, **options)


def copy(source, target, mode=None):
    # The same pixels, in files of any format.
    return lambda data: Image.open(data / source).convert(mode).save(data / target)


# What spoils the set → severity, kind and text of the finding.
FAULTS = {
    "damaged image": (damage(NORMAL), "error", "unreadable", f"{NORMAL}: cannot be read"),
    "damaged mask": (damage(MASK), "error", "unreadable", f"{MASK}: cannot be read"),
    "no mask": (add("test/Ungood/img/g.png"), "error", "masks", "test/Ungood/img/g.png: has no m"),
    "mask alone": (add("test/Ungood/label/g.png"), "error", "masks",
                   "test/Ungood/label/g.png: this mask has no image"),
    "mask beside its image": (add("train/good/p1_a_mask.png"), "error", "masks",
                              "train/good/p1_a_mask.png: looks like the mask of an image beside"),
    "two owners": (add("test/Ungood/img/p4_f.bmp"), "error", "masks", f"{MASK}: could belong to "),
    "other size": (add(MASK, levels=(0, 255), shape=(8, 6)), "error", "mask_size",
                   f"{MASK}: is 6 × 8 pixels but its image {IMAGE} is 8 × 6;"),
    "empty mask": (add(MASK, levels=[0]), "warning", "empty_mask", f"{MASK}: is empty although"),
    "full mask": (add(MASK, levels=(7, 255)), "warning", "full_mask", f"{MASK}: marks the whole"),
    "several levels": (add(MASK, levels=(0, 58, 122, 255)), "note", "mask_levels",
                       "test: masks contain 0, 58, 122, 255;"),
    "many levels": (add(MASK, levels=range(40)), "warning", "lossy_mask",
                    f"{IMAGE}: its mask has 40 grey levels"),
    "marked normal": (add("test/good/label/p4_d.png", levels=(0, 255)), "warning",
                      "marked_normal", "test/good/p4_d.png: is in the normal folder"),
    "leak": (copy(NORMAL, "test/good/x.bmp"), "error", "leak",
             f"test/good/x.bmp: is the same picture as {NORMAL} in the train split"),
    "coloured leak": (copy(NORMAL, "test/good/x.png", "RGB"), "error", "leak",
                      f"test/good/x.png: is the same picture as {NORMAL} in the train split"),
    "both labels": (copy(IMAGE, "test/good/x.png"), "error", "label",
                    f"test/good/x.png: is the same picture as {IMAGE}, which has the other label"),
    "duplicate": (copy(NORMAL, "train/good/x.png"), "warning", "duplicate",
                  f"train/good/x.png: is the same picture as {NORMAL}"),
    "coloured": (add("train/good/x.png", shape=(6, 8, 3)), "warning", "colour",
                 "train: 1 of 3 images are coloured, such as train/good/x.png"),
    "transparent": (copy(NORMAL, NORMAL, "RGBA"), "note", "alpha",
                    "train: 1 images have transparency"),
    "no normal validation": (lambda data: shutil.rmtree(data / "valid/good"), "warning",
                             "no_normal", "valid: contains no normal images"),
    "no normal test": (lambda data: shutil.rmtree(data / "test/good"), "warning",
                       "no_normal", "test: contains no normal images"),
    "another depth": (copy(NORMAL, "test/good/x.png", "I;16"), "warning", "depth",
                      "1 of 7 images have more than 8 bits (such as test/good/x.png): those"),
    "empty split": (lambda data: shutil.rmtree(data / "train/good"), "error", "layout",
                    "--data: train contains no images"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(data, fault):
    spoil, *expected, text = FAULTS[fault]
    spoil(data)
    ((*finding, said),) = found(data)
    assert finding == expected
    assert said.startswith(text)


def test_blank_images_are_no_duplicates(data):
    put(data, "train/good/p8_x.png", "test/good/p9_x.png", levels=[0])
    assert found(data) == [
        ("warning", "blank", "train/good/p8_x.png: all pixels have the same value"),
        ("warning", "blank", "test/good/p9_x.png: all pixels have the same value"),
    ]


def test_nothing_stops_the_search(data):
    for fault in ("damaged image", "two owners", "mask alone", "other size", "both labels"):
        FAULTS[fault][0](data)
    assert {kind for _, kind, _ in found(data)} == {"unreadable", "masks", "mask_size", "label"}


def test_a_missing_split_does_not_stop_the_others(data):
    places = [Place("train", data / "gone", "TRAIN_DATA_PATH"), *places_of_folder(data)[1:]]
    report = check_dataset(places)
    assert [finding.text.split(":")[0] for finding in report.findings] == ["TRAIN_DATA_PATH"]
    assert len(report.splits) == 2


def test_one_folder_for_two_splits_is_a_leak(data):
    places = [Place("valid", data / "test", "VAL"), Place("test", data / "test/../test", "TEST")]
    (finding,) = check_dataset(places).findings
    assert (finding.severity, finding.kind) == ("error", "leak")
    assert "is also the valid split" in finding.text


def test_patients_in_several_splits(data):
    assert found(data, patient_pattern=r"(p\d)_") == []
    put(data, "test/good/p1_z.png")
    text = "patient p1 is in train (train/good/p1_a.png), test (test/good/p1_z.png)"
    assert found(data, patient_pattern=r"(p\d)_") == [("error", "patient_overlap", text)]
    # Names without a patient are told of as well.
    findings = found(data, patient_pattern=r"p[12]_(b)")
    assert findings[0][:2] == ("error", "patient_pattern")
    assert findings[0][2].startswith("train/good/p1_a.png: p1_a: ")
    assert findings[2][2].endswith("(and 2 more)")


def test_dicom_patients(data):
    files = [data / f"{split}/good/x.dcm" for split in ("train", "valid", "test")]
    for number, path in enumerate(files):
        write_dicom(path, np.full((6, 8), number + np.arange(8), np.uint8), PatientID="ANONYMOUS")
    # One name for all says nothing. Files of 8 bits are as deep as the PNGs.
    assert found(data) == []
    write_dicom(files[0], np.full((6, 8), 9 + np.arange(8), np.uint8), PatientID="P1")
    ((*finding, text),) = found(data)
    assert finding == ["error", "patient_overlap"]
    assert text.startswith("the same PatientID is in valid (valid/good/x.dcm), test (")


def test_slices_of_volumes_are_compared(data):
    random = np.random.default_rng(0)
    volume, other = (random.integers(0, 900, (6, 5, n), dtype=np.int16) for n in (3, 4))
    write_nifti(data / "train/good/p6.nii.gz", volume)
    write_nifti(data / "test/good/p7.nii", other)
    report = check_dataset(places_of_folder(data))
    assert [each.normal for each in report.splits] == [5, 1, 5]
    # 7 slices beside PNGs of 8 bits; a volume of 3 slices and one of 4.
    assert [each.kind for each in report.findings] == ["depth", *["volume_grid"] * 2]
    write_nifti(data / "test/good/p7.nii", volume)
    leaks = [text for _, kind, text in found(data) if kind == "leak"]
    assert len(leaks) == 3
    assert leaks[1].startswith("test/good/p7.nii#1: is the same picture as train/good/p6.nii.gz#1")


@pytest.mark.parametrize(
    ("names", "counts", "known"),
    [
        (("Brain_AD", ""), {}, "Brain"),
        (("mine", "resc"), {}, "RESC"),
        ((), {"train": (8000, 0)}, None),
        ((), {"train": (8000, 0), "valid": (70, 1420)}, "Chest"),
        ((), {"train": (7, 0), "test": (833, 660)}, "Liver"),
        (("mine",), {"train": (7, 0)}, None),
    ],
)
def test_sets_of_bmad_are_recognised(names, counts, known):
    assert bmad.recognise(names, counts) == known


def test_counts_are_compared_with_bmad(data, monkeypatch):
    splits = {"train": (2, 0), "valid": (1, 1), "test": (5, 1)}
    monkeypatch.setattr(bmad, "SPLITS", {"Brain": splits})
    report = check_dataset(places_of_folder(data), names=("Brain_AD",))
    assert report.dataset == "Brain"
    assert report.clean
    ((finding),) = report.findings
    assert finding.severity == "warning"
    assert finding.text.startswith("test: 1 normal and 1 anomalous images, but BMAD has 5 and 1")


def run(*arguments):
    return script.main([str(argument) for argument in arguments])


def test_the_command_on_a_folder(data, tmp_path, capsys):
    assert run("--data", data) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["split", "normal", "anomalous", "masks", "size", "folder"]
    assert shown[1].split()[:4] == ["train", "2", "0", "-"]
    assert shown[-1] == "clean (patients were not compared between splits: use --patient-pattern)"
    copy(NORMAL, "test/good/x.png")(data)
    assert run("--data", data, "--json", tmp_path / "new/check.json") == 1
    assert "must be fixed (1)" in capsys.readouterr().out
    content = json.loads((tmp_path / "new/check.json").read_text())
    (finding,) = content.pop("findings")
    assert (finding["severity"], finding["kind"]) == ("error", "leak")
    empty = ("volume_grids", "volume_spacings", "volume_orientations")
    assert content.pop("splits")[2] == {
        "name": "test", "folder": str(data / "test"), "num_normal": 2, "num_anomalous": 1,
        "num_masks": 1, "num_coloured": 0, "num_with_alpha": 0, "sizes": {"8x6": 3},
        "mask_levels": [0, 255], "num_volumes": 0, "num_slices": 0, **{key: {} for key in empty},
        "in_bmad": None,
    }  # fmt: skip
    assert content == {"clean": False, "dataset": None}


def test_many_findings_of_a_kind_are_cut_on_the_screen_alone(data, tmp_path, capsys):
    for number in range(9):
        copy(NORMAL, f"train/good/q{number}.png")(data)
    run("--data", data, "--json", tmp_path / "check.json")
    shown = capsys.readouterr().out
    assert shown.count("duplicate: ") == 6
    assert "duplicate: and 4 more" in shown
    assert len(json.loads((tmp_path / "check.json").read_text())["findings"]) == 9


def test_the_command_on_a_config(data, tmp_path, capsys):
    paths = {
        "TRAINING.TRAIN_DATA_PATH": f"{data}/train",
        "TRAINING.VAL_DATA_PATH": f"{data}/val",
        "TESTING.TEST_DATA_PATH": f"{data}/test",
    }
    file = tmp_path / "mine.ini"
    file.write_text(small_ini({**paths, "TESTING.EXPERIMENT_NAME": "Brain_AD"}))
    assert run("--config", file) == 0
    shown = capsys.readouterr().out
    assert "Brain of BMAD\n" in shown
    assert "7500 + 0" in shown
    put(data, "test/good/p1_z.png")
    assert run("--config", file, "--set", r"PATIENT_PATTERN=(p\d)_") == 1
    assert "patient p1 is in train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "{data}", "--set", "SEED=1"], "--set: "),
        (["--data", "{data}", "--patient-pattern", "("], "--patient-pattern: "),
        (["--data", "{data}/nowhere"], "is not a folder; pass a data set's folder"),
        (["--data", "{data}", "--json", "{data}/train/good/p1_a.png/x"], "/x: cannot be written"),
        (["--config", "{data}/nowhere.ini"], "nowhere.ini"),
    ],
)
def test_wrong_calls(data, arguments, reason):
    with pytest.raises(UserError, match=reason):
        run(*(argument.format(data=data) for argument in arguments))


def test_exit_codes(data):
    for arguments in ([], ["--data", "a", "--config", "b"]):
        with pytest.raises(SystemExit, match="2"):
            run(*arguments)
    copy(NORMAL, "test/good/x.png")(data)
    for folder, code in ((data, 1), (data / "nowhere", 2)):
        assert python("check_dataset.py", "--data", str(folder)).returncode == code


def test_the_check_itself_needs_no_torch():
    run = python("-c", "import sys, datasets.check.command\nassert 'torch' not in sys.modules")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("pattern", "patient"), [(r"BraTS2021_(\d+)", "00012"), (r"^[^_]+_\d+", "BraTS2021_00012")]
)
def test_patient_of(pattern, patient):
    assert patient_of("BraTS2021_00012_flair_61", pattern) == patient


@pytest.mark.parametrize("pattern", [r"x(\d)", r"flair(x)?"])
def test_no_patient(pattern):
    with pytest.raises(ValueError, match=r"BraTS2021_00012_flair_61.*does not match"):
        patient_of("BraTS2021_00012_flair_61", pattern)
