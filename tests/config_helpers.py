"""Configs that the tests of the configuration share, and ways to spoil them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.config.load import Config, load_config
from utils.errors import ConfigError, Problem

_SHARED = {
    "SEED": "1",
    "DEVICE": "cpu",
    "NUM_WORKERS": "0",
    "MODEL_NAME": "test_vit",
    "MODEL_WEIGHTS": "random",
    "CACHE_DIR": "cache",
    "N_PATCHES": "6",
    "PATCH_SIZE": "16",
    "N_REG_TOKENS": "0",
    "FINAL_PROJ_IN_FEATURES": "64",
    "FINAL_PROJ_OUT_FEATURES": "48",
    "USE_HIDDEN_STATE": "-2, -4",
    "JUNCTION_DIM": "48",
    "JUNCTION_OUTPUT_DIM": "48",
    "JUNCTION_N_QUERIES": "144",
    "JUNCTION_HEADS": "4",
    "DECODER_DIM": "48",
    "DECODER_N_PATCHES": "12",
    "DECODER_PATCH_SIZE": "8",
    "DECODER_DEPTH": "1",
    "DECODER_NUM_HEADS": "4",
    "PERCEPTUAL_HSTATE_VAL": "1, 3",
    "PERCEPTUAL_PATCH_SIZE_VAL": "16, 32",
    "PERCEPTUAL_MODEL_NAME": "test_vit",
    "PERCEPTUAL_WEIGHTS": "random",
    "RESIZE": "96",
}
SMALL: dict[str, dict[str, str]] = {
    "TRAINING": {
        **_SHARED,
        "TRAIN_DATA_PATH": "data/train",
        "VAL_DATA_PATH": "data/valid",
        "RESULTS_PATH": "results",
        "PERCEPTUAL_HSTATE_TRAIN": "1, 3",
        "PERCEPTUAL_PATCH_SIZE_TRAIN": "16, 32",
        "BATCH_SIZE_TRAIN": "4",
        "N_EPOCHS": "2",
    },
    "TESTING": {
        **_SHARED,
        "CHECKPOINT_PATH": "results/checkpoints/last_ckpt.pth",
        "TEST_DATA_PATH": "data/test",
        "RESULTS_PATH": "results/test",
    },
}


def small_ini(changes: Mapping[str, str | None] | None = None) -> str:
    """A valid small config, both sections complete, with some keys changed.

    Args:
        changes: ``SECTION.KEY`` → value, None to leave the key out.
    """
    sections = {name: dict(keys) for name, keys in SMALL.items()}
    for place, value in (changes or {}).items():
        section, _, key = place.partition(".")
        keys = sections.setdefault(section, {})
        if value is None:
            keys.pop(key, None)
        else:
            keys[key] = value
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for name, keys in sections.items()
    )


def load_text(folder: Path, text: str | bytes, overrides: Sequence[str] = ()) -> Config:
    """Write an INI file and load it."""
    file = folder / "case.ini"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return load_config(file, overrides)


def problems_of(folder: Path, text: str | bytes, overrides: Sequence[str] = ()) -> list[Problem]:
    """The problems of an INI file; none where it loads."""
    try:
        load_text(folder, text, overrides)
    except ConfigError as error:
        return error.problems
    return []
