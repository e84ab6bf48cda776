"""Several checkpoints as one model: their maps on one scale, learnt on validation images."""

from dataclasses import replace
from statistics import fmean

from engine.evaluate.calibrate import calibration_for
from engine.evaluate.calibration_file import Calibration
from engine.evaluate.scorer import Scorer, create_scorer
from utils.config.load import Config
from utils.errors import UserError


def calibrated_scorer(config: Config) -> tuple[Scorer, Calibration | str]:
    """The model of [TESTING], or its ensemble, on the device, with its calibration.

    Instead of a calibration, why there is none.
    """
    settings = config.need_testing()
    scorer = create_scorer(settings, file=config.file)
    if len(settings.checkpoints) > 1:
        scorer = _balanced(scorer, config)
    return scorer, calibration_for(config, scorer)


def _balanced(scorer: Scorer, config: Config) -> Scorer:
    """An ensemble in which each model's maps are divided by their own median.

    That is of normal validation images, as each model's own calibration keeps it. The average is
    multiplied by the mean of the medians, so that equal models are one model.
    """
    settings, medians = config.need_testing(), []
    for model, checkpoint in zip(scorer.models, settings.checkpoints, strict=True):
        own = settings.model_copy(update={"checkpoint_path": checkpoint})
        alone = replace(scorer, models=(model,), weights=(1.0,))
        calibration = calibration_for(replace(config, testing=own), alone)
        if isinstance(calibration, str):
            raise UserError(
                "CHECKPOINT_PATH: to average the maps of several checkpoints, they are scaled with "
                f"normal validation images, but there are none: {calibration}; set VAL_DATA_PATH "
                "in [TRAINING], or use one checkpoint"
            )
        if calibration.colours.low <= 0:
            raise UserError(
                f"CHECKPOINT_PATH: {checkpoint}: over half of the normal validation pixels score "
                "0, so its maps have no scale to average them on; leave it out, or set another "
                "CRITERION_VAL"
            )
        medians.append(calibration.colours.low)
    weights = [fmean(medians) / (len(medians) * median) for median in medians]
    return replace(scorer, weights=tuple(weights))
