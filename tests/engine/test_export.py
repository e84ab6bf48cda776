"""ONNX files: they score pictures as prediction does, without any code of ours."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from datasets.transforms import resize_image
from engine.build import build_autoencoder
from engine.evaluate.calibrate import calibrate_trained
from engine.evaluate.calibration_file import fingerprint, load_calibration
from engine.export import onnx_file
from engine.export.check import largest_difference
from engine.export.network import resize
from engine.export.onnx_file import export
from engine.predictor import Predictor
from engine.train.start import train
from tests.processes import ROOT, run_here
from utils.config.load import ini_text, load_config
from utils.errors import UserError

SIZES = [(240, 240), (64, 100), (64, 63), (32, 64), (97, 64), (1, 1), (5, 700), (500, 333)]


def session_of(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


# In place of the published networks.
STAND_INS = [
    *("MODEL_NAME=test_vit", "PERCEPTUAL_MODEL_NAME=test_vit", "RESIZE=112", "DECODER_DEPTH=1"),
    *("PERCEPTUAL_PATCH_SIZE_VAL=16, 28", "DEVICE=cpu", "PRECISION=fp32"),
    *("MODEL_WEIGHTS=random", "PERCEPTUAL_WEIGHTS=random"),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory, phantoms):
    """The published architecture with stand-ins, trained for an epoch and calibrated."""
    folder = tmp_path_factory.mktemp("trained")
    paths = [f"{name.upper()}_DATA_PATH={phantoms / name}" for name in ("train", "test")]
    paths += [f"VAL_DATA_PATH={phantoms}/valid", f"TRAINING.RESULTS_PATH={folder}/results"]
    sets = [*STAND_INS, *paths, "NUM_WORKERS=0", "BATCH_SIZE_TRAIN=9", "N_EPOCHS=1"]
    resolved = ini_text(load_config(ROOT / "configs" / "brain.ini", sets))
    (folder / "brain.ini").write_text(resolved, encoding="utf-8")
    config = load_config(folder / "brain.ini")
    train(config)
    calibrate_trained(config)
    return config


@pytest.fixture(scope="module")
def predictor(config):
    return Predictor.from_config(config)


@pytest.fixture(scope="module")
def program():
    """What torch.onnx.export has made for `exported`: it takes half a minute, once is enough."""
    return []


@pytest.fixture(scope="module")
def exported(config, program):
    file = Path(config.file).parent / "new" / "model.onnx"
    torch_export = torch.onnx.export

    def kept(*arguments, **options):
        program.append(torch_export(*arguments, **options))
        return program[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", kept)
        export(config, file, "fp32")
    return file


@pytest.fixture
def pictures(phantoms):
    return sorted((phantoms / "test").rglob("img/*"))


def test_resizing_is_that_of_prediction_to_the_last_bit(tmp_path):
    class Resize(nn.Module):
        def forward(self, images):
            return resize(images, 64)

    example = torch.zeros(2, 3, 66, 67, dtype=torch.uint8)
    shapes = ({0: "batch", 2: "height", 3: "width"},)
    program = torch.onnx.export(
        Resize().eval(), (example,), input_names=["images"], dynamic_shapes=shapes, verbose=False
    )
    program.save(tmp_path / "resize.onnx")
    session, rng = session_of(tmp_path / "resize.onnx"), np.random.default_rng(0)
    for size in SIZES:
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        (found,) = session.run(None, {"images": pixels.transpose(2, 0, 1)[None]})
        assert np.array_equal(found[0], resize_image(pixels, 64).numpy()), size


def test_a_batch_has_the_scores_and_maps_of_prediction(exported, predictor, pictures):
    expected = predictor(pictures)
    images = np.stack([np.asarray(Image.open(each).convert("RGB")) for each in pictures])
    scores, maps = session_of(exported).run(None, {"images": images.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(scores, [each.score for each in expected], rtol=1e-5)
    assert maps.shape == (len(pictures), 112, 112)
    np.testing.assert_allclose(maps, [each.case.anomaly_map for each in expected], rtol=1e-4)


def test_the_file_says_what_it_is(exported, config):
    known = session_of(exported).get_modelmeta().custom_metadata_map
    calibration = load_calibration(config.testing)
    assert known["config_digest"] == fingerprint(config.testing)
    assert float(known["threshold"]) == calibration.threshold
    assert float(known["pixel_threshold"]) == calibration.pixel_threshold
    colours = (float(known["colour_low"]), float(known["colour_high"]))
    assert colours == (calibration.colours.low, calibration.colours.high)
    assert (known["mean"], known["std"], known["resize"]) == ("0.449", "0.226", "112")
    assert known["notice"].startswith("Not a medical device")
    assert {"version", "intensity_window", "precision"} <= known.keys()


def test_the_perceptual_network_is_in_the_file_once(exported, predictor):
    scorer = predictor.scorer
    parameters = {*scorer.model.parameters(), *scorer.criterion.parameters()}
    weights = 4 * sum(each.numel() for each in parameters)
    views = scorer.criterion.criteria[0].network.views
    assert len(views) == 2
    trunk = 4 * sum(each.numel() for each in views["16"].blocks.parameters())
    # Beside the weights stands the graph, which grows with the blocks and not with their width.
    assert weights - 50_000 < exported.stat().st_size < weights + trunk / 2


def test_the_file_names_no_folder_of_this_machine(exported):
    content = exported.read_bytes()
    assert str(ROOT).encode() not in content
    assert b"site-packages" not in content


def test_the_script_halves_the_file_with_weights_in_fp16(
    exported, program, config, predictor, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "half.onnx"
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: program[0])
    arguments = ["--config", config.file, "--output", file, "--precision", "fp16"]
    assert run_here(monkeypatch, "export_model.py", *arguments) == 0
    assert file.stat().st_size < 0.56 * exported.stat().st_size
    lines = re.findall(
        r"^\d+ × \d+ pixels, read with (\w+): score \S+; it differs by (\S+), its map by (\S+)$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert [reader for reader, *_ in lines] == ["Pillow", "OpenCV"] * 3
    printed = max(float(each) for _, *differences in lines for each in differences)
    found = largest_difference(file, predictor)
    assert 1e-6 < found < onnx_file.TOLERANCES["fp16"]
    assert printed == pytest.approx(found, rel=0.1)


def test_a_file_that_is_there_is_left_alone(exported, config):
    with pytest.raises(UserError, match=r"--output: .*model\.onnx already exists"):
        export(config, exported, "fp32")


def test_a_file_that_scores_otherwise_is_not_left_there(exported, config, tmp_path, monkeypatch):
    other = load_config(config.file, ["IMAGE_REDUCTION=mean"])
    # In place of a faulty exporter: the file of a model whose scores are maxima.
    program = SimpleNamespace(
        model=SimpleNamespace(metadata_props={}), save=lambda file: shutil.copy(exported, file)
    )
    monkeypatch.setattr(onnx_file, "as_onnx", lambda *_: program)
    with pytest.raises(UserError, match=r"x\.onnx: not written: .* differ from prediction by "):
        export(other, tmp_path / "x.onnx", "fp32")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = (
        r'onnxruntime, which is needed to export, is not installed; run pip install -e "\.\[onnx\]"'
    )
    with pytest.raises(UserError, match=message):
        export(config, tmp_path / "x.onnx", "fp32")


def test_the_lines_of_the_docs_score_a_picture_without_our_code(
    exported, predictor, pictures, tmp_path
):
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"(?m)^    import numpy.*\n(?:(?:    .*)?\n)+", text)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    shutil.copy(exported, tmp_path / "mine.onnx")
    shutil.copy(pictures[0], tmp_path / "scan.png")
    run = subprocess.run(
        [sys.executable, "-c", re.sub(r"(?m)^    ", "", code)],
        cwd=tmp_path,
        env={"OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    score, verdict = run.stdout.split()[:2]
    expected = predictor(pictures[0])
    assert float(score) == pytest.approx(expected.score, rel=1e-5)
    assert verdict == ("anomalous" if expected.predicted else "normal")


def architectures() -> list[object]:
    """Shipped configs; those that differ in folders alone stand once."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "configs").glob("*.ini")):
        parser = configparser.ConfigParser(interpolation=None, default_section="")
        parser.read(file, encoding="utf-8")
        keys = {**parser["DEFAULT"], **parser["TESTING"]}
        same = [key for key in keys if not key.endswith(("_path", "_name", "num_workers"))]
        found.setdefault(str({key: keys[key] for key in same}), []).append(file.stem)
    # That of brain.ini is `exported`.
    return [
        pytest.param(names[0], id="=".join(names))
        for names in found.values()
        if "brain" not in names
    ]


