"""A data set without a fault, for the tests of folders and of the check."""

from pathlib import Path

import pytest

from tests.drawn_sets import put, put_masks


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two training images, and a normal and an anomalous one in each other split."""
    folder = tmp_path / "data"
    put(folder, "train/good/p1_a.png", "train/good/p2_b.png", "valid/good/p3_c.png")
    put(folder, "test/good/p4_d.png", "valid/Ungood/img/p3_e.png", "test/Ungood/img/p4_f.png")
    put_masks(folder, "valid/Ungood/label/p3_e.png", "test/Ungood/label/p4_f.png")
    return folder
