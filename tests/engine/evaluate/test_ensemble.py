"""Several checkpoints as one model: balanced on validation, the encoders run once."""

import json
import logging
import re
import shutil

import numpy as np
import pytest
import torch

from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_split
from engine.build import build_autoencoder
from engine.evaluate.ensemble import calibrated_scorer
from engine.hub_files import beside_checkpoint
from engine.predictor import Predictor
from engine.run_folder import check_same_test
from engine.testing.test import test as run_test
from engine.train.start import train
from models import encoder, perceptual
from models.backbone import block_outputs
from tests.conftest import read_csv, tiny_in
from tests.engine.conftest import path_of_calibration
from tests.processes import run_here
from utils.config.load import ini_text, load_config
from utils.errors import UserError
from utils.files import file_digest


@pytest.fixture(scope="module")
def pair(tmp_path_factory, phantoms):
    """The folders of two runs of one config."""
    folder = tmp_path_factory.mktemp("pair")
    tiny, folders = tiny_in(folder, phantoms), [folder / "seed0", folder / "seed1"]
    for seed, each in enumerate(folders):
        train(tiny("N_EPOCHS=1", f"SEED={seed}", f"TRAINING.RESULTS_PATH={each}"))
    return folders


@pytest.fixture
def seeds(pair, tmp_path):
    """The checkpoints of copies of both."""
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in pair]
    return [copy / "checkpoints" / "last_ckpt.pth" for copy in copies]


def named(*files) -> str:
    return f"CHECKPOINT_PATH={', '.join(map(str, files))}"


def scores_of(run) -> list[float]:
    return [float(row["score"]) for row in read_csv(run.config.testing.results_path / "scores.csv")]


def maps_of(scorer, dataset) -> np.ndarray:
    images = torch.stack([item["image"] for item in dataset])
    return scorer.score(images, ["x"] * len(images)).anomaly_maps.numpy()


def validation(config) -> AnomalyDataset:
    split = find_split(config.training.val_data_path, key="x")
    return AnomalyDataset.of(split, config.testing)


def test_maps_are_averaged_after_division_by_the_median_of_normal_validation(tiny, seeds):
    # A mean over hidden states may be taken before or after the one over models.
    mean = "MULTI_HSTATE_REDUCTION=mean"
    config = tiny(named(*seeds), mean)
    dataset = validation(config)
    normal = np.array(dataset.split.labels) == 0
    scorer, _ = calibrated_scorer(config)
    alone = [maps_of(calibrated_scorer(tiny(named(each), mean))[0], dataset) for each in seeds]
    medians = [np.quantile(maps[normal], 0.5) for maps in alone]
    divided = [maps / median for maps, median in zip(alone, medians, strict=True)]
    expected = np.mean(medians) * np.mean(divided, axis=0)
    np.testing.assert_allclose(maps_of(scorer, dataset), expected, rtol=1e-3)
    assert medians[0] != pytest.approx(medians[1], rel=1e-3)


def test_an_ensemble_of_one_is_that_model_and_so_are_two_equal_ones(tiny, seeds, tmp_path):
    one = run_test(tiny(named(seeds[0])))
    alone, metrics = scores_of(one), one.metrics
    copy = shutil.copy(seeds[0], tmp_path / "copy.pth")
    twice = run_test(tiny(named(seeds[0], copy), f"TESTING.RESULTS_PATH={tmp_path / 'twice'}"))
    np.testing.assert_allclose(scores_of(twice), alone, rtol=1e-5)
    assert twice.threshold == pytest.approx(one.threshold, rel=1e-5)
    assert twice.metrics["image_auroc"] == metrics["image_auroc"]
    scorer, _ = calibrated_scorer(tiny(named(seeds[0])))
    assert scorer.weights == (1.0,)


def test_encoder_and_features_of_the_image_are_computed_once(tiny, seeds, monkeypatch):
    config = tiny(
        named(*seeds), "CRITERION_VAL=PERCEPTUAL_VIT_mae_multi", "CRITERION_VAL_WEIGHTS=1"
    )
    scorer, _ = calibrated_scorer(config)
    rows = {"encoder": [], "perceptual": []}
    for name, module in (("encoder", encoder), ("perceptual", perceptual)):

        def counted(model, images, *arguments, name=name, **options):
            rows[name].append(len(images))
            return block_outputs(model, images, *arguments, **options)

        monkeypatch.setattr(module, "block_outputs", counted)
    maps_of(scorer, validation(config))
    # Six images; the perceptual network sees them and two reconstructions, at two patch sizes.
    assert rows == {"encoder": [6], "perceptual": [18, 18]}
    first, second = scorer.models
    assert first.encoders[0].model is second.encoders[0].model


