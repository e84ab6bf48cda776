"""The config that a checkpoint was trained with, compared with the one that is to use it.

Several keys change what a model computes without changing a tensor's shape, such as
USE_HIDDEN_STATE, the decoder's heads or INTENSITY_WINDOW: loading alone would not notice.
"""

from __future__ import annotations

from pathlib import Path

from utils.config.load import Config, ini_values, load_config
from utils.config.schema import SectionConfig, differences, keys_of
from utils.errors import ConfigError, Problem
from utils.run_files import TrainingFiles


def check_snapshot(config: SectionConfig, checkpoint: Path, *, file: str, section: str) -> None:
    """Compare a section with the config.ini of the run that wrote a checkpoint, if it is there.

    Args:
        config: The section that uses the checkpoint.
        checkpoint: The checkpoint, in the ``checkpoints`` folder of its run.
        file: The INI file, for messages.
        section: The section's name, for messages.

    Raises:
        ConfigError: With every key that decides what the model computes and differs.
    """
    snapshot = TrainingFiles(checkpoint.parent.parent).config
    if checkpoint.parent.name != "checkpoints" or not snapshot.is_file():
        return
    trained = load_config(snapshot).training
    if trained is None:
        return
    _refuse_differences(config, trained, f"{checkpoint} was trained with", file, section)


def check_sections(config: Config) -> None:
    """Compare [TESTING] with [TRAINING], where it is to test the checkpoints of that run.

    Raises:
        ConfigError: With every key that decides what the model computes and differs.
    """
    if config.training is None or config.testing is None:
        return
    files = TrainingFiles(config.training.results_path)
    if any(map(files.holds, config.testing.checkpoints)):
        _refuse_differences(
            config.testing, config.training, "[TRAINING] has", config.file, "TESTING"
        )


def _refuse_differences(
    config: SectionConfig, trained: SectionConfig, origin: str, file: str, section: str
) -> None:
    was, found = ini_values(trained), ini_values(config)
    # Keys of one section alone decide how the weights were learnt, not what they compute.
    shared = keys_of("TRAINING").keys() & keys_of("TESTING").keys()
    problems = [
        Problem(file, section, key, f"found {found[key]!r}; {origin} {was[key]!r}")
        for key in differences(was, found, ["model"])
        if key in shared
    ]
    if problems:
        raise ConfigError(problems)
