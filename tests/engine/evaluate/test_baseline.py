"""The nearest-neighbour baseline: against scikit-learn, drawn once, kept, and in all results."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional as F

from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_normal_images, find_split
from datasets.transforms import normalise
from engine.evaluate.baseline import baseline_for
from engine.evaluate.scorer import create_scorer
from engine.testing.test import test as run_test
from engine.train.start import train
from models import encoder
from models.backbone import block_outputs
from models.neighbours import nearest_distance
from tests.conftest import read_csv
from utils.config.load import load_config
from utils.errors import UserError

ON = "BASELINE=nearest_neighbour"
ALL = "BASELINE_SIZE=1000000"


def unit_tokens(config, split) -> np.ndarray:
    """(N, patches, D) of each image alone, without any of the baseline's code."""
    scorer = create_scorer(config.testing, file=config.file)
    (own,) = scorer.model.encoders
    states = [state % 6 for state in config.testing.baseline_hstate]
    tokens = []
    with torch.no_grad():
        for item in AnomalyDataset.of(split, config.testing):
            images = normalise(item["image"][None])
            patches = block_outputs(own.model, images, states, prefix_tokens=False)
            tokens.append(torch.cat(patches, dim=-1)[0].numpy())
    found = np.stack(tokens)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def twin(config) -> np.ndarray:
    """(N, 32, 32) maps of the test images by scikit-learn, all training patches kept."""
    training = find_normal_images(config.training.train_data_path, key="x")
    testing = find_split(config.testing.test_data_path, key="x")
    kept = unit_tokens(config, training).reshape(-1, 64 * len(config.testing.baseline_hstate))
    tokens = unit_tokens(config, testing)
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(kept)
    distances = search.kneighbors(tokens.reshape(-1, kept.shape[1]))[0].reshape(-1, 1, 4, 4)
    maps = F.interpolate(torch.from_numpy(distances), size=(32, 32), mode="bilinear")
    return maps[:, 0].numpy()


def rows_of(config) -> list[dict[str, str]]:
    return read_csv(config.testing.results_path / "scores.csv")


def test_the_distance_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    points, others = (
        F.normalize(torch.randn(count, 24, generator=generator), dim=1) for count in (2500, 300)
    )
    points[:300] = others
    points[300:600] = F.normalize(others + 1e-4 * points[300:600], dim=1)
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(others.double())
    expected = search.kneighbors(points.double())[0][:, 0]
    np.testing.assert_allclose(nearest_distance(points, others), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("states", "reduction"), [("-2, -4", "mean"), ("-1, 2", "mean"), ("-4", "max")]
)
def test_scores_and_metrics_are_those_of_a_slow_twin(trained, states, reduction):
    config = trained(ON, ALL, f"BASELINE_HSTATE={states}", f"IMAGE_REDUCTION={reduction}")
    run = run_test(config)
    maps = twin(config)
    scores = [float(row["baseline_score"]) for row in rows_of(config)]
    np.testing.assert_allclose(scores, getattr(maps, reduction)(axis=(1, 2)), rtol=1e-5)
    metrics = json.loads((config.testing.results_path / "metrics.json").read_text())
    labels = run.split.labels
    masks = np.stack([item["mask"] for item in AnomalyDataset.of(run.split, config.testing)])
    for name, found in (
        ("image_auroc", roc_auc_score(labels, scores)),
        ("image_ap", average_precision_score(labels, scores)),
        ("pixel_auroc", roc_auc_score(masks.ravel(), maps.ravel())),
        ("pixel_ap", average_precision_score(masks.ravel(), maps.ravel())),
    ):
        assert metrics[f"baseline_{name}"] == pytest.approx(found, abs=1e-4)
        difference = metrics[name] - metrics[f"baseline_{name}"]
        assert metrics[f"difference_{name}"] == pytest.approx(difference)
        for kind in ("baseline", "difference"):
            low, high = metrics["intervals_95"][f"{kind}_{name}"]
            assert low <= high
    assert metrics["baseline_pixel_aupro"] is not None


def test_the_encoder_runs_once_for_both(trained, monkeypatch):
    config = trained(ON, ALL)
    run_test(config)
    batches = []

    def counted(model, images, *arguments, **options):
        batches.append(len(images))
        return block_outputs(model, images, *arguments, **options)

    monkeypatch.setattr(encoder, "block_outputs", counted)
    run_test(config)
    # Seven test images in batches of five; then the same ones once more for their pictures.
    assert batches == [5, 2, 5, 2]


