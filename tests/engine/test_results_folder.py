"""Where results may go, and what may be written over."""

import hashlib
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from engine.prediction.predict import Output, predict
from engine.run_folder import check_same_test, one_trainer_in
from engine.testing.test import test as run_test
from engine.train.start import create_trainer, train
from tests.conftest import read_csv
from tests.engine.train.test_training import press_ctrl_c
from utils.config.load import ini_text
from utils.errors import UserError


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: time of change and content."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def link_to(target: str):
    def make(folder: Path) -> Path:
        (folder / "link").symlink_to(folder / target)
        return folder / "link"

    return make


def at(place: str):
    return lambda folder: folder / place


PLACES = {
    "the root": (at("/"), "is the root of the file system"),
    "the training images": (at("data/train"), "TRAIN_DATA_PATH = "),
    "above all images": (at("data"), "TRAIN_DATA_PATH = "),
    "above them, by a detour": (at("x/../data"), "TRAIN_DATA_PATH = "),
    "in the validation images": (at("data/valid/results"), "VAL_DATA_PATH = "),
    "in the test images": (at("data/test/good/x"), "TEST_DATA_PATH = "),
    "a link to images": (link_to("data/train"), "TRAIN_DATA_PATH = "),
    "a link to nothing": (link_to("nowhere"), "cannot be a folder"),
    "a link in a circle": (link_to("link"), "cannot be a folder"),
    "a file": (at("tiny.ini"), "cannot be a folder"),
    "below a file": (at("tiny.ini/results"), "cannot be a folder"),
    "with a comment": (at("results  # mine"), "contains a comment; put comments on"),
    "of Windows": (at("results\\mine"), "is a Windows path; write / "),
}


@pytest.fixture
def own_data(tiny, tmp_path, phantoms):
    """Configs on a copy of the phantoms, which a fault could spoil."""
    (tmp_path / "data").unlink()
    shutil.copytree(phantoms, tmp_path / "data")
    return tiny


@pytest.mark.parametrize("name", PLACES)
def test_places_that_are_refused(own_data, tmp_path, name):
    make, said = PLACES[name]
    place = make(tmp_path)
    before = snapshot(tmp_path)
    for key, function in (
        ("RESULTS_PATH", train),
        ("RESULTS_PATH", run_test),
        ("--output", lambda config: predict(config, [tmp_path / "one.png"], Output(place))),
    ):
        with pytest.raises(UserError) as caught:
            function(own_data(f"RESULTS_PATH={place}"))
        message = str(caught.value)
        assert message.startswith(f"{key}: {place}")
        assert said in message
        assert "\n" not in message
    assert snapshot(tmp_path) == before


def test_a_folder_that_may_not_be_written(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o555)
    # The superuser may write anywhere: ask as if for somebody else.
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder and real(path, mode))
    with pytest.raises(UserError, match=r"run is not writable; fix the permissions of .*"):
        train(tiny(f"RESULTS_PATH={folder / 'run'}"))
    assert list(folder.iterdir()) == []


def test_nothing_outside_the_results_is_changed_or_removed(own_data, tmp_path):
    # A link to another folder is a folder.
    folder = tmp_path / "disk"
    (tmp_path / "results").symlink_to(folder)
    for name in ("sentinel", "checkpoints/notes.txt", "tensorboard/notes.txt", "test/notes.txt"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    (tmp_path / "elsewhere" / "checkpoints").mkdir(parents=True)
    (tmp_path / "elsewhere" / "checkpoints" / "last_ckpt.pth").write_text("mine")
    before = snapshot(tmp_path)
    train(own_data("N_EPOCHS=1"))
    run_test(own_data())
    train(own_data("N_EPOCHS=1"), overwrite=True)
    run_test(own_data("REDUCTION=max"))
    after = snapshot(tmp_path)
    assert {name: after[name] for name in before} == before
    ours = {name for name in after if name not in before}
    assert all(Path(name).is_relative_to(folder) for name in ours)


# --- Training -----------------------------------------------------------------------------------


def test_a_checkpoint_from_elsewhere_is_not_overwritten_unasked(tiny, tmp_path):
    checkpoint = tmp_path / "results" / "checkpoints" / "last_ckpt.pth"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"downloaded")
    with pytest.raises(UserError, match=r"--overwrite"):
        train(tiny("N_EPOCHS=1"))
    assert checkpoint.read_bytes() == b"downloaded"


