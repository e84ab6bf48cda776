"""Equality with the published code, on values that it computed (tests/golden)."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_split
from datasets.transforms import normalise
from engine.build import build_autoencoder, build_criteria
from engine.evaluate.reductions import image_scores, pixel_scores
from tests.conftest import GOLDEN
from utils.checkpoints import save_tensors
from utils.config.criteria import CriterionSpec
from utils.intensity import IntensityWindow

REDUCTIONS = ("mean", "max", "pixelwise_mean_max", "pixelwise_max_mean", "downsample_8x8")
PIXEL_KEYS = ("mean/mean", "mean/max", "downsample_8x8/mean")


@pytest.fixture
def model(golden_config):
    settings = golden_config.testing
    return build_autoencoder(settings, settings.checkpoint_path).eval()


def test_images_and_masks_are_read_bit_for_bit(golden, golden_config):
    split = find_split(golden_config.testing.test_data_path, key="TEST_DATA_PATH")
    assert [str(sample.path) for sample in split.samples] == golden["paths"]
    assert split.labels == golden["labels"].tolist()
    dataset = AnomalyDataset(split, 96, IntensityWindow())
    items = [dataset[index] for index in range(len(dataset))]
    images = normalise(torch.stack([item["image"] for item in items]))
    assert torch.equal(images, golden["x"])
    assert torch.equal(torch.stack([item["mask"] for item in items]), golden["masks"])


@torch.no_grad()
def test_features_bottleneck_and_reconstruction(golden, model):
    features = model.project(model.hidden_states(golden["x"]))
    bottleneck = model.junction(features)
    reconstruction = model.decoder(bottleneck)
    for name, value in (
        ("features", features),
        ("qformer_out", bottleneck),
        ("x_hat", reconstruction),
    ):
        torch.testing.assert_close(value, golden[name], rtol=0, atol=1e-5)


@torch.no_grad()
def test_encoder_built_from_native_weights_equals_the_checkpoint(golden_config):
    settings = golden_config.testing
    encoder = build_autoencoder(settings).encoders[0]
    checkpoint = torch.load(settings.checkpoint_path, weights_only=True)
    for name, tensor in encoder.model.state_dict().items():
        assert torch.equal(tensor, checkpoint[f"encoders.0.model.{name}"]), name


def test_maps_scores_and_pixel_aurocs(golden, golden_config):
    settings = golden_config.testing
    (criterion,) = build_criteria(settings, [CriterionSpec.of(settings, "VAL")])
    with torch.no_grad():
        maps = criterion(golden["x"], golden["x_hat"])
    torch.testing.assert_close(maps[:, :, 0], golden["maps"], rtol=0, atol=1e-4)
    for reduction in REDUCTIONS:
        for over_states in ("mean", "max"):
            scores = image_scores(maps, reduction, over_states)
            expected = golden[f"score/{reduction}/{over_states}"]
            torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)
    masks = golden["masks"].flatten()
    for key in PIXEL_KEYS:
        scores = pixel_scores(maps, *key.split("/")).flatten()
        assert abs(roc_auc_score(masks, scores) - golden[f"pixel_auroc/{key}"].item()) <= 1e-4


def test_training_loss_and_gradients(golden, golden_config, model):
    settings = golden_config.training
    (criterion,) = build_criteria(settings, [CriterionSpec.of(settings, "TRAIN")])
    loss = criterion.loss(golden["x"], model(golden["x"]))
    assert loss.item() == pytest.approx(golden["train_loss"].item(), rel=1e-4)
    loss.backward()
    norms = {
        name: parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    expected = dict(zip(golden["grad_names"], golden["grad_norms"].tolist(), strict=True))
    assert norms.keys() == expected.keys()
    assert norms == pytest.approx(expected, rel=1e-4)


def test_our_checkpoint_gives_the_same_reconstruction(golden, golden_config, model, tmp_path):
    path = tmp_path / "ours.pth"
    save_tensors(path, model.trained_state_dict())
    assert path.stat().st_size < (GOLDEN / "checkpoint.pth").stat().st_size
    with torch.no_grad():
        again = build_autoencoder(golden_config.testing, path).eval()(golden["x"])
    torch.testing.assert_close(again, golden["x_hat"], rtol=0, atol=1e-5)
