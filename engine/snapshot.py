"""The config that a checkpoint was trained with, compared with the one that is to use it.

Several keys change what a model computes without changing a tensor's shape, such as
USE_HIDDEN_STATE, the decoder's heads or INTENSITY_WINDOW: loading alone would not notice.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from utils.config.load import Config, ini_values, load_config
from utils.config.rules import of_encoder
from utils.config.schema import SectionConfig, TrainingConfig, differences, keys_of
from utils.errors import ConfigError, Problem
from utils.files import file_digest
from utils.run_files import TrainingFiles

logger = logging.getLogger(__name__)


def check_snapshot(config: SectionConfig, checkpoint: Path, *, file: str, section: str) -> None:
    """Compare a section with the config.ini of the run that wrote a checkpoint, if it exists.

    Encoders' weights whose files cannot be compared are a warning.

    Raises:
        ConfigError: With every key that decides what the model computes and differs, or with
            encoders' weights other than those that the trained parts have learnt with.
    """
    files = TrainingFiles(checkpoint.parent.parent)
    snapshot = files.config
    if checkpoint.parent.name != "checkpoints" or not snapshot.is_file():
        return
    trained = load_config(snapshot).training
    if trained is None:
        return
    origin = f"{checkpoint} was trained with"
    hint = (
        f"its training config is {snapshot}: pass that with --config, or repeat its --set options"
    )
    _refuse_differences(config, trained, origin, file, section, hint)
    # Without its table, as when only the checkpoints were copied, nobody knows.
    done = files.last_epoch() or trained.n_epochs
    if checkpoint == files.last and done < trained.n_epochs:
        logger.warning(
            "%s is from epoch %d of %d: the training is not finished; continue it with "
            "run_training.py --resume",
            *(checkpoint, done, trained.n_epochs),
        )
    _refuse_weights(config, trained, origin, file, section)


def _refuse_weights(
    config: SectionConfig, trained: TrainingConfig, origin: str, file: str, section: str
) -> None:
    if trained.checkpoint_content == "full":
        return
    problems = []
    for was, found, same in _weights(config, trained):
        text = f"found {found!r}; {origin} {was!r}"
        if same is None:
            logger.warning("MODEL_WEIGHTS: %s; scores are right only if both are the same", text)
        elif not same:
            problems.append(Problem(file, section, "MODEL_WEIGHTS", f"{text}, which differs"))
    if problems:
        raise ConfigError(problems)


def _weights(
    config: SectionConfig, trained: TrainingConfig
) -> Iterator[tuple[str, str, bool | None]]:
    """Sources of encoders' weights that differ, and whether both are the same; None: unknown."""
    for index in range(len(config.model_name)):
        was, found = (str(of_encoder(each.model_weights, index)) for each in (trained, config))
        files = Path(was), Path(found)
        if all(each.is_file() for each in files):
            if was != found:
                yield was, found, len(set(map(file_digest, files))) == 1
        elif files[0].name != files[1].name:  # a file of the same name has been moved
            yield was, found, None


def check_sections(config: Config) -> None:
    """Compare [TESTING] with [TRAINING], where it is to test the checkpoints of that run.

    Raises:
        ConfigError: As :func:`check_snapshot` does.
    """
    if config.training is None or config.testing is None:
        return
    files = TrainingFiles(config.training.results_path)
    if any(map(files.holds, config.testing.checkpoints)):
        compared = (config.testing, config.training, "[TRAINING] has", config.file, "TESTING")
        _refuse_differences(*compared)
        _refuse_weights(*compared)


def _refuse_differences(
    config: SectionConfig,
    trained: SectionConfig,
    origin: str,
    file: str,
    section: str,
    hint: str = "",
) -> None:
    was, found = ini_values(trained), ini_values(config)
    # Keys of only one section decide how the weights were learnt, not what they compute.
    shared = keys_of("TRAINING").keys() & keys_of("TESTING").keys()
    problems = [
        Problem(file, section, key, f"found {found[key]!r}; {origin} {was[key]!r}")
        for key in differences(was, found, ["model"])
        if key in shared
    ]
    # Often all of them follow from one forgotten key.
    if len(problems) > 1 and hint:
        problems.append(Problem(file, section, "", hint))
    if problems:
        raise ConfigError(problems)
