"""engine.batch_size: BATCH_SIZE_TRAIN = auto."""

import pytest

from engine.batch_size import largest_fitting
from engine.training import train
from engine.training_state import saved_batch_size
from utils.config import load_config
from utils.errors import UserError


@pytest.mark.parametrize(
    ("limit", "most", "expected"),
    [
        (0, 100, 0),
        (1, 100, 1),
        (5, 100, 5),
        (7, 100, 7),
        (8, 100, 8),
        (13, 100, 8),
        (100, 1000, 96),
        (1000, 18, 18),
        (1000, 1, 1),
        (17, 20, 16),
        (999, 1000, 992),
    ],
)
def test_the_largest_batch_is_found_in_few_trials(limit, most, expected):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= limit

    assert largest_fitting(fits, most) == expected
    assert len(tried) == len(set(tried)) <= 20
    assert max(tried) <= most


def test_a_cpu_has_no_memory_to_measure(tiny):
    with pytest.raises(UserError, match=r"BATCH_SIZE_TRAIN = auto.*the device is cpu"):
        train(tiny("BATCH_SIZE_TRAIN=auto"))


def test_what_was_found_is_written_down_and_taken_up_again(tiny, monkeypatch):
    monkeypatch.setattr("engine.training.find_batch_size", lambda *_, **__: 6)
    folder = train(tiny("BATCH_SIZE_TRAIN=auto", "N_EPOCHS=1"))
    assert load_config(folder / "config.ini").training.batch_size_train == 6
    state = folder / "checkpoints" / "training_state.pth"
    assert saved_batch_size(state) == 6

    def not_again(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("engine.training.find_batch_size", not_again)
    assert train(tiny("BATCH_SIZE_TRAIN=auto", "N_EPOCHS=1"), resume=True) == folder


def test_resuming_without_a_state_says_so(tiny):
    with pytest.raises(UserError, match="nothing to resume"):
        train(tiny("BATCH_SIZE_TRAIN=auto"), resume=True)
