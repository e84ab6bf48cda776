"""How many images the sets of BMAD have (arXiv 2306.11876; github.com/DorisBao/BMAD)."""

from collections.abc import Mapping
from itertools import chain

# (normal, anomalous) images.
Counts = tuple[int, int]

SPLITS: Mapping[str, Mapping[str, Counts]] = {
    "Brain": {"train": (7500, 0), "valid": (39, 44), "test": (640, 3075)},
    "Liver": {"train": (1542, 0), "valid": (93, 73), "test": (833, 660)},
    "RESC": {"train": (4297, 0), "valid": (45, 70), "test": (1041, 764)},
    "OCT2017": {"train": (26315, 0), "valid": (8, 24), "test": (242, 726)},
    "Chest": {"train": (8000, 0), "valid": (70, 1420), "test": (781, 16413)},
    "Camelyon16": {"train": (5088, 0), "valid": (117, 119), "test": (1003, 994)},
}


def recognise(names: tuple[str, ...], counts: Mapping[str, Counts]) -> str | None:
    """Which set of BMAD this is: by a name such as ``Brain_AD``, else by the counts of one split.

    Numbers of normal images alone, such as 8000, do not count.
    """
    plain = [name.lower().removesuffix("_ad") for name in names]
    named = (known for known in SPLITS if known.lower() in plain)
    counted = (
        known
        for known, splits in SPLITS.items()
        if any(found[1] and splits.get(split) == found for split, found in counts.items())
    )
    return next(chain(named, counted), None)
