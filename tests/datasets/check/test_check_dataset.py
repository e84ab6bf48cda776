"""check_dataset.py: every fault is found, named, and none stops the search."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import check_dataset as script
from datasets.check import bmad
from datasets.check.findings import check_dataset
from datasets.folders.splits import Place, places_of_folder
from tests.config_helpers import small_ini
from tests.medical_files import write_nifti
from utils.errors import UserError
from utils.patients import patient_of

ROOT = Path(__file__).parents[3]


def draw(path, seed=None, *, shape=(6, 8), value=None):
    """A picture of seeded noise (by default one that no other file has), or of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, str(path))) if seed is None else seed
    noise = np.random.default_rng([seed, len(str(path))]).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(noise if value is None else np.full(shape, value, np.uint8)).save(path)


def mark(path, levels=(0, 255), shape=(6, 8)):
    """A mask that holds the given levels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.resize(np.array(levels, np.uint8), shape)
    Image.fromarray(values).save(path)


@pytest.fixture
def data(tmp_path):
    """A data set without a fault."""
    folder = tmp_path / "data"
    for name in ("train/good/p1_a", "train/good/p2_b", "valid/good/p3_c", "test/good/p4_d"):
        draw(folder / f"{name}.png")
    for split, stem in (("valid", "p3_e"), ("test", "p4_f")):
        draw(folder / split / "Ungood/img" / f"{stem}.png")
        mark(folder / split / "Ungood/label" / f"{stem}.png")
    return folder


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def found(folder, **options):
    """(severity, kind, text) of each finding, texts relative to the folder."""
    report = check_dataset(places_of_folder(folder), **options)
    return [
        (finding.severity, finding.kind, finding.text.replace(f"{folder}/", ""))
        for finding in report.findings
    ]


def test_a_clean_set(data):
    report = check_dataset(places_of_folder(data))
    assert report.findings == []
    assert report.clean
    summaries = [
        (each.place.name, each.normal, each.anomalous, each.masks) for each in report.splits
    ]
    assert summaries == [("train", 2, 0, 0), ("valid", 1, 1, 1), ("test", 1, 1, 1)]
    assert report.splits[0].sizes == {(6, 8): 2}


def damage(data):
    (data / "train/good/p1_a.png").write_bytes(b"")


def remove_mask(data):
    draw(data / "test/Ungood/img/p5_g.png")


def leave_mask_alone(data):
    mark(data / "test/Ungood/label/p5_g.png")


def two_owners(data):
    draw(data / "test/Ungood/img/p4_f.bmp")


def other_size(data):
    mark(data / "test/Ungood/label/p4_f.png", shape=(8, 6))


def damage_mask(data):
    (data / "test/Ungood/label/p4_f.png").write_bytes(b"")


def empty_mask(data):
    mark(data / "test/Ungood/label/p4_f.png", levels=(0,))


def several_levels(data):
    mark(data / "test/Ungood/label/p4_f.png", levels=(0, 58, 122, 255))


def many_levels(data):
    mark(data / "test/Ungood/label/p4_f.png", levels=range(40))


def marked_normal(data):
    mark(data / "test/good/label/p4_d.png")


def leak(data):
    # The same pixels in a file of another format.
    Image.open(data / "train/good/p1_a.png").save(data / "test/good/p9_x.bmp")


def coloured_leak(data):
    Image.open(data / "train/good/p1_a.png").convert("RGB").save(data / "test/good/p9_x.png")


def both_labels(data):
    copy(data / "test/Ungood/img/p4_f.png", data / "test/good/p9_x.png")


def duplicate(data):
    copy(data / "train/good/p1_a.png", data / "train/good/p9_x.png")


def blank(data):
    draw(data / "train/good/p8_x.png", value=0)
    draw(data / "test/good/p9_x.png", value=0)


def coloured(data):
    draw(data / "train/good/p9_x.png", shape=(6, 8, 3))


def transparent(data):
    Image.open(data / "train/good/p1_a.png").convert("RGBA").save(data / "train/good/p1_a.png")


def empty_split(data):
    (data / "train/good/p1_a.png").unlink()
    (data / "train/good/p2_b.png").unlink()


FAULTS = {
    damage: [("error", "unreadable", "train/good/p1_a.png: cannot be read")],
    remove_mask: [("error", "masks", "test/Ungood/img/p5_g.png: has no mask")],
    leave_mask_alone: [("error", "masks", "test/Ungood/label/p5_g.png: this mask has no image")],
    two_owners: [("error", "masks", "test/Ungood/label/p4_f.png: may belong to test/Ungood/img")],
    other_size: [("error", "mask_size", "test/Ungood/label/p4_f.png: is 6 × 8 pixels, its image")],
    damage_mask: [("error", "unreadable", "test/Ungood/label/p4_f.png: cannot be read")],
    empty_mask: [("warning", "empty_mask", "test/Ungood/label/p4_f.png: marks nothing")],
    several_levels: [("note", "mask_levels", "test: masks hold 0, 58, 122, 255;")],
    many_levels: [("warning", "lossy_mask", "test/Ungood/img/p4_f.png: its mask holds 40 grey")],
    marked_normal: [("warning", "marked_normal", "test/good/p4_d.png: is filed as normal")],
    leak: [("error", "leak", "test/good/p9_x.bmp: is the same picture as train/good/p1_a.png, of")],
    coloured_leak: [("error", "leak", "test/good/p9_x.png: is the same picture as train/good/p1_")],
    both_labels: [("error", "label", "test/good/p9_x.png: is the same picture as test/Ungood/img")],
    duplicate: [("warning", "duplicate", "train/good/p9_x.png: is the same picture as train/good")],
    blank: [
        ("warning", "blank", "train/good/p8_x.png: all pixels are alike"),
        ("warning", "blank", "test/good/p9_x.png: all pixels are alike"),
    ],
    coloured: [("warning", "colour", "train: 1 of 3 images are coloured, such as train/good/p9_x")],
    transparent: [("note", "alpha", "train: 1 images have transparency")],
    empty_split: [("error", "layout", "--data: train holds no images")],
}


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_faults(data, spoil):
    spoil(data)
    findings = found(data)
    expected = FAULTS[spoil]
    assert [finding[:2] for finding in findings] == [each[:2] for each in expected]
    for finding, (_, _, text) in zip(findings, expected, strict=True):
        assert finding[2].startswith(text)


def test_nothing_stops_the_search(data):
    for spoil in (damage, two_owners, leave_mask_alone, other_size, both_labels):
        spoil(data)
    kinds = {kind for _, kind, _ in found(data)}
    assert kinds == {"unreadable", "masks", "mask_size", "label"}


def test_a_missing_split_does_not_stop_the_others(data):
    places = [Place("train", data / "gone", "TRAIN_DATA_PATH"), *places_of_folder(data)[1:]]
    report = check_dataset(places)
    assert [finding.text.split(":")[0] for finding in report.findings] == ["TRAIN_DATA_PATH"]
    assert len(report.splits) == 2


def test_one_folder_for_two_splits_is_a_leak(data):
    places = [Place("valid", data / "test", "VAL"), Place("test", data / "test/../test", "TEST")]
    (finding,) = check_dataset(places).findings
    assert (finding.severity, finding.kind) == ("error", "leak")
    assert "is the valid split as well" in finding.text


def test_patients_in_several_splits(data):
    assert found(data, patient_pattern=r"(p\d)_") == []
    draw(data / "test/good/p1_z.png")
    ((severity, kind, text),) = found(data, patient_pattern=r"(p\d)_")
    assert (severity, kind) == ("error", "patient_overlap")
    assert text == "patient p1 is in train (train/good/p1_a.png), test (test/good/p1_z.png)"


def test_names_without_a_patient(data):
    findings = found(data, patient_pattern=r"p[12]_(b)")
    assert findings[0][:2] == ("error", "patient_pattern")
    assert findings[0][2].startswith("train/good/p1_a.png: p1_a: ")
    assert findings[2][2].endswith("(and 1 more)")


def test_slices_of_volumes_are_compared(data):
    volume = np.random.default_rng(0).integers(0, 900, (6, 5, 3), dtype=np.int16)
    write_nifti(data / "train/good/p6.nii.gz", volume)
    other = np.random.default_rng(1).integers(0, 900, (6, 5, 4), dtype=np.int16)
    write_nifti(data / "test/good/p7.nii", other)
    report = check_dataset(places_of_folder(data))
    assert [each.normal for each in report.splits] == [5, 1, 5]
    assert report.findings == []
    write_nifti(data / "test/good/p7.nii", volume)
    leaks = [text for _, kind, text in found(data) if kind == "leak"]
    assert len(leaks) == 3
    assert leaks[1].startswith("test/good/p7.nii#1: is the same picture as train/good/p6.nii.gz#1")


@pytest.mark.parametrize(
    ("names", "counts", "known"),
    [
        (("Brain_AD", ""), {}, "Brain"),
        (("mine", "resc"), {}, "RESC"),
        ((), {"train": (8000, 0)}, "Chest"),
        ((), {"train": (7, 0), "test": (833, 660)}, "Liver"),
        (("mine",), {"train": (7, 0)}, None),
        ((), {}, None),
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
    assert finding.text.startswith("test: 1 normal and 1 anomalous images, BMAD has 5 and 1")


def run(*arguments):
    return script.main([str(argument) for argument in arguments])


def test_the_command_on_a_folder(data, tmp_path, capsys):
    assert run("--data", data) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["split", "normal", "anomalous", "masks", "size", "folder"]
    assert shown[1].split()[:4] == ["train", "2", "0", "-"]
    assert shown[-1] == "clean"
    leak(data)
    assert run("--data", data, "--json", tmp_path / "new/check.json") == 1
    assert "must be fixed (1)" in capsys.readouterr().out
    content = json.loads((tmp_path / "new/check.json").read_text())
    assert not content["clean"]
    assert content["dataset"] is None
    assert content["splits"][2] == {
        "name": "test",
        "folder": str(data / "test"),
        "num_normal": 2,
        "num_anomalous": 1,
        "num_masks": 1,
        "num_coloured": 0,
        "num_with_alpha": 0,
        "sizes": {"8x6": 3},
        "mask_levels": [0, 255],
        "in_bmad": None,
    }
    assert [finding["kind"] for finding in content["findings"]] == ["leak"]


def test_many_findings_of_a_kind_are_cut_on_the_screen_alone(data, tmp_path, capsys):
    for number in range(9):
        copy(data / "train/good/p1_a.png", data / f"train/good/q{number}.png")
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
    assert shown.startswith("Brain of BMAD")
    assert "7500 + 0" in shown
    draw(data / "test/good/p1_z.png")
    assert run("--config", file, "--set", r"PATIENT_PATTERN=(p\d)_") == 1
    assert "patient p1 is in train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "{data}", "--set", "SEED=1"], "--set: "),
        (["--data", "{data}", "--patient-pattern", "("], "--patient-pattern: "),
        (["--data", "{data}/nowhere"], "holds none of the folders"),
        (["--data", "{data}", "--json", "{data}/train/good/p1_a.png/x"], "--json: "),
        (["--config", "{data}/nowhere.ini"], "nowhere.ini"),
    ],
)
def test_wrong_calls(data, arguments, reason):
    with pytest.raises(UserError, match=reason):
        run(*(argument.format(data=data) for argument in arguments))


@pytest.mark.parametrize("arguments", [[], ["--data", "a", "--config", "b"]])
def test_calls_that_make_no_sense_exit_with_2(arguments):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def test_exit_codes_of_the_process(data):
    def code(*arguments):
        command = [sys.executable, "check_dataset.py", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode

    leak(data)
    assert code("--data", str(data)) == 1
    assert code("--data", str(data / "nowhere")) == 2


def test_help_and_the_check_itself_need_no_torch():
    program = (
        "import sys, check_dataset\n"
        "try: check_dataset.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'numpy' not in sys.modules\n"
        "import datasets.check.command\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("pattern", "patient"),
    [(r"BraTS2021_(\d+)", "00012"), (r"^[^_]+_\d+", "BraTS2021_00012"), (r"x(\d)", None),
     (r"flair(x)?", None)],
)  # fmt: skip
def test_patient_of(pattern, patient):
    stem = "BraTS2021_00012_flair_61"
    if patient:
        assert patient_of(stem, pattern) == patient
    else:
        with pytest.raises(ValueError, match=r"BraTS2021_00012_flair_61.*does not match"):
            patient_of(stem, pattern)
