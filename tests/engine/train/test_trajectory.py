"""The recipe of the published training: the same losses, rates and weights, step by step."""

import json
import shutil

import pytest
import torch
from torch.utils.data import DataLoader

from engine.train.loss_watch import LossWatch
from engine.train.start import create_trainer
from models.onednn import OneDnnLinear
from tests.conftest import GOLDEN


@pytest.fixture(scope="module")
def published():
    """What the published code gives in 30 steps from tests/golden/checkpoint.pth."""
    return json.loads((GOLDEN / "trajectory.json").read_text(encoding="utf-8"))


@pytest.fixture(params=[1, 2])
def trainer(request, published, golden, golden_in, tmp_path, monkeypatch):
    """A run on the published steps' images, each step in one batch or accumulated from two."""
    rows = [row for step in published["order"] for row in step]
    (tmp_path / "train").mkdir()
    for place, row in enumerate(rows):
        shutil.copy(golden["paths"][row], tmp_path / "train" / f"{place:03}.png")
    batch_size = len(published["order"][0]) // request.param
    changes = {
        "MODEL_CKPT_PATH": "checkpoint.pth",
        "TRAIN_DATA_PATH": tmp_path / "train",
        "RESULTS_PATH": tmp_path / "results",
        "LR": published["lr_max"],
        "BATCH_SIZE_TRAIN": batch_size,
        "ACCUMULATE": request.param,
    }
    trainer = create_trainer(golden_in(*(f"TRAINING.{key}={changes[key]}" for key in changes)))
    # The published steps were taken in this order, without augmentation and without dropout.
    trainer.loader = DataLoader(trainer.dataset, batch_size)
    train = trainer.model.train
    monkeypatch.setattr(trainer.forward, "train", lambda mode=True: train(False))
    return trainer


def test_training_follows_the_published_steps(trainer, published, monkeypatch):
    losses: list[float] = []
    rates: list[float] = []
    add = LossWatch.add

    def noted(watch: LossWatch, loss: torch.Tensor, indices: torch.Tensor) -> None:
        losses.append(loss.item())
        add(watch, loss, indices)

    monkeypatch.setattr(LossWatch, "add", noted)
    trainer.optimizer.optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    onednn = any(isinstance(part, OneDnnLinear) for part in trainer.model.modules())
    assert onednn == torch.backends.mkldnn.is_available()
    trainer.run()
    accumulate = trainer.settings.accumulate
    of_steps = torch.tensor(losses).reshape(-1, accumulate).mean(dim=1)
    assert of_steps.tolist() == pytest.approx(published["losses"], rel=0, abs=1e-5)
    assert rates == pytest.approx(published["lrs"], rel=1e-9)
    of_epochs = len(rates) // trainer.settings.n_epochs
    assert [row["lr"] for row in trainer.progress.rows] == rates[of_epochs - 1 :: of_epochs]
    norms = {
        name: parameter.norm().item()
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
    }
    assert norms == pytest.approx(published["weight_norms"], rel=1e-4)