def test_patches_are_drawn_by_the_seed_and_as_many_as_asked(trained):
    def drawn(*keys):
        config = trained(ON, *keys)
        return baseline_for(config, create_scorer(config.testing, file=config.file))[0]

    every, some = drawn(ALL), drawn("BASELINE_SIZE=40")
    assert every.shape == (18 * 16, 128)
    assert some.shape == (40, 128)
    assert torch.equal(drawn("BASELINE_SIZE=40"), some)
    assert not torch.equal(drawn("BASELINE_SIZE=40", "SEED=7"), some)
    # All of them are patches of the training images, none twice.
    nearest = torch.cdist(some.double(), every.double())
    assert torch.all(nearest.min(dim=1).values < 1e-5)
    assert len(nearest.argmin(dim=1).unique()) == 40


def test_what_was_drawn_is_kept_until_something_changes(trained, tmp_path, phantoms, decoded):
    (tmp_path / "data").unlink()
    shutil.copytree(phantoms, tmp_path / "data")
    file = tmp_path / "results" / "checkpoints" / "last_ckpt.baseline.pth"

    def training_images_read(*keys) -> int:
        decoded.clear()
        config = trained(ON, *keys)
        baseline_for(config, create_scorer(config.testing, file=config.file))
        return len(decoded)

    assert training_images_read() == 18
    assert training_images_read() == 0
    assert training_images_read("BASELINE_SIZE=50") == 18
    assert training_images_read("BASELINE_SIZE=50", "IMAGE_REDUCTION=max") == 0
    image = next((tmp_path / "data" / "train").rglob("*.png"))
    os.utime(image, (1, 1))
    assert training_images_read("BASELINE_SIZE=50") == 18
    file.write_bytes(file.read_bytes()[:100])
    assert training_images_read("BASELINE_SIZE=50") == 18
    assert training_images_read("BASELINE_SIZE=50") == 0


def test_a_folder_that_may_not_be_written_is_no_hindrance(trained, monkeypatch, caplog):
    def refuse(*_):
        raise UserError("last_ckpt.baseline.pth: cannot be written")

    monkeypatch.setattr("engine.evaluate.baseline.save_tensors", refuse)
    assert run_test(trained(ON)).baseline is not None
    assert "cannot be written; the baseline will be rebuilt next time" in caplog.text


def test_the_training_images_have_to_be_known(trained, tmp_path):
    lines = (tmp_path / "tiny.ini").read_text().splitlines()
    first, last = lines.index("[TRAINING]"), lines.index("[TESTING]")
    (tmp_path / "alone.ini").write_text("\n".join(lines[:first] + lines[last:]))
    config = load_config(tmp_path / "alone.ini", [ON])
    with pytest.raises(UserError, match=r"BASELINE.*no \[TRAINING\].*TRAIN_DATA_PATH"):
        run_test(config)


def test_every_encoder_has_its_own_patches(tiny):
    two = ("MODEL_NAME=test_vit, test_vit2", "PATCH_SIZE=8, 4", "N_EPOCHS=1")
    train(tiny(*two))
    config = tiny(*two, ON, ALL)
    scorer = create_scorer(config.testing, file=config.file)
    kept = baseline_for(config, scorer)
    assert [each.shape for each in kept] == [(18 * 16, 128), (18 * 64, 128)]
    run_test(config)
    assert all(float(row["baseline_score"]) > 0 for row in rows_of(config))


def test_a_test_shows_the_baseline_everywhere_and_the_models_own_scores_as_alone(trained, caplog):
    caplog.set_level("INFO")
    config = trained(ON)
    metrics, rows = run_test(config).metrics, rows_of(config)
    assert {name for name in metrics if "baseline" in name} > {"baseline_image_auroc"}
    folder = config.testing.results_path
    report = (folder / "report.html").read_text()
    assert "Compared with nearest neighbours" in report
    assert "baseline&#39;s map" in report
    assert "AUROC, model minus baseline" in caplog.text
    run_test(trained())
    assert "Compared with nearest neighbours" not in (folder / "report.html").read_text()
    assert list(rows_of(config)[0]) == ["path", "label", "score", "predicted"]
    for row in rows:
        del row["baseline_score"]
    assert rows_of(config) == rows


@pytest.mark.parametrize("missing", ["good", "Ungood"])
def test_one_class_alone_gives_null(trained, tmp_path, phantoms, missing):
    folder = tmp_path / "one"
    shutil.copytree(phantoms / "test", folder)
    shutil.rmtree(folder / missing)
    metrics = run_test(trained(ON, f"TEST_DATA_PATH={folder}")).metrics
    for name in ("baseline_image_auroc", "difference_image_auroc"):
        assert metrics[name] is metrics["intervals_95"][name] is None
