"""Everything between a picture and its score as one network, in operations that ONNX has."""

import torch
from torch import Tensor, nn

from datasets.transforms import normalise
from engine.evaluate.scorer import Scorer

# Bits that PyTorch and Pillow leave a weight of a resize; 8 more for the pixel, and the sum fits.
_WEIGHT_BITS = 15


class PictureScorer(nn.Module):
    """Resize, normalisation, autoencoder, criterion and reductions, as prediction does them.

    Args:
        scorer: Model and criterion on the CPU, in fp32.
        size: Pixels along each side that the model sees.
    """

    def __init__(self, scorer: Scorer, size: int) -> None:
        super().__init__()
        self.model = scorer.model
        self.criterion = scorer.criterion
        self.reductions = scorer.reductions
        self.size = size
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8 of any size → scores (B,) and anomaly maps (B, size, size)."""
        normalised = normalise(resize(images, self.size))
        maps = self.criterion(normalised, self.model(normalised))
        found = self.reductions.apply(maps, (self.size, self.size))
        return found.scores, found.anomaly_maps


def resize(images: Tensor, size: int) -> Tensor:
    """(B, C, H, W) uint8 → (B, C, size, size) uint8, bilinear with antialiasing.

    Equal to :func:`datasets.transforms.resize_image` to the last bit: columns first, each pass
    rounded to 8 bits, with weights in fixed point. ONNX's own Resize has other weights and rounds
    nothing.
    """
    columns = _resize_rows_of_pixels(images.double(), size)
    return _resize_rows_of_pixels(columns.mT, size).mT.to(torch.uint8)


def _resize_rows_of_pixels(images: Tensor, size: int) -> Tensor:
    """(B, C, h, w) whole numbers → (B, C, h, size) whole numbers from 0 to 255."""
    weights, unit = _fixed_point_weights(images.shape[-1], size)
    # Whole numbers below 2^53: doubles add them without rounding.
    return (images @ weights.mT / unit + 0.5).floor().clamp(0, 255)


def _fixed_point_weights(source: int, target: int) -> tuple[Tensor, Tensor]:
    """The weights (target, source) of a resize as whole numbers, and the number that represents 1.

    A triangle about each target pixel's centre, as wide as two of its pixels or two of the source,
    whichever are larger; the unit is the largest power of two that leaves weights 15 bits.
    """
    positions = torch.arange(source, dtype=torch.float64)
    # From a tensor: of a traced size, the quotient would be rounded to fp32.
    scale = (positions[-1] + 1) / target
    reach = scale.clamp(min=1.0)
    centres = scale * (torch.arange(target, dtype=torch.float64) + 0.5)[:, None]
    first = (centres - reach + 0.5).clamp(min=0).floor()
    end = (centres + reach + 0.5).floor()
    triangle = (1 - ((positions - centres + 0.5) / reach).abs()).clamp(min=0)
    triangle = torch.where((positions >= first) & (positions < end), triangle, 0.0)
    weights = triangle / triangle.sum(dim=1, keepdim=True)
    units = 2.0 ** torch.arange(1, 23, dtype=torch.float64)
    fits = (weights.max() * units + 0.5).floor() < 2**_WEIGHT_BITS
    unit = torch.where(fits, units, 1.0).max()
    return (weights * unit + 0.5).floor(), unit
