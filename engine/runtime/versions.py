"""The versions that numbers depend on."""

import os

import timm
import torch
import torchvision


def versions() -> dict[str, str]:
    """Versions of what numbers depend on."""
    return {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "threads": os.environ.get("OMP_NUM_THREADS", str(torch.get_num_threads())),
    }
