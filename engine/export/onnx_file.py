"""The work of export_model.py: a config's trained model to an ONNX file that was checked."""

import logging
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from datasets.readers.base import optional_package
from datasets.readers.formats import shown
from datasets.transforms import PIXEL_MEAN, PIXEL_STD
from engine.evaluate.calibration_file import Calibration, fingerprint, load_calibration
from engine.evaluate.scorer import Scorer, create_scorer
from engine.export.check import largest_difference
from engine.export.network import PictureScorer
from engine.predictor import Predictor
from utils.config.load import Config, ini_values
from utils.config.schema import TestingConfig
from utils.errors import UserError

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "fp16"]
# GELU is one operation from 20 on. Attention is one from 23 on: onnxruntime 1.32 computes it in the
# same time, and older runtimes do not know it.
_OPSET = 20
# Between file and prediction, relative. Weights in fp16 have 11 bits: what they change is held to
# the bound that the project has for bf16 (benchmarks/README.md).
TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2}


def export(config: Config, output: Path, precision: Precision) -> None:
    """Write a trained model as an ONNX file, unless its scores differ from prediction's.

    Weights above 1.5 GB go into a second file, ``output`` with ``.data`` behind it.

    Args:
        config: A config with a section [TESTING].
        output: The file, which must not exist yet.
        precision: How weights are stored; what is computed with them is fp32 in either.

    Raises:
        UserError: A package is missing, there are several checkpoints, the file already exists or
            cannot be written, or its scores or maps differ from prediction's by more than the
            tolerance.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        optional_package(package, "is needed to export", "onnx")
    if output.is_dir():
        raise UserError(f"--output: {shown(output)} is a folder; name a file in it")
    if output.exists():
        raise UserError(
            f"--output: {shown(output)} already exists; delete it or choose another name"
        )
    settings = config.need_testing()
    if len(settings.checkpoints) > 1:
        raise UserError("CHECKPOINT_PATH: has several checkpoints; export them one by one")
    calibration = load_calibration(settings)
    if calibration is None:
        logger.warning("no threshold will be stored; run run_test.py first to learn one")
    on_cpu = {"device": "cpu", "devices": 1, "num_nodes": 1, "precision": "fp32", "compile": False}
    scorer = create_scorer(settings.model_copy(update=on_cpu), file=config.file)
    program = as_onnx(scorer, settings.resize, precision)
    program.model.metadata_props.update(description(settings, calibration, precision))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".tmp-") as folder:
            program.save(Path(folder, output.name))
            difference = largest_difference(
                Path(folder, output.name), Predictor(scorer, settings, None)
            )
            if not difference <= TOLERANCES[precision]:
                raise UserError(
                    f"{shown(output)}: not written: its scores or maps differ from prediction by "
                    f"{difference:.2g}, more than {TOLERANCES[precision]:g}"
                    + ("; use --precision fp32" if precision == "fp16" else "")
                )
            # Weights first: the file that refers to them comes last.
            for written in sorted(Path(folder).iterdir(), reverse=True):
                written.replace(output.with_name(written.name))
                size = output.with_name(written.name).stat().st_size / 1e6
                logger.info("written: %s (%.1f MB)", shown(output.with_name(written.name)), size)
    except OSError as error:
        raise UserError(f"{shown(output)}: cannot be written ({error})") from error


def as_onnx(scorer: Scorer, size: int, precision: Precision) -> torch.onnx.ONNXProgram:
    """All of scoring as an ONNX program: ``images`` to ``scores`` and ``anomaly_maps``."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    # Sizes that differ from each other and from 1, which would be taken for constants.
    example = torch.zeros(2, 3, size + 1, size + 3, dtype=torch.uint8)
    program = torch.onnx.export(
        PictureScorer(scorer, size),
        (example,),
        input_names=["images"],
        output_names=["scores", "anomaly_maps"],
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        opset_version=_OPSET,
        verbose=False,
    )
    assert program is not None
    model: Any = program.model
    # The exporter notes the source line of each operation, with the paths of this machine.
    ClearMetadataAndDocStringPass()(model)
    _drop_empty_squeezes(model)
    if precision == "fp16":
        _store_in_half(model)
    return program


def _drop_empty_squeezes(model: Any) -> None:
    """Drop squeezes of sides that are not 1: PyTorch leaves those alone, ONNX refuses them."""
    for node in list(model.graph):
        before, after = node.inputs[0], node.outputs[0]
        # Of SSIM and MS-SSIM, whose library squeezes every side.
        if node.op_type == "Squeeze" and before.shape == after.shape:
            after.replace_all_uses_with(before)
            model.graph.remove(node)


def _store_in_half(model: Any) -> None:
    """Store matrices in fp16, and have them widened before they are used.

    Not computed in fp16: CPUs have next to no kernels for it, and distances of close features
    would be noise. Vectors, which are small, stay as they are.
    """
    import onnx_ir as ir

    for value in list(model.graph.initializers.values()):
        if value.dtype != ir.DataType.FLOAT or len(value.shape) < 2:
            continue
        half = ir.Value(name=f"{value.name}.fp16", shape=value.shape)
        half.const_value = ir.tensor(value.const_value.numpy().astype("float16"), name=half.name)
        half.dtype = ir.DataType.FLOAT16
        cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT})
        del model.graph.initializers[value.name]
        value.replace_all_uses_with(cast.outputs[0])
        model.graph.register_initializer(half)
        model.graph.insert_before(model.graph[0], cast)


def description(
    settings: TestingConfig, calibration: Calibration | None, precision: Precision
) -> dict[str, str]:
    """The file's ``metadata_props``; thresholds only if there are any."""
    known: dict[str, Any] = {
        "notice": "Not a medical device: for research, never for diagnosis or treatment",
        "version": version("qfae"),
        "config_digest": fingerprint(settings),
        "precision": precision,
        "resize": settings.resize,
        "intensity_window": ini_values(settings)["INTENSITY_WINDOW"],
        "mean": PIXEL_MEAN,
        "std": PIXEL_STD,
    }
    if calibration is not None:
        known |= {
            "threshold": calibration.threshold,
            "pixel_threshold": calibration.pixel_threshold,
            "colour_low": calibration.colours.low,
            "colour_high": calibration.colours.high,
        }
    return {key: str(value) for key, value in known.items() if value is not None}
