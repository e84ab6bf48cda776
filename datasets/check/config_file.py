"""Writes a short config for a data set that passed the check."""

import shlex
from pathlib import Path

from datasets.check.report import Report, SplitSummary
from datasets.readers.formats import shown
from utils.errors import UserError

_BATCH_SIZE = 16
# Small sets get more epochs than large ones, for about the same number of steps.
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 10_000, 20, 300

_TEXT = """\
# {name}: written by check_dataset.py for the images of {data}.
# docs/config.md says what keys that are left out become; the config.ini beside the results shows
# every key. configs/brain.ini has the published networks, which need a GPU.

[DEFAULT]
# The frozen encoder and the frozen network that compares image and reconstruction.
MODEL_NAME = vit_small_patch14_reg4_dinov2.lvd142m
PERCEPTUAL_MODEL_NAME = vit_base_patch16_224.mae
# Their weights are downloaded once. Without internet, set MODEL_WEIGHTS and PERCEPTUAL_WEIGHTS to
# files, such as /path/to/model.safetensors (docs/backbones.md).
{images}
[TRAINING]
# {train}
TRAIN_DATA_PATH = {train_path}
# {valid}: the threshold is learnt on these.
VAL_DATA_PATH = {valid_path}
# Checkpoints, curves and config.ini go here.
RESULTS_PATH = results/{name}
# Images per step; if memory runs out, lower it and raise ACCUMULATE.
BATCH_SIZE_TRAIN = {batch_size}
# About {steps} steps in all, but at least {fewest} and at most {most} epochs.
N_EPOCHS = {epochs}

[TESTING]
# {test}
TEST_DATA_PATH = {test_path}
# Scores, maps, metrics and report.html go here.
RESULTS_PATH = results/{name}/test
{patients}"""
_NO_TEST = """\
There is no test folder: these are the validation images again. Metrics on them are too
# optimistic, and no threshold is applied. Put images of other patients into {} and name it here."""
_TESTS_ON_VALIDATION = """\
There is no test folder, so TEST_DATA_PATH names the validation images: metrics on them are too
optimistic. Put images of other patients into a test folder, and set TEST_DATA_PATH to it.
"""
_DEEP = """\
# More than 8 bits: auto uses a DICOM file's own window, else the 0.5th and 99.5th percentile.
# With a fixed range, such as -160,240 for soft tissue in CT, tissue looks the same in all images.
INTENSITY_WINDOW = auto
"""
_PATIENTS = """\
# Finds the patient in a file name: confidence intervals then resample patients.
PATIENT_PATTERN = {}
"""
_VOLUMES = """\
# Volumes are cut into axial, coronal or sagittal slices.
# SLICE_AXIS = axial
"""


def config_text(path: Path, data: Path, report: Report, patient_pattern: str | None) -> str:
    """A config for the splits of a data set, as INI text.

    Raises:
        UserError: Something must be fixed first, or a split is missing.
    """
    if not report.clean:
        raise UserError(
            f"--write-config: {shown(path)} was not written; fix the problems above first"
        )
    splits = {each.place.name: each for each in report.splits}
    for name in ("train", "valid"):
        if name not in splits:
            raise UserError(
                f"--write-config: {shown(data)} has no folder {name}; add {name}/good with normal "
                "images from different patients"
            )
    return _text(path.stem, data, splits, patient_pattern)


def next_commands(path: Path, report: Report) -> str:
    """What to run next with the config that was written."""
    command = f"--config {shlex.quote(str(path))}"
    tested = any(each.place.name == "test" for each in report.splits)
    return (
        f"{'' if tested else _TESTS_ON_VALIDATION}Wrote {shown(path)}. Next:\n"
        f"  python run_training.py {command}\n"
        f"  python run_test.py {command}\n"
        f"  python run_predict.py {command} --input NEW_IMAGES"
    )


def _text(
    name: str, data: Path, splits: dict[str, SplitSummary], patient_pattern: str | None
) -> str:
    train, test = splits["train"], splits.get("test", splits["valid"])
    batch_size = min(_BATCH_SIZE, train.normal)
    steps_per_epoch = train.normal // batch_size
    epochs = min(max(_STEPS // steps_per_epoch, _FEWEST_EPOCHS), _MOST_EPOCHS)
    deep = any(each.deep for each in splits.values())
    volumes = any(each.volumes.slices for each in splits.values())
    return _TEXT.format(
        name=name,
        data=shown(data),
        images=_DEEP * deep + _VOLUMES * volumes,
        batch_size=batch_size,
        epochs=epochs,
        steps=f"{_STEPS:,}",
        fewest=_FEWEST_EPOCHS,
        most=_MOST_EPOCHS,
        train=_described(train),
        train_path=train.place.folder,
        valid=_described(splits["valid"]),
        valid_path=splits["valid"].place.folder,
        test=_described(test) if "test" in splits else _NO_TEST.format(shown(data / "test")),
        test_path=test.place.folder,
        patients=_PATIENTS.format(patient_pattern) if patient_pattern else "",
    )


def _described(split: SplitSummary) -> str:
    """Such as ``446 normal and 118 anomalous images, 256 × 256, grey, with masks``."""
    counts = [f"{split.normal} normal"] if split.normal else []
    counts += [f"{split.anomalous} anomalous"] if split.anomalous else []
    height, width = split.sizes.most_common(1)[0][0]
    several = " and other sizes" if len(split.sizes) > 1 else ""
    colour = "colour" if split.kinds[True] else "grey"
    masks = ", with masks" if split.masks else ", without masks" if split.anomalous else ""
    return f"{' and '.join(counts)} images, {width} × {height}{several}, {colour}{masks}"
