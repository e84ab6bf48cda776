"""Losses and weights that are not finite stop a run before it is saved."""

import itertools

import pytest
import torch

from datasets.folders.samples import Split
from engine.train.loss_watch import LossWatch
from engine.train.start import create_trainer, train
from tests.conftest import read_csv
from utils.errors import UserError


def test_a_loss_that_is_not_finite_stops_the_run(tiny, monkeypatch):
    config = tiny("N_EPOCHS=3", "EVAL_STEPSIZE=1")
    trainer = create_trainer(config)
    loss, calls = trainer.criterion.loss, itertools.count(1)

    def poisoned(*batch):
        # The loader makes four steps per epoch: the sixth is in the second epoch.
        return loss(*batch) * (float("nan") if next(calls) == 6 else 1)

    monkeypatch.setattr(trainer.criterion, "loss", poisoned)
    with pytest.raises(UserError) as error:
        trainer.run()
    message = str(error.value)
    assert "epoch 2: the loss is nan" in message
    assert message.count(".png") == 4
    assert str(trainer.files.last) in message
    assert all(
        torch.isfinite(t).all() for t in torch.load(trainer.files.last, weights_only=True).values()
    )


def test_weights_that_are_not_finite_do_not_replace_good_ones(tiny, monkeypatch):
    trainer = create_trainer(tiny("N_EPOCHS=3"))
    step, steps = trainer.optimizer.step, []

    def poisoned():
        step()
        steps.append(0)
        if len(steps) == 8:  # the last of the second epoch: no loss is computed after it
            with torch.no_grad():
                trainer.model.junction.queries[0, 0, 0] = float("nan")

    monkeypatch.setattr(trainer.optimizer, "step", poisoned)
    with pytest.raises(
        UserError, match=r"epoch 2: the last step produced .*first in junction\.queries"
    ):
        trainer.run()
    assert len(steps) == 8
    assert all(
        torch.isfinite(t).all() for t in torch.load(trainer.files.last, weights_only=True).values()
    )
    folder = train(tiny("N_EPOCHS=3"), resume=True)
    assert len(read_csv(folder / "training.csv")) == 3


def test_the_loss_watch_on_a_gpu_finds_the_step_that_failed(tmp_path):
    split = Split(tmp_path, (), has_masks=False)
    watch = LossWatch(1, split, tmp_path / "none", torch.device("cpu"))
    watch._interval = 3
    watch.add(torch.tensor(1.0), torch.tensor([]))
    assert not watch.look()
    watch.add(torch.tensor(3.0), torch.tensor([]))
    assert watch.mean() == 2.0
    watch.add(torch.tensor(float("inf")), torch.tensor([]))
    with pytest.raises(UserError, match="no checkpoint has been saved yet"):
        watch.mean()
