"""Parity with the golden values in every mode: bf16, compiled, on a CPU and on a GPU."""

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch._dynamo.utils import counters

from engine.build import build_autoencoder, build_criteria
from engine.evaluate.scorer import Reductions, Scorer
from engine.runtime.device import choose_device, choose_precision
from engine.runtime.process import create_runtime, place
from engine.train.loop import Trainer
from engine.train.start import train
from models.autoencoder import is_frozen_name
from models.compilation import compile_in_place
from utils.config.criteria import CriterionSpec
from utils.errors import UserError

NO_GPU = not torch.cuda.is_available()
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(NO_GPU, reason="no CUDA device")]
    ),
]


def scored(golden, config, batch_size=None, *, keep_frozen=False):
    """Reconstructions, scores and maps of the golden images, in a config's mode."""
    settings = config.testing
    runtime = create_runtime(settings)
    model = build_autoencoder(settings, settings.checkpoint_path).eval()
    (criterion,) = build_criteria(settings, [CriterionSpec.of(settings, "VAL")])
    place(runtime, model, keep_frozen=keep_frozen)
    place(runtime, criterion, keep_frozen=keep_frozen)
    scorer = Scorer(runtime, (model,), criterion, Reductions.of(settings), batch_size)
    # Back to the bytes that the golden images were made of.
    images = ((golden["x"] * 0.226 + 0.449) * 255).round().byte()
    size = batch_size or len(images)
    batches = [scorer.score(part, [""] * len(part)) for part in images.split(size)]
    found = [(each.reconstructions, each.scores, each.anomaly_maps) for each in batches]
    return [torch.cat(parts).cpu() for parts in zip(*found, strict=True)]


@pytest.mark.parametrize("device", DEVICES)
def test_full_precision_is_exact(golden, golden_in, device):
    found = scored(golden, golden_in(f"DEVICE={device}", "PRECISION=fp32"))
    torch.testing.assert_close(found[0], golden["x_hat"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], golden["score/max/mean"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_bf16_changes_scores_by_less_than_a_hundredth(golden, golden_in, device):
    exact = scored(golden, golden_in(f"DEVICE={device}", "PRECISION=fp32"))
    found = scored(golden, golden_in(f"DEVICE={device}", "PRECISION=bf16"))
    assert not torch.equal(exact[0], found[0])
    torch.testing.assert_close(found[1], exact[1], rtol=0.01, atol=0)
    areas = [roc_auc_score(golden["labels"], scores) for scores in (exact[1], found[1])]
    assert abs(areas[0] - areas[1]) <= 0.002


@pytest.mark.parametrize("device", DEVICES)
def test_frozen_weights_stored_in_bf16_give_the_same_bits(golden, golden_in, device):
    config = golden_in(f"DEVICE={device}", "PRECISION=bf16")
    stored = scored(golden, config)
    for expected, found in zip(scored(golden, config, keep_frozen=True), stored, strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("content", ["trained", "full"])
def test_a_bf16_run_saves_full_precision_and_in_full_needs_no_other_weights(tiny, content):
    folder = train(tiny("PRECISION=bf16", f"CHECKPOINT_CONTENT={content}", "N_EPOCHS=1"))
    checkpoint = folder / "checkpoints" / "last_ckpt.pth"
    saved = torch.load(checkpoint, weights_only=True)
    assert {weights.dtype for weights in saved.values()} == {torch.float32}
    assert any(is_frozen_name(name) for name in saved) == (content == "full")
    if content == "full":
        one, other = (
            build_autoencoder(tiny(f"MODEL_WEIGHTS={source}").testing, checkpoint).state_dict()
            for source in ("/no/such/file.pth", "random")
        )
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_compiled_code_is_exact_and_fills_up_the_last_batch(golden, golden_in, device):
    config = golden_in(f"DEVICE={device}", "PRECISION=fp32", "COMPILE=1")
    found = scored(golden, config, batch_size=3)
    torch.testing.assert_close(found[0], golden["x_hat"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], golden["score/max/mean"], rtol=0, atol=1e-4)


@pytest.fixture
def eager_backend(monkeypatch):
    """Dynamo without the minutes of code generation; what it compiled before is forgotten."""
    torch._dynamo.reset()
    counters.clear()

    def compile_eagerly(modules):
        compile_in_place(modules, backend="eager")

    monkeypatch.setattr("engine.build.compile_in_place", compile_eagerly)


def graphs_after(function, monkeypatch, owner, name):
    """Number of graphs after each call of a method while a function runs."""
    method, graphs = getattr(owner, name), []

    def noting(*arguments):
        result = method(*arguments)
        graphs.append(counters["stats"]["unique_graphs"])
        return result

    monkeypatch.setattr(owner, name, noting)
    return function(), graphs


def test_testing_compiles_nothing_after_the_first_batch(
    golden, golden_in, eager_backend, monkeypatch
):
    config = golden_in("DEVICE=cpu", "PRECISION=fp32", "COMPILE=1")
    found, graphs = graphs_after(
        lambda: scored(golden, config, batch_size=3), monkeypatch, Scorer, "score"
    )
    torch.testing.assert_close(found[0], golden["x_hat"], rtol=0, atol=1e-5)
    assert len(graphs) == 2
    assert graphs[0] == graphs[1] > 0


def test_training_compiles_nothing_after_the_first_validation(tiny, eager_backend, monkeypatch):
    options = ("EVAL_STEPSIZE=1", "N_EPOCHS=3")
    folder, graphs = graphs_after(
        lambda: train(tiny(*options, "COMPILE=1")), monkeypatch, Trainer, "_finish_epoch"
    )
    assert len(graphs) == 3
    assert graphs[0] == graphs[1] == graphs[2] > 0
    compiled = torch.load(folder / "checkpoints" / "last_ckpt.pth", weights_only=True)
    train(tiny(*options), overwrite=True)
    plain = torch.load(folder / "checkpoints" / "last_ckpt.pth", weights_only=True)
    assert list(compiled) == list(plain)
    for name, weights in plain.items():
        torch.testing.assert_close(compiled[name], weights, rtol=1e-3, atol=1e-4)


def test_a_machine_that_cannot_compile_says_so(golden, golden_in, monkeypatch):
    def no_compiler(*_, **__):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(
        "engine.build.compile_in_place",
        lambda modules: compile_in_place(modules, backend=no_compiler),
    )
    with pytest.raises(UserError, match=r"COMPILE = 1.*no C\+\+ compiler.*COMPILE = 0"):
        scored(golden, golden_in("DEVICE=cpu", "COMPILE=1"))


def test_mps_computes_in_fp32(monkeypatch):
    with pytest.raises(UserError, match="DEVICE = mps: this machine has no such device"):
        choose_device("mps", 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    device = choose_device("mps", 1)
    assert device.type == choose_device("auto", 1).type == "mps"
    assert choose_precision("auto", device) == "fp32"
