"""MIN_FOREGROUND: leaves out slices of volumes that show too little, such as air above a head."""

import logging
from dataclasses import replace
from functools import partial
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from datasets.folders.samples import Sample, Split
from datasets.folders.scan import scan
from datasets.readers.formats import shown
from utils.config.schema import SectionConfig
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Pixels above this grey level are foreground: 5 % of white.
_BACKGROUND = 0.05 * 255


def shows_enough(sample: Sample, pixels: NDArray[np.uint8], least: float) -> bool:
    """Whether an image counts: a picture always, a slice if enough of it is foreground.

    Args:
        sample: The image.
        pixels: (H, W) or (H, W, 3) at its own size.
        least: MIN_FOREGROUND.
    """
    if sample.volume_name is None or least == 0:
        return True
    return bool(np.mean(pixels > _BACKGROUND) >= least)


def without_background(split: Split, config: SectionConfig) -> Split:
    """A split of the images that count; reads every slice of its volumes.

    Raises:
        UserError: None is left.
    """
    least = config.min_foreground
    if least == 0 or all(sample.volume_name is None for sample in split.samples):
        return split
    look = partial(_counts, config=config)
    counted = list(scan(split.samples, look, "looking for background"))
    if not any(counted):
        raise UserError(
            f"MIN_FOREGROUND = {least:g}: no image in {shown(split.folder)} has that much "
            "foreground; lower it"
        )
    background = tuple(compress(split.samples, (not each for each in counted)))
    logger.info(
        "MIN_FOREGROUND = %g: skipping %d of the %d images in %s: they are background",
        least,
        len(background),
        len(counted),
        shown(split.folder),
    )
    return replace(split, samples=tuple(compress(split.samples, counted)), background=background)


def _counts(sample: Sample, *, config: SectionConfig) -> bool:
    if sample.volume_name is None:
        return True
    try:
        return shows_enough(sample, sample.read(config.window), config.min_foreground)
    except UserError:
        # Reading it for its score reports the error.
        return True