def test_a_run_that_takes_the_place_of_another_leaves_nothing_of_it(tiny, monkeypatch):
    folder = train(tiny("N_EPOCHS=2"))
    names = ("best_ckpt.pth", "last_ckpt.pth", "training_state.pth")
    assert all((folder / "checkpoints" / name).is_file() for name in names)

    with monkeypatch.context() as patch:
        patch.setattr("engine.train.start.Trainer._train_epoch", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(tiny("N_EPOCHS=2", "LR=1e-4"), overwrite=True)
    # Nothing that --resume, or a test, could take for the new run's.
    assert not list((folder / "checkpoints").iterdir())
    assert not (folder / "training.csv").exists()
    with pytest.raises(UserError, match="nothing to resume"):
        train(tiny("N_EPOCHS=2", "LR=1e-4"), resume=True)


def test_what_a_run_starts_from_is_not_removed(trained, tmp_path):
    checkpoints = tmp_path / "results" / "checkpoints"
    shutil.copy(checkpoints / "last_ckpt.pth", checkpoints / "best_ckpt.pth")
    before = snapshot(checkpoints)
    for name in ("last_ckpt.pth", "best_ckpt.pth", "training_state.pth"):
        with pytest.raises(UserError, match=r"MODEL_CKPT_PATH.*another RESULTS_PATH"):
            train(trained("N_EPOCHS=1", f"MODEL_CKPT_PATH={checkpoints / name}"), overwrite=True)
    assert snapshot(checkpoints) == before


def hold(folder: Path, ready, done) -> None:
    with one_trainer_in(folder):
        ready.set()
        done.wait(60)


def test_two_processes_do_not_train_in_one_folder(tiny, tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "results", ready, done))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match=r"another process is training in"):
        train(tiny("N_EPOCHS=1"))
    holder.kill()
    holder.join()
    # What it had half written is removed, and nothing else.
    checkpoints = tmp_path / "results" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / ".tmp-0123456789abcdef").write_bytes(b"half a checkpoint")
    (checkpoints / ".tmp-mine").write_bytes(b"not ours")
    train(tiny("N_EPOCHS=1"))
    assert [file.name for file in checkpoints.glob(".tmp*")] == [".tmp-mine"]


def test_a_run_that_another_process_has_finished_meanwhile_is_kept(tiny, monkeypatch):
    def slow(config, **_):
        monkeypatch.undo()
        train(config)
        return create_trainer(config)

    monkeypatch.setattr("engine.train.start.create_trainer", slow)
    with pytest.raises(UserError, match="already contains a training run"):
        train(tiny("N_EPOCHS=1"))


# --- Testing ------------------------------------------------------------------------------------


@pytest.fixture
def tested(tiny):
    """The files by which a test is known, without the test."""
    folder = tiny().testing.results_path
    folder.mkdir(parents=True)
    (folder / "config.ini").write_text(ini_text(tiny()))
    for name in ("scores.csv", "metrics.json"):
        (folder / name).write_text("")
    return tiny


def test_a_test_may_be_repeated(tested):
    # How it runs, where things lie and what it is called may differ.
    check_same_test(tested("NUM_WORKERS=3", "EXPERIMENT_NAME=other", "REPORT_IMAGES=2"))
    # A folder without results is free for any.
    for name in ("scores.csv", "metrics.json"):
        (tested().testing.results_path / name).unlink()
    check_same_test(tested("REDUCTION=max"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("REDUCTION=max", r"REDUCTION: was 'mean', is 'max'"),
        ("CHECKPOINT_PATH=other.pth", r"CHECKPOINT_PATH: was .*is 'other.pth'"),
        ("TEST_DATA_PATH=other", r"TEST_DATA_PATH: was"),
        ("VAL_DATA_PATH=other", r"VAL_DATA_PATH: was"),
    ],
)
def test_results_of_another_test_are_kept(tested, override, said):
    with pytest.raises(UserError, match=said) as caught:
        check_same_test(tested(override))
    assert "--overwrite" in str(caught.value)


@pytest.mark.parametrize("content", [None, "[nonsense"])
def test_results_of_an_unknown_config_are_kept(tested, content):
    config = tested().testing.results_path / "config.ini"
    config.unlink()
    if content is not None:
        config.write_text(content)
    with pytest.raises(UserError, match=r"without the config that produced them"):
        check_same_test(tested())


def test_results_of_an_older_checkpoint_are_kept(tested):
    config = tested()
    checkpoint = config.testing.checkpoint_path
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"old")
    digest = hashlib.sha256(b"old").hexdigest()
    metrics = config.testing.results_path / "metrics.json"
    metrics.write_text(json.dumps({"checkpoint_sha256": digest}))
    check_same_test(config)
    checkpoint.write_bytes(b"new")
    with pytest.raises(UserError, match=r"last_ckpt\.pth has changed since.*--overwrite"):
        check_same_test(config)


def test_a_test_that_is_cut_short_leaves_no_metrics_of_an_older_one(trained, monkeypatch):
    config = trained()
    run_test(config)
    folder = config.testing.results_path
    check_same_test(config)
    assert len(read_csv(folder / "scores.csv")) == 7
    assert json.loads((folder / "metrics.json").read_text())["num_images"] == 7
    assert (folder / "report.html").is_file()

    monkeypatch.setattr("engine.testing.results.roc_figure", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run_test(trained("REDUCTION=max"))
    assert (folder / "scores.csv").is_file()
    assert not (folder / "metrics.json").exists()
    assert not (folder / "report.html").exists()
