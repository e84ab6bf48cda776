"""Dice of volumes against voxels counted one by one, whole and in parts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.folders.find import find_split
from engine.metrics.volume_dice import VolumeDice
from models.criteria import resize_maps
from tests.volume_sets import write_volumes

THRESHOLD = 0.6
SIDE = 16


def collected(split, volumes, parts):
    maps = np.random.default_rng(0).uniform(size=(len(split.samples), SIDE, SIDE))
    maps = maps.astype(np.float32)
    collectors = []
    for part in parts:
        collectors.append(VolumeDice(split.samples, volumes, THRESHOLD))
        # What is marked at RESIZE pixels does not count.
        collectors[-1].update(maps[part], np.ones((len(part), SIDE, SIDE), bool), part)
    for other in collectors[1:]:
        collectors[0].merge(other)
    return maps, collectors[0].compute()


def counted(split, maps, volume: Path) -> float:
    common = found = marked = 0
    for sample, anomaly_map in zip(split.samples, maps, strict=True):
        if sample.path != volume:
            continue
        own = resize_maps(torch.from_numpy(anomaly_map)[None, None, None], (28, 20))[0, 0, 0]
        mask = sample.read_mask() if sample.mask else np.zeros((28, 20), bool)
        for row in range(28):
            for column in range(20):
                above = bool(own[row, column] >= THRESHOLD)
                inside = bool(mask[row, column])
                found, marked = found + above, marked + inside
                common += above and inside
    return 2 * common / (found + marked)


def test_dice_is_counted_over_all_slices_whatever_the_parts(tmp_path):
    split = find_split(write_volumes(tmp_path, normal=1, anomalous=2), key="TEST_DATA_PATH")
    volumes = {index: each.path for index, each in enumerate(split.samples) if index < 12}
    maps, whole = collected(split, volumes, [list(range(18))])
    _, parts = collected(split, volumes, [[3, 17, 5], [0, 1, 2, 4], list(range(6, 17))])
    assert whole == parts
    assert len(whole) == 2
    for volume, dice in whole.items():
        assert dice == pytest.approx(counted(split, maps, volume))
