"""What the kept images of a data set depend on, as one digest: another one is another cache."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from datasets.anomaly_dataset import AnomalyDataset

_ROOT = Path(__file__).parent.parent
# From file to bytes: our own code, by its text, so that no number has to be remembered when it
# changes; and the packages that decode and resize.
_CODE = (
    *(f"datasets/{name}.py" for name in ("dicom", "image_cache", "image_file", "images", "nifti")),
    *(f"datasets/{name}.py" for name in ("formats", "pictures", "raw", "transforms")),
    "utils/intensity.py",
)
_PACKAGES = (
    *("numpy", "torch", "torchvision", "pillow", "pydicom", "nibabel"),
    *("pylibjpeg-libjpeg", "pylibjpeg-openjpeg"),
)


def cache_key(dataset: AnomalyDataset) -> str:
    """32 hexadecimal digits of files, sizes, times of change, settings, code and versions."""
    state = cache(_state)  # volumes hold many images
    files = [
        (each.path.absolute().as_posix(), each.frame, each.axis, each.volume, state(each.path))
        for each in dataset.split.samples
    ]
    parts = (code_version(), dataset.size, dataset.window, files)
    return hashlib.blake2b(ascii(parts).encode(), digest_size=16).hexdigest()


def code_version() -> str:
    """A digest of the code that makes the bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name in _CODE:
        digest.update((_ROOT / name).read_bytes())
    for package in _PACKAGES:
        digest.update(f"{package} {_version(package)}\n".encode())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _state(path: Path) -> tuple[int, int] | None:
    """(bytes, nanoseconds); None where there is no file: reading it will say so."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
