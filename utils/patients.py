"""Which patient an image belongs to, told by its file name."""

from __future__ import annotations

import re


def patient_of(path_stem: str, pattern: str) -> str:
    """The patient of a file name: the pattern's first capture group, else the whole match.

    Args:
        path_stem: File name without its extension, such as ``BraTS2021_00012_flair_61``.
        pattern: Regular expression, searched anywhere in the stem.

    Raises:
        ValueError: The pattern does not match, or its capture group takes no part in the match.
    """
    match = re.search(pattern, path_stem)
    patient = match and match.group(1 if match.re.groups else 0)
    if not patient:
        raise ValueError(f"{path_stem}: the patient pattern {pattern!r} does not match this name")
    return patient
