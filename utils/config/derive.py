"""Values of keys that a file leaves out, from the backbones, the machine and other keys.

For the published backbones at 224 pixels, the rules give the published setting; others get its
ratios.
"""

import math
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from utils.config.criteria import RESNETS, looks_at_blocks
from utils.errors import printable
from utils.run_files import TrainingFiles
from utils.timm_vits import BackboneGeometry, UnknownBackboneError, backbone_geometry

PUBLISHED_RESIZE = 224
PUBLISHED_DEPTH = 24
PUBLISHED_STATES = {"TRAINING": (15, 19), "TESTING": (11, 15, 19)}
PUBLISHED_PATCH_SIZES = {"TRAINING": (32, 56), "TESTING": (16, 32, 56)}
# A ResNet has a stem and four stages: these are the middle ones.
RESNET_STAGES = (1, 2, 3)


def derive(known: Any, names: Collection[str]) -> list[str]:
    """Set keys that have no value, if the keys that they depend on have one.

    Args:
        known: Attributes are the keys with a value, in lower case, and what else rules need:
            ``section``; ``file``, a path; ``training``, the same of [TRAINING] or None; and
            ``wrong``, the keys whose text is not a valid value.
        names: All keys of the section.

    Returns:
        The keys that must be written.
    """
    missing = [name for name in names if name not in {*vars(known), *known.wrong, *RULES}]
    for name in [name for name in RULES if name in names]:
        if name in vars(known) or name in known.wrong:
            continue
        # What a rule needs may be wrong itself, and is reported then.
        with suppress(AttributeError, UnknownBackboneError):
            try:
                setattr(known, name, RULES[name].value(known))
            except LookupError:
                missing.append(name)
    return missing


def _encoders(known: Any) -> list[BackboneGeometry]:
    return [backbone_geometry(name) for name in known.model_name]


def _written(known: Any, name: str, otherwise: Any) -> Any:
    return getattr(known, name) if name in vars(known) else otherwise


def _divisor_near(number: int, wanted: float) -> int:
    divisors = [each for each in range(1, number + 1) if number % each == 0]
    # Of two equally near ones, the larger: one head of width 144 sees less than two of 72.
    return min(divisors, key=lambda each: (abs(each - wanted), -each))


def _resize(known: Any) -> int:
    sizes = _written(known, "patch_size", None) or [each.patch_size for each in _encoders(known)]
    multiple = math.lcm(*sizes)
    return min(max(round(PUBLISHED_RESIZE / multiple), 1) * multiple, 4096)


