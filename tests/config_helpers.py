"""Configs that the tests of the configuration share, and ways to spoil them."""

from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from pathlib import Path

from utils.config.load import Config, load_config
from utils.errors import ConfigError, Problem

TEST_CONFIGS = Path(__file__).parent / "configs"
_PARSER = ConfigParser()
_PARSER.optionxform = str
_PARSER.read(TEST_CONFIGS / "small.ini", "utf-8")
SMALL = {name: dict(_PARSER[name]) for name in _PARSER.sections()}
THREE_ENCODERS = {
    "MODEL_NAME": "test_vit, test_vit2, test_vit3", "PATCH_SIZE": "16, 8, 32",
    "N_PATCHES": "6, 12, 3", "N_REG_TOKENS": "0, 0, 0",
    "FINAL_PROJ_IN_FEATURES": "64, 64, 96", "FINAL_PROJ_OUT_FEATURES": "48, 48, 48",
}  # fmt: skip
# The shortest config: everything else is derived.
SHORT = """\
[DEFAULT]
MODEL_NAME = test_vit
[TRAINING]
TRAIN_DATA_PATH = data/train
VAL_DATA_PATH = data/valid
RESULTS_PATH = results/mine
[TESTING]
TEST_DATA_PATH = data/test
RESULTS_PATH = results/mine/test
"""
# Stand-ins for downloads, and sizes for a test: of images, of batches and of the training.
STAND_INS = [
    *("MODEL_WEIGHTS=random", "PERCEPTUAL_WEIGHTS=random", "PERCEPTUAL_MODEL_NAME=test_vit"),
    *("RESIZE=32", "BATCH_SIZE_TRAIN=6", "N_EPOCHS=1", "DEVICE=cpu", "NUM_WORKERS=0"),
]


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