def export_random(file: Path, sets: list[str], folder: Path) -> None:
    """Export random weights; this compares the file with prediction, and refuses what differs."""
    config = load_config(file, [f"CHECKPOINT_PATH={folder}/random.pth", *sets])
    torch.manual_seed(0)
    weights = build_autoencoder(config.testing).trained_state_dict()
    torch.save(weights, config.testing.checkpoint_path)
    export(config, folder / "model.onnx", "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures())
def test_the_architecture_of_every_shipped_config_exports(name, tmp_path):
    sets = STAND_INS[-4:] if name.startswith("demo") else STAND_INS
    export_random(ROOT / "configs" / f"{name}.ini", sets, tmp_path)
    (images,) = session_of(tmp_path / "model.onnx").get_inputs()
    assert (images.type, images.shape) == ("tensor(uint8)", ["batch", 3, "height", "width"])


@pytest.mark.slow
def test_every_other_criterion_exports(tmp_path):
    criteria = "CRITERION_VAL=SSIM,MS_SSIM,MSE,COSSIM,EMBED_MSE,PERCEPTUAL_VIT_mae"
    sets = [criteria, "CRITERION_VAL_WEIGHTS=1,1,1,1,1,1", "REDUCTION=downsample_8x8"]
    sets = [*STAND_INS, "RESIZE=176", *sets]
    export_random(ROOT / "configs" / "small.ini", sets, tmp_path)
