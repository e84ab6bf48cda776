"""A loader process that is killed, as by a system that is short of memory."""

import gc
import multiprocessing
import os
import signal
import sys
import time

import pytest
from torch.utils.data import get_worker_info
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
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 60
    # Pytest keeps the error's frames, and with them the loader.
    for process in multiprocessing.active_children():
        process.kill()


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


def test_a_signal_to_all_processes_stops_in_good_order(tiny, phantoms, deadly, monkeypatch):
    """Schedulers send SIGTERM to all processes of a job: readers die of it, the main one not."""
    deadly(sorted((phantoms / "train" / "good" / "img").iterdir())[5], signal.SIGTERM)
    main, kill = os.getpid(), os.kill
    monkeypatch.setattr(os, "kill", lambda pid, number: (kill(main, number), kill(pid, number)))
    with pytest.raises(Interrupted, match=r"SIGTERM; no epoch was finished: give the same command"):
        train(tiny("NUM_WORKERS=2"))


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
