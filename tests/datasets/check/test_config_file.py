"""check_dataset.py --write-config: a config that trains, for a folder that was understood."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from check_dataset import main
from tests.volume_sets import write_volumes
from utils.config.load import load_config
from utils.errors import UserError


@pytest.fixture
def data(phantoms, tmp_path, monkeypatch):
    shutil.copytree(phantoms, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    return Path("mine")


def test_the_config_names_what_is_there_and_the_next_commands(data, capsys):
    file = Path("configs/mine.ini")
    assert main(["--data", str(data), "--write-config", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "Wrote configs/mine.ini. Next:",
        "  python run_training.py --config configs/mine.ini",
        "  python run_test.py --config configs/mine.ini",
        "  python run_predict.py --config configs/mine.ini --input NEW_IMAGES",
    ]
    text = file.read_text(encoding="utf-8")
    num_train = len(list((data / "train").rglob("*.png")))
    assert f"# {num_train} normal images, " in text
    assert "grey, with masks: the threshold is learnt on these." in text
    assert "SLICE_AXIS" not in text
    assert "INTENSITY_WINDOW" not in text
    settings = [line for line in text.splitlines() if line and line[0] not in "#["]
    assert len(settings) == 9
    config = load_config(file)
    assert config.training.train_data_path == data / "train"
    assert config.testing.test_data_path == data / "test"
    assert config.training.batch_size_train <= num_train
    assert config.training.n_epochs == 300
    assert config.testing.checkpoint_path == Path("results/mine/checkpoints/last_ckpt.pth")


def test_without_a_test_folder_the_validation_images_are_named_with_a_warning(data, capsys):
    shutil.rmtree(data / "test")
    main(["--data", str(data), "--write-config", "mine.ini"])
    assert load_config("mine.ini").testing.test_data_path == data / "valid"
    text = Path("mine.ini").read_text(encoding="utf-8")
    assert "# There is no test folder" in text
    assert "Put images of other patients into mine/test and name it here." in text
    assert capsys.readouterr().out.splitlines()[-6:-3] == [
        "There is no test folder, so TEST_DATA_PATH names the validation images: metrics on them "
        "are too",
        "optimistic. Put images of other patients into a test folder, and set TEST_DATA_PATH to "
        "it.",
        "Wrote mine.ini. Next:",
    ]


def test_the_validation_folder_may_have_its_full_name(data):
    (data / "valid").rename(data / "validation")
    assert main(["--data", str(data), "--write-config", "mine.ini"]) == 0
    assert load_config("mine.ini").training.val_data_path == data / "validation"


def test_what_cannot_be_written_is_refused(data, capsys):
    arguments = ["--data", str(data), "--write-config", "mine.ini"]
    shutil.move(data / "valid", "valid")
    with pytest.raises(UserError, match="mine has no folder valid; add valid/good"):
        main(arguments)
    shutil.move("valid", data / "valid")
    image = next((data / "train").rglob("*.png"))
    content = image.read_bytes()
    image.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"mine\.ini was not written; fix the problems above first"):
        main(arguments)
    image.write_bytes(content)
    main(arguments)
    capsys.readouterr()
    with pytest.raises(UserError, match=r"mine\.ini already exists"):
        main(arguments)
    assert capsys.readouterr().out == "", "said before anything is read"
    with pytest.raises(UserError, match="use it with --data"):
        main(["--config", "mine.ini", "--write-config", "other.ini"])


def test_a_set_of_volumes_has_lines_on_windows_and_slices(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, split in enumerate(("train", "valid", "test")):
        write_volumes(Path("mine") / split, seed=number)
    shutil.rmtree("mine/train/Ungood")
    main(["--data", "mine", "--write-config", "mine.ini"])
    text = Path("mine.ini").read_text(encoding="utf-8")
    assert "\nINTENSITY_WINDOW = auto\n" in text
    assert "\n# SLICE_AXIS = axial\n" in text
    assert load_config("mine.ini").training.slice_axis == "axial"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_of_16_bits_have_a_line_on_windows(data, suffix):
    for path in [path for path in data.rglob("*.png") if path.parent.name != "label"]:
        pixels = np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(pixels * 16).save(path.with_suffix(f".{suffix}"))
        if suffix != "png":
            path.unlink()
    main(["--data", str(data), "--write-config", "mine.ini"])
    text = Path("mine.ini").read_text(encoding="utf-8")
    assert "\nINTENSITY_WINDOW = auto\n" in text
    assert "SLICE_AXIS" not in text
    assert load_config("mine.ini").testing.intensity_window == "auto"


def test_the_pattern_that_tells_patients_is_written(data):
    for path in [*data.rglob("*.png")]:
        path.rename(path.with_name(f"{path.parts[1]}_{path.name}"))
    pattern = r"([a-z]+)_\d"
    call = ["--data", str(data), "--write-config", "mine.ini", "--patient-pattern", pattern]
    assert main(call) == 0
    assert load_config("mine.ini").testing.patient_pattern == pattern
