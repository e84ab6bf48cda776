"""What was learnt on validation images for a checkpoint, and the file beside it that keeps it."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets.folders.samples import ANOMALOUS, NORMAL, Split
from engine.hub_files import beside_checkpoint, checkpoint_files
from utils.config.load import ini_values
from utils.config.schema import TestingConfig, keys_of
from utils.errors import UserError
from utils.files import file_digest, write_text
from utils.run_files import same_folder

logger = logging.getLogger(__name__)

_HALF = 16  # digits of a fingerprint for the checkpoint, and as many for the scoring keys


@dataclass(frozen=True)
class ColourScale:
    """Pixel scores that become the two ends of the colour map, one pair for all images."""

    low: float  # half of the normal pixels are below
    high: float  # one normal pixel in a thousand is above
    source: str  # the images that it was learnt on


@dataclass(frozen=True)
class Calibration:
    """What was learnt on validation images."""

    threshold: float  # an image with this score or above is predicted anomalous
    method: str  # how the threshold was found
    colours: ColourScale  # the colour scale of anomaly maps
    val_data_path: str  # the validation folder
    num_normal: int  # its normal images, those of background included, which are not learnt on
    num_anomalous: int  # its anomalous images, counted the same way
    fingerprint: str  # of checkpoint and scoring keys; another one needs another calibration
    pixel_threshold: float  # a pixel with this score or above is part of what is found
    pixel_method: str  # how it was found
    # A volume with this score or above is predicted anomalous; None unless validation has both
    # normal and anomalous volumes.
    volume_threshold: float | None
    # How the scores of validation images are spread: ``normal`` and ``anomalous`` images in each of
    # the bins of equal width from ``low`` to ``high``.
    histogram: dict[str, Any]

    def is_of(self, split: Split) -> bool:
        """Whether it was learnt on a split: its folder, and as many images of both classes."""
        same_counts = class_counts(split) == (self.num_normal, self.num_anomalous)
        return same_counts and same_folder(Path(self.val_data_path), split.folder)


def class_counts(split: Split) -> tuple[int, int]:
    """Normal and anomalous images, those of background included."""
    labels = [sample.label for sample in (*split.samples, *split.background)]
    return labels.count(NORMAL), labels.count(ANOMALOUS)


def calibration_path(config: TestingConfig, own: str) -> Path:
    """Where the calibration of a checkpoint is kept; that of a second scoring, apart from it.

    Args:
        config: Names the checkpoint.
        own: Its :func:`fingerprint`, which takes seconds for large checkpoints.
    """
    path = beside_checkpoint(config, ".calibration.json")
    try:
        first = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError):
        return path
    if first != own and first[:_HALF] == own[:_HALF]:
        return path.with_suffix(f".{own[_HALF:]}.json")
    return path


def fingerprint(config: TestingConfig) -> str:
    """A digest of all that scores and thresholds depend on: checkpoint, then scoring keys."""
    roles = keys_of("TESTING")
    keys = {
        key: value for key, value in ini_values(config).items() if roles[key] in ("model", "score")
    }
    weights = "".join(map(file_digest, checkpoint_files(config)))
    parts = (weights, json.dumps(keys, sort_keys=True))
    return "".join(hashlib.sha256(part.encode()).hexdigest()[:_HALF] for part in parts)


def load_calibration(config: TestingConfig) -> Calibration | None:
    """The stored calibration of a checkpoint; None if there is none that fits the config.

    Raises:
        UserError: The file is damaged.
    """
    if not beside_checkpoint(config, ".calibration.json").is_file():
        return None
    own = fingerprint(config)
    path = calibration_path(config, own)
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["fingerprint"] != own:
            logger.info(
                "%s is ignored: it belongs to another checkpoint or other scoring keys", path
            )
            return None
        content["colours"] = ColourScale(**content["colours"])
        return Calibration(**content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: is damaged ({error}); delete it and it will be rebuilt"
        ) from error


def store_calibration(calibration: Calibration, config: TestingConfig) -> None:
    """Write a calibration beside its checkpoint; a warning if that is read-only or shared."""
    try:
        path = calibration_path(config, calibration.fingerprint)
        write_text(path, json.dumps(asdict(calibration), indent=2) + "\n")
    except UserError as error:
        logger.warning("%s; the threshold will be learnt again next time", error)
