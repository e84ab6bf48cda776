"""Benchmarks: the published way gives our numbers, and measuring works on tiny settings."""

import copy
import json
from pathlib import Path

import highdicom
import nibabel
import pytest
import torch
from torch import Tensor

from benchmarks import speed_table, steps, throughput, volumes
from benchmarks.as_published import SeparateViTs, make_as_published
from benchmarks.steps import Measurement
from engine.build import build_autoencoder, build_criteria
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria
from utils.config.criteria import CriterionSpec

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


def built(settings, kind: str) -> tuple[QFormerAutoencoder, WeightedCriteria]:
    torch.manual_seed(0)
    (criterion,) = build_criteria(settings, [CriterionSpec.of(settings, kind)])
    model = build_autoencoder(settings)
    with torch.no_grad():  # as after training: queries and tokens far from zero
        for parameter in model.trained_parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval(), criterion


@pytest.fixture(params=["JUNCTION_N_BLOCKS=1", "JUNCTION_N_BLOCKS=3"])
def config(request, tiny):
    return tiny(request.param)


def gradients(
    model: QFormerAutoencoder, criterion: WeightedCriteria, images: Tensor
) -> dict[str, Tensor]:
    criterion.loss(images, model(images)).backward()
    named = model.named_parameters()
    return {name: each.grad for name, each in named if each.grad is not None}


def test_the_published_way_gives_equal_reconstructions_and_maps(config):
    model, criterion = built(config.testing, "VAL")
    twin, published = copy.deepcopy((model, criterion))
    kept = make_as_published(config.testing, twin, [published])
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        ours, theirs = model(images), twin(images)
        maps, published_maps = criterion(images, ours), published(images, theirs)
    torch.testing.assert_close(theirs, ours, **TOLERANCE)
    torch.testing.assert_close(published_maps, maps, **TOLERANCE)
    # 16 queries see 2 · 17 tokens and the null token with 2 heads.
    features, *attention_maps, held_images, held_reconstructions, distance_maps = kept
    assert features.shape[:2] == (3, 34)
    assert {tuple(each.shape) for each in attention_maps} == {(3, 2, 16, 35)}
    torch.testing.assert_close(held_images, images, rtol=0, atol=0)
    torch.testing.assert_close(held_reconstructions, theirs, rtol=0, atol=0)
    assert distance_maps.shape == maps.shape


def test_the_published_way_gives_equal_gradients(config):
    model, criterion = built(config.training, "TRAIN")
    twin, published = copy.deepcopy((model, criterion))
    make_as_published(config.training, twin, [published])
    images = torch.randn(3, 3, 32, 32)
    ours, theirs = gradients(model, criterion, images), gradients(twin, published, images)
    assert ours.keys() == theirs.keys()
    assert len(ours) == len(list(model.trained_parameters()))
    assert max(each.abs().max() for each in ours.values()) > 1e-3
    for name, gradient in ours.items():
        torch.testing.assert_close(theirs[name], gradient, **TOLERANCE)


def test_the_published_way_does_more(tiny):
    settings = tiny().testing
    model, criterion = built(settings, "VAL")
    make_as_published(settings, model, [criterion])
    networks = criterion.criteria[0].network
    assert isinstance(networks, SeparateViTs)
    trunks = [networks.networks[size].views[size].blocks for size in ("8", "16")]
    assert trunks[0][0] is not trunks[1][0]
    assert len(trunks[0]) == 6
    modules = [*model.modules(), *criterion.modules()]
    # timm's attention is fused on both sides.
    assert {each.fused_attn for each in modules if hasattr(each, "fused_attn")} == {True}


def test_the_published_training_holds_the_validation_networks_too(tiny):
    settings = tiny().training
    model, criterion = built(settings, "TRAIN")
    kept = make_as_published(settings, model, [criterion])
    loss, waiting = criterion.criteria[0].network, criterion.validation_network
    assert set(waiting.networks) == {str(size) for size in settings.perceptual_patch_size_val}
    assert not set(map(id, loss.parameters())) & set(map(id, waiting.parameters()))
    images = torch.randn(2, 3, 32, 32)
    criterion.loss(images, model.train()(images))
    assert kept == []


