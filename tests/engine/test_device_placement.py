"""A step holds no hidden tensor on the CPU and never waits for the device, without having one.

Tensors without data take the device's place: on ``meta`` a value that is read raises, and so does
an index whose size depends on values; ``FakeTensorMode`` says the same of "cuda".
"""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datasets.transforms import normalise
from engine.build import build_autoencoder, build_criteria
from engine.evaluate.reductions import image_scores, pixel_scores
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria
from utils.config.criteria import CriterionSpec

# SSIM and MS_SSIM are left out: pytorch_msssim sends its window of 7 or 11 numbers in every step.
CRITERIA = (
    "PERCEPTUAL_VIT_mae_multi",
    "PERCEPTUAL_VIT_mae",
    "PERCEPTUAL_RESNET18",
    "EMBED_MSE",
    "MSE",
)


class OnlyOn(TorchDispatchMode):
    """Raises where an operation touches a tensor of another device; numbers are on none."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves((args, kwargs, out)) if isinstance(each, Tensor)]
        elsewhere = {each.device.type for each in tensors if each.dim()} - {self.device}
        assert not elsewhere, f"{func} on {elsewhere}"
        self.operations += 1
        return out


def built(settings, kind: str) -> tuple[QFormerAutoencoder, WeightedCriteria]:
    (criterion,) = build_criteria(settings, [CriterionSpec.of(settings, kind)])
    return build_autoencoder(settings), criterion


def place(module: nn.Module, device: str) -> None:
    """As ``module.to(device)``, which has no data to copy from under FakeTensorMode."""
    for part in module.modules():
        for name, old in part.named_parameters(recurse=False):
            new = torch.empty(old.shape, dtype=old.dtype, device=device)
            setattr(part, name, nn.Parameter(new, requires_grad=old.requires_grad))
        for name, old in part.named_buffers(recurse=False):
            setattr(part, name, torch.empty(old.shape, dtype=old.dtype, device=device))


def images(settings, device: str) -> Tensor:
    shape = (2, 3, settings.resize, settings.resize)
    return torch.empty(shape, dtype=torch.uint8, device=device)


@pytest.mark.parametrize("criterion_name", CRITERIA)
def test_a_training_step_stays_on_its_device(tiny, monkeypatch, criterion_name):
    # PyTorch knows no autocast for meta; what is left out here only turns it off.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    settings = tiny(f"CRITERION_TRAIN={criterion_name}", "CRITERION_TRAIN_WEIGHTS=1").training
    model, criterion = built(settings, "TRAIN")
    for module in (model.train(), criterion):
        place(module, "meta")
    with OnlyOn("meta") as watched:
        normalised = normalise(images(settings, "meta"))
        loss = criterion.loss(normalised, model(normalised))
        loss.backward()
    assert {each.grad.device.type for each in model.trained_parameters()} == {"meta"}
    assert watched.operations > 100


@pytest.mark.parametrize("reduction", ["max", "pixelwise_mean_max", "downsample_8x8"])
def test_scoring_stays_on_a_gpu(tiny, reduction):
    settings = tiny().testing
    model, criterion = built(settings, "VAL")
    with FakeTensorMode(), torch.inference_mode():
        for module in (model.eval(), criterion):
            place(module, "cuda")
        with OnlyOn("cuda") as watched:
            normalised = normalise(images(settings, "cuda"))
            maps = criterion(normalised, model(normalised).float())
            scores = image_scores(maps, reduction, "mean")
            anomaly_maps = pixel_scores(maps, reduction, "mean")
    assert scores.device.type == anomaly_maps.device.type == "cuda"
    assert watched.operations > 100


def test_the_watch_finds_what_it_is_there_for():
    with pytest.raises(AssertionError, match="cpu"), OnlyOn("meta"):
        torch.ones(3)
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.ones((), device="cuda").item()
    with pytest.raises(NotImplementedError):
        torch.ones(3, device="meta").nonzero()
