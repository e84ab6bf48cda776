"""Results of others on BMAD's test sets, in percent: quoted, not measured here."""

from __future__ import annotations

from dataclasses import dataclass

SOURCES = (
    "QFAE, paper: arXiv 2507.18481 v1, image AUROC. "
    "QFAE, released: README of the published code, with its released checkpoints; by its test "
    "configs each set lacks the last partial batch, and Chest_AD is cut at 9,984 of 17,194. "
    "PatchCore: BMAD's result table, arXiv 2306.11876."
)


@dataclass(frozen=True)
class PublishedFigures:
    """What others report for one data set; None where nothing is published.

    Attributes:
        paper: Image AUROC of the paper.
        released: Image AUROC of the released checkpoints.
        patchcore: Image AUROC of PatchCore.
        patchcore_pixel_auroc: Its pixel AUROC.
        patchcore_aupro: Its AUPRO.
    """

    paper: float | None = None
    released: float | None = None
    patchcore: float | None = None
    patchcore_pixel_auroc: float | None = None
    patchcore_aupro: float | None = None


# By EXPERIMENT_NAME.
PUBLISHED = {
    "Brain_AD": PublishedFigures(94.3, 94.1, 91.65, 96.97, 85.68),
    "Liver_AD": PublishedFigures(65.5, 68.4, 60.28, 96.43, 87.75),
    "RESC_AD": PublishedFigures(91.8, 91.9, 91.55, 96.48, 85.84),
    "Chest_AD": PublishedFigures(83.8, 84.2, 76.14),
    "OCT2017_AD": PublishedFigures(patchcore=98.57),
    "Camelyon16_AD": PublishedFigures(patchcore=69.34),
}