def test_the_published_way_leaves_cudnn_its_tf32(tiny, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    steps.prepare(tiny("DEVICE=cpu").testing, 1, as_published=True)
    assert torch.backends.cudnn.allow_tf32


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setitem(steps.MATMUL_SIDE, "cpu", 64)
    monkeypatch.setattr(steps, "DATA_PIXELS", 64)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("step", ["train", "test"])
def test_both_variants_are_measured_side_by_side(tiny, tmp_path, capsys, step):
    config, file = tiny(), tmp_path / "figures.json"
    options = f"--step {step} --batch 2 --steps 2 --rounds 2 --compare --data --device cpu"
    throughput.main(["--config", config.file, "--json", str(file), *options.split()])
    printed = capsys.readouterr().out
    assert f"| {step}, batch 2 | this code | as published | as published / this code |" in printed
    found = json.loads(file.read_text())
    assert list(found) == ["this code", "as published"]
    (ours,), (published,) = ([Measurement(**each) for each in group] for group in found.values())
    assert len(ours.seconds) == len(ours.parts["encoder"]) == 4
    assert ours.flops < published.flops
    assert ours.peak_bytes > 0
    assert ours.matmul_flops > 0
    unmeasured = {name for name, times in ours.parts.items() if not times}
    assert unmeasured == (set() if step == "train" else {"backward", "optimizer"})
    assert sum(ours.seconds) == pytest.approx(
        sum(sum(times) for name, times in ours.parts.items() if not name.startswith("data"))
    )


@pytest.mark.usefixtures("quick")
def test_what_was_not_measured_is_a_dash(tiny, capsys):
    throughput.main(["--config", tiny().file, "--step", "test", "--steps", "1", "--as-published"])
    printed = capsys.readouterr().out
    assert "| data (one loader), ms | – |" in printed
    assert "| test, batch 5 | as published |" in printed


@pytest.mark.slow
def test_each_kind_of_step_has_a_process_of_its_own(tiny, tmp_path):
    file = tmp_path / "figures.json"
    throughput.main(["--config", tiny().file, "--steps", "1", "--compare", "--json", str(file)])
    found = json.loads(file.read_text())
    assert [[each["step"] for each in group] for group in found.values()] == [["train", "test"]] * 2


def test_each_step_of_volumes_is_measured(tmp_path):
    volumes.write_sources(tmp_path, slices=17, side=20)
    for step, (sources, _) in volumes.STEPS.items():
        for source in sources:
            work = volumes.Work(tmp_path / source, Path("configs/demo_volumes.ini"), tmp_path)
            found = volumes.measure_here(step, work)
            assert min(found["seconds"], found["cpu_seconds"]) > 0
            assert found["peak_gb"] > 0
    for name in ("map.nii.gz", "mask.nii.gz"):
        assert nibabel.load(tmp_path / name).shape == (20, 20, 17)
    assert len(highdicom.seg.segread(tmp_path / "seg.dcm").get_source_image_uids()) == 17


@pytest.mark.slow
def test_volumes_are_measured_in_processes_and_written_as_json(tmp_path, capsys):
    file = tmp_path / "volumes.json"
    volumes.main(["--slices=17", "--side=20", "--rounds=1", "--note=shared", "--json", str(file)])
    printed, found = capsys.readouterr().out, json.loads(file.read_text())
    assert found["note"] == "shared"
    assert found["volume"] == "17 slices of 20 x 20"
    assert len(found["rows"]) == sum(len(sources) for sources, _ in volumes.STEPS.values())
    assert printed.count("\n|") >= len(found["rows"])


def test_the_table_of_the_readme_is_what_was_measured() -> None:
    page = speed_table.README.read_text("utf-8")
    assert speed_table.with_table(page) == page
    run = json.loads((speed_table.FOLDER / "cpu-bf16.json").read_text("utf-8"))
    ours, published = (run[name][0]["seconds"] for name in ("this code", "as published"))
    ratio = sorted(published)[len(published) // 2] / sorted(ours)[len(ours) // 2]
    assert f": **{ratio:.2f} ×**" in page
