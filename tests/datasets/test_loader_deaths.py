"""A loader process that is killed, as by a system that is short of memory."""

import gc
import multiprocessing
import os
import signal
import time

import pytest
from torch.utils.data import Dataset, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from datasets.dataset import create_loader
from datasets.readers.image import read_image
from engine.prediction.predict import Output, predict
from engine.testing.test import test as run_test
from engine.train.start import train
from utils.errors import UserError, run_script


@pytest.fixture
def deadly(monkeypatch):
    """Makes reading a file deadly to a loader process; the main process can read it."""

    def arm(file):
        def read(path, *arguments, **options):
            if path.name == file.name and get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return read_image(path, *arguments, **options)

        monkeypatch.setattr("datasets.folders.samples.read_image", read)

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


@pytest.fixture
def ending(capsys):
    """Exit code and last words of what a script runs."""

    def run(main):
        with pytest.raises(SystemExit) as ended:
            run_script(main)
        return ended.value.code, capsys.readouterr().err.splitlines()[-1]

    return run


def check_told(code, line):
    assert code == 2
    assert line.startswith("error: a data-loading process ")
    assert "killed by signal: Killed. " in line or "exited unexpectedly. " in line
    assert line.endswith("lower NUM_WORKERS or the batch size")


def test_in_training(tiny, phantoms, deadly, ending):
    deadly(sorted((phantoms / "train" / "good" / "img").iterdir())[5])
    check_told(*ending(lambda: train(tiny("NUM_WORKERS=2"))))


def test_in_validation_test_and_prediction(trained, phantoms, tmp_path, deadly, ending):
    images = phantoms / "test" / "good" / "img"
    deadly(sorted(images.iterdir())[2])
    config = trained("NUM_WORKERS=2")
    check_told(*ending(lambda: run_test(config)))
    assert not (tmp_path / "results" / "test" / "scores.csv").exists()
    check_told(*ending(lambda: predict(config, [images], Output(tmp_path / "out"))))
    deadly(sorted((phantoms / "valid" / "good" / "img").iterdir())[1])
    check_told(*ending(lambda: train(trained("N_EPOCHS=1", "NUM_WORKERS=2"), overwrite=True)))


def test_a_reader_is_deaf_to_ctrl_c():
    class Signalled(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            os.kill(os.getpid(), signal.SIGINT)
            return index

    loader = create_loader(Signalled(), num_workers=1, batch_size=1)
    assert [batch.tolist() for batch in loader] == [[0], [1]]


def test_a_death_while_a_file_is_written_is_still_told(ending):
    def main():
        try:
            raise RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly")
        except RuntimeError as error:
            raise UserError("x.pth: cannot be written") from error

    check_told(*ending(main))
