"""A loader process that is killed, as by a system that is short of memory."""

import gc
import multiprocessing
import os
import signal
import sys
import time

import pytest
from torch.utils.data import Dataset, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from datasets.anomaly_dataset import create_loader
from datasets.images import read_image
from datasets.reading import LoaderDied, loader_deaths_told
from engine.prediction import predict
from engine.testing import test as run_test
from engine.training import train
from utils.errors import Interrupted, UserError


@pytest.fixture
def deadly(monkeypatch):
    """Makes reading a file deadly to a loader process; the main process can read it."""

    def arm(file, number=signal.SIGKILL):
        def read(path, *arguments, **options):
            if path.name == file.name and get_worker_info() is not None:
                os.kill(os.getpid(), number)
            return read_image(path, *arguments, **options)

        monkeypatch.setattr("datasets.anomaly_dataset.read_image", read)
        monkeypatch.setattr("datasets.prediction_dataset.read_image", read)
        return file

    return arm


@pytest.fixture(autouse=True)
def no_hang():
    begun, before = time.monotonic(), set(multiprocessing.active_children())
    yield
    assert time.monotonic() - begun < 60
    # Pytest keeps the error's frames, and with them the loader.
    for each in gc.get_objects():
        if type(each) is _MultiProcessingDataLoaderIter:
            each._shutdown_workers()
    assert set(multiprocessing.active_children()) <= before


def test_in_training(tiny, phantoms, deadly):
    file = deadly(sorted((phantoms / "train" / "good" / "img").iterdir())[5])
    with pytest.raises(LoaderDied) as caught:
        train(tiny("NUM_WORKERS=2"))
    message = str(caught.value)
    assert str(file.name) in message
    assert message.count(".png") == 1
    assert "killed by signal: Killed" in message or "exited unexpectedly" in message
    assert "lower NUM_WORKERS" in message


def test_in_validation_test_and_prediction(tiny, phantoms, tmp_path, deadly):
    train(tiny("N_EPOCHS=1"))
    images = phantoms / "test" / "good" / "img"
    file = deadly(sorted(images.iterdir())[2])
    with pytest.raises(LoaderDied, match=file.name):
        run_test(tiny("NUM_WORKERS=2"))
    assert not (tmp_path / "results" / "test" / "scores.csv").exists()
    with pytest.raises(LoaderDied, match=file.name):
        predict(tiny("NUM_WORKERS=2"), images, tmp_path / "out", recursive=False)
    file = deadly(sorted((phantoms / "valid" / "good" / "img").iterdir())[1])
    with pytest.raises(LoaderDied, match=file.name):
        train(tiny("N_EPOCHS=1", "NUM_WORKERS=2"), overwrite=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_stops_in_good_order(tiny, phantoms, deadly, monkeypatch, number):
    """Schedulers send signals to all processes of a job: the main one ends the readers."""
    deadly(sorted((phantoms / "train" / "good" / "img").iterdir())[5], number)
    main, kill = os.getpid(), os.kill
    monkeypatch.setattr(os, "kill", lambda pid, number: (kill(main, number), kill(pid, number)))
    with pytest.raises(Interrupted, match=rf"{number.name}; no epoch was finished") as caught:
        train(tiny("NUM_WORKERS=2"))
    # Not a death that came with the signal.
    assert isinstance(caught.value.__cause__, Interrupted)


def test_a_reader_that_is_killed_after_a_signal_is_no_error(tiny, phantoms, deadly, monkeypatch):
    deadly(sorted((phantoms / "train" / "good" / "img").iterdir())[5])
    main, kill = os.getpid(), os.kill
    monkeypatch.setattr(
        os, "kill", lambda pid, number: (kill(main, signal.SIGTERM), kill(pid, number))
    )
    with pytest.raises(Interrupted, match="stopped by SIGTERM; "):
        train(tiny("NUM_WORKERS=2"))


def test_a_reader_outlives_a_signal_but_not_for_ever(monkeypatch):
    monkeypatch.setattr("datasets.reading._SECONDS_TO_OUTLIVE", 1)

    class Signalled(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
            time.sleep(0.2 if index == 0 else 60)
            return index

    batches = iter(create_loader(Signalled(), [0, 1], num_workers=1, batch_size=1))
    assert next(batches).tolist() == [0]
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        next(batches)


def test_a_reader_ends_at_once_where_the_main_process_ends_it():
    """As Python does at the exit of a process that has failed: it waits for its readers' ends."""

    class Slow(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            time.sleep(60 * index)
            return index

    before = set(multiprocessing.active_children())
    batches = iter(create_loader(Slow(), [0, 1], num_workers=1, batch_size=1))
    assert next(batches).tolist() == [0]
    (reader,) = set(multiprocessing.active_children()) - before
    reader.terminate()
    reader.join(10)
    assert reader.exitcode == 0


def test_a_death_while_processes_start_leaves_no_traceback_behind(monkeypatch):
    reset, behind = _MultiProcessingDataLoaderIter._reset, []

    def reset_after_the_death(self, *arguments, **options):
        # Dead, and not yet waited for.
        os.waitid(os.P_PID, self._workers[0].pid, os.WEXITED | os.WNOWAIT)
        reset(self, *arguments, **options)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_reset", reset_after_the_death)
    monkeypatch.setattr(sys, "unraisablehook", behind.append)
    loader = create_loader(
        [1, 2], [], num_workers=2, worker_init_fn=lambda number: os.kill(os.getpid(), 9)
    )
    with pytest.raises(RuntimeError, match="killed by signal") as caught:
        iter(loader)
    caught.value.__traceback__ = None
    del caught
    gc.collect()
    assert not behind


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), UserError("x: damaged")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, loader_deaths_told():
        raise error
    assert caught.value is error


def test_a_process_that_read_nothing_of_ours():
    with pytest.raises(LoaderDied, match="nothing yet"), loader_deaths_told():
        raise RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly")