def test_checkpoints_of_the_hub_are_kept_apart(tiny):
    config = tiny("CHECKPOINT_PATH=hf://me/repo/seed0/last.pth, hf://me/repo/seed1/last.pth")
    own = [
        config.testing.model_copy(update={"checkpoint_path": each})
        for each in config.testing.checkpoints
    ]
    assert len({beside_checkpoint(each, ".calibration.json") for each in own}) == 2


def test_a_test_of_an_ensemble_keeps_its_own_calibration(tiny, seeds, caplog):
    caplog.set_level(logging.INFO)
    config = tiny(named(*seeds))
    run = run_test(config)
    told = [each for each in caplog.messages if re.match(r"threshold .*\)$", each)]
    names = [*map(str, seeds), ", ".join(map(str, seeds))]
    for name, each in zip(names, told, strict=True):
        assert f" for {name}, learnt on " in each
    folder = config.testing.results_path
    assert path_of_calibration(config.testing) == folder / "ensemble.calibration.json"
    own = [json.loads(each.with_suffix(".calibration.json").read_text()) for each in seeds]
    assert all(run.threshold != each["threshold"] for each in own)
    assert run.metrics["checkpoint_sha256"] == [file_digest(each) for each in seeds]
    assert str(seeds[1]) in (folder / "report.html").read_text()
    assert load_config(folder / "config.ini").testing == config.testing
    assert named(*seeds).replace("=", " = ") in ini_text(config)
    check_same_test(config)
    with pytest.raises(UserError, match="CHECKPOINT_PATH"):
        check_same_test(tiny(named(*reversed(seeds))))
    seeds[1].write_bytes(seeds[0].read_bytes())
    with pytest.raises(UserError, match="has changed since"):
        check_same_test(config)


def test_a_prediction_scores_as_the_test_does(tiny, seeds):
    config = tiny(named(*seeds), "BATCH_SIZE_TEST=1")
    run = run_test(config)
    predictor = Predictor.from_config(config)
    assert predictor.threshold == run.threshold
    found = [predictor(sample.path).score for sample in run.split.samples]
    np.testing.assert_allclose(found, scores_of(run), rtol=1e-5)


def test_a_baseline_beside_an_ensemble(tiny, seeds):
    both = run_test(tiny(named(*seeds), "BASELINE=nearest_neighbour"))
    alone = run_test(tiny(named(seeds[0]), "BASELINE=nearest_neighbour"))
    np.testing.assert_allclose(both.baseline.scores, alone.baseline.scores, rtol=1e-5)


def test_other_encoders_are_no_ensemble(tiny, seeds, tmp_path):
    weights = torch.load(seeds[1], weights_only=True)
    scorer, _ = calibrated_scorer(tiny(named(seeds[0])))
    for name, tensor in scorer.model.encoders[0].model.state_dict().items():
        weights[f"encoders.0.model.{name}"] = tensor + 1
    whole = create_whole(tiny(named(seeds[0])), weights)
    torch.save(whole, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth has a different frozen encoder from"):
        calibrated_scorer(tiny(named(seeds[0], tmp_path / "other.pth")))


def create_whole(config, weights):
    """A checkpoint that holds the blocks that are not run, too."""
    return build_autoencoder(config.testing).state_dict() | weights


def test_without_normal_validation_images_there_is_no_scale(tiny, seeds, tmp_path):
    config = tiny(named(*seeds), f"VAL_DATA_PATH={tmp_path / 'none'}")
    with pytest.raises(UserError, match=r"CHECKPOINT_PATH.*VAL_DATA_PATH"):
        run_test(config)


@pytest.mark.parametrize("median", [0.0, -6e-8])
def test_maps_without_a_scale_are_no_ensemble(tiny, seeds, median):
    config = tiny(named(*seeds))
    calibrated_scorer(config)
    learnt = seeds[1].with_suffix(".calibration.json")
    content = json.loads(learnt.read_text())
    content["colours"]["low"] = median
    learnt.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"CHECKPOINT_PATH: .*seed1.*last_ckpt\.pth: over half"):
        calibrated_scorer(config)


def test_run_predict_takes_several_checkpoints(tiny, seeds, tmp_path, monkeypatch):
    config = tiny(named(*seeds))
    image = find_split(config.testing.test_data_path, key="x").samples[0].path
    arguments = ["--config", config.file, "--input", image, "--output", tmp_path / "out"]
    arguments += ["--checkpoints", *seeds]
    assert run_here(monkeypatch, "run_predict.py", *arguments) == 0
    (row,) = read_csv(tmp_path / "out" / "scores.csv")
    assert float(row["score"]) == Predictor.from_config(config)(image).score