def _patch_size(known: Any) -> tuple[int, ...]:
    if counts := _written(known, "n_patches", ()):
        return tuple(max(known.resize // count, 1) for count in counts)
    return tuple(_divisor_near(known.resize, each.patch_size) for each in _encoders(known))


def _use_hidden_state(known: Any) -> tuple[int, ...]:
    depth = min(each.depth for each in _encoders(known))
    states = (-max(round(state * depth / PUBLISHED_DEPTH), 1) for state in (2, 4))
    return tuple(dict.fromkeys(states))


def _junction_dim(known: Any) -> int:
    widths = [each.dim for each in _encoders(known)]
    outputs = _written(known, "final_proj_out_features", None)
    if outputs == () or _written(known, "final_proj_in_features", None) == ():
        return widths[0]
    return outputs[0] if outputs else max(round(max(widths) * 3 / 4 / 8), 1) * 8


def _projection_inputs(known: Any) -> tuple[int, ...]:
    widths = tuple(each.dim for each in _encoders(known))
    needed = any(width != known.junction_dim for width in widths)
    return widths if _written(known, "final_proj_out_features", needed) else ()


def _projection_outputs(known: Any) -> tuple[int, ...]:
    return (known.junction_dim,) * len(known.final_proj_in_features)


def _decoder_patch_size(known: Any) -> int:
    if count := _written(known, "decoder_n_patches", None):
        return max(known.resize // count, 1)
    return _divisor_near(known.resize, 8)


def _states(kind: str) -> Callable[[Any], tuple[int, ...]]:
    def states(known: Any) -> tuple[int, ...]:
        names = getattr(known, f"criterion_{kind}")
        if any(name in RESNETS for name in names):
            return RESNET_STAGES
        published, depth = PUBLISHED_STATES[known.section], PUBLISHED_DEPTH
        # Problems of that network are reported with the config's others.
        with suppress(UnknownBackboneError):
            if looks_at_blocks(names):
                depth = backbone_geometry(known.perceptual_model_name).depth
        return tuple(dict.fromkeys(state * depth // PUBLISHED_DEPTH for state in published))

    return states


def _perceptual_patch_sizes(known: Any) -> tuple[int, ...]:
    scale = known.resize / PUBLISHED_RESIZE
    sizes = PUBLISHED_PATCH_SIZES[known.section]
    return tuple(dict.fromkeys(_divisor_near(known.resize, size * scale) for size in sizes))


def _batch_size(known: Any) -> int:
    fitting = 64 * min(PUBLISHED_RESIZE / known.resize, 1) ** 2
    return int(2 ** max(math.floor(math.log2(fitting)), 0))


def _learning_rate(known: Any) -> float:
    batches = known.batch_size_train * known.accumulate / 64
    return float(f"{8e-5 * math.sqrt(batches):.2g}")


def _last_checkpoint(known: Any) -> Path:
    if known.training is None:
        raise LookupError
    return TrainingFiles(known.training.results_path).last


class Rule(NamedTuple):
    """How a key that is left out gets its value."""

    words: str  # the rule, for docs/config.md
    # The same as a function of the known keys (:func:`derive`).
    value: Callable[[Any], Any]


_STATES = (
    "{} of 24 blocks, scaled to the depth of PERCEPTUAL_MODEL_NAME and rounded down: {} of 12; "
    "for `PERCEPTUAL_RESNET*` 1, 2, 3"
)
_SIZES = "{}, times RESIZE / 224, each rounded to the nearest divisor of RESIZE"
_BATCH = "64; if RESIZE is above 224, the largest power of two up to 64 × (224 / RESIZE)²"

# Ordered so that each rule finds the keys that it needs.
RULES: dict[str, Rule] = {
    "experiment_name": Rule("the file's name", lambda known: printable(known.file.stem).strip()),
    "num_workers": Rule(
        "the machine's cores, at most 8", lambda known: min(os.cpu_count() or 1, 8)
    ),
    "resize": Rule("the multiple of the patch size nearest to 224", _resize),
    "patch_size": Rule(
        "RESIZE / N_PATCHES; if that is not set either, the divisor of RESIZE nearest to the "
        "backbone's own patch size",
        _patch_size,
    ),
    "n_patches": Rule(
        "RESIZE / PATCH_SIZE",
        lambda known: tuple(known.resize // size for size in known.patch_size),
    ),
    "n_reg_tokens": Rule(
        "the backbone's", lambda known: tuple(each.num_registers for each in _encoders(known))
    ),
    "use_hidden_state": Rule(
        "-2, -4 of 24 blocks, scaled to the backbone's depth: -1, -2 of 12", _use_hidden_state
    ),
    "baseline_hstate": Rule("USE_HIDDEN_STATE", lambda known: known.use_hidden_state),
    "junction_dim": Rule(
        "FINAL_PROJ_OUT_FEATURES; if that is not set either, 3/4 of the widest encoder, rounded to "
        "a multiple of 8; if FINAL_PROJ_* is set and empty, the encoder's width",
        _junction_dim,
    ),
    "final_proj_in_features": Rule(
        "the encoder's width; empty if all have width JUNCTION_DIM", _projection_inputs
    ),
    "final_proj_out_features": Rule(
        "JUNCTION_DIM; empty if FINAL_PROJ_IN_FEATURES is", _projection_outputs
    ),
    "junction_output_dim": Rule("JUNCTION_DIM", lambda known: known.junction_dim),
    "junction_heads": Rule(
        "the divisor of JUNCTION_DIM nearest to JUNCTION_DIM / 96",
        lambda known: _divisor_near(known.junction_dim, known.junction_dim / 96),
    ),
    "decoder_patch_size": Rule(
        "RESIZE / DECODER_N_PATCHES; if that is not set either, the divisor of RESIZE nearest to 8",
        _decoder_patch_size,
    ),
    "decoder_n_patches": Rule(
        "RESIZE / DECODER_PATCH_SIZE", lambda known: known.resize // known.decoder_patch_size
    ),
    "junction_n_queries": Rule("DECODER_N_PATCHES²", lambda known: known.decoder_n_patches**2),
    "decoder_dim": Rule("JUNCTION_OUTPUT_DIM", lambda known: known.junction_output_dim),
    "decoder_num_heads": Rule(
        "the divisor of DECODER_DIM nearest to DECODER_DIM / 64",
        lambda known: _divisor_near(known.decoder_dim, known.decoder_dim / 64),
    ),
    "decoder_depth": Rule(
        "a quarter of the deepest encoder's blocks",
        lambda known: max(round(max(each.depth for each in _encoders(known)) / 4), 1),
    ),
    "perceptual_hstate_train": Rule(_STATES.format("15, 19", "7, 9"), _states("train")),
    "perceptual_hstate_val": Rule(
        f"as PERCEPTUAL_HSTATE_TRAIN; in `[TESTING]` {_STATES.format('11, 15, 19', '5, 7, 9')}",
        _states("val"),
    ),
    "perceptual_patch_size_train": Rule(_SIZES.format("32, 56"), _perceptual_patch_sizes),
    "perceptual_patch_size_val": Rule(
        f"as PERCEPTUAL_PATCH_SIZE_TRAIN; in `[TESTING]` {_SIZES.format('16, 32, 56')}",
        _perceptual_patch_sizes,
    ),
    "batch_size_train": Rule(_BATCH, _batch_size),
    "batch_size_test": Rule(_BATCH, _batch_size),
    "lr": Rule("8e-5 × √(BATCH_SIZE_TRAIN × ACCUMULATE / 64)", _learning_rate),
    "checkpoint_path": Rule(
        "`checkpoints/last_ckpt.pth` in the RESULTS_PATH of `[TRAINING]`", _last_checkpoint
    ),
}
