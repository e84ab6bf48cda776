"""CACHE_IMAGES: the same bytes, kept once, and made anew when anything has changed."""

import logging
import os
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from datasets import cache as image_cache
from datasets.cache import keep_images
from datasets.dataset import AnomalyDataset, EpochSampler, TrainDataset, train_loader
from datasets.folders.find import find_normal_images, find_split
from datasets.folders.slicing import Slicing
from engine.testing.test import test as run_test
from engine.train.start import train
from tests.image_sets import (
    AUTO,
    GREY,
    VOLUME,
    dataset_of,
    files_in,
    write_grey,
    write_medical,
    write_mixed,
)
from tests.medical_files import write_nifti
from utils.errors import UserError
from utils.intensity import IntensityWindow


@pytest.mark.parametrize("mode", ["ram", "disk"])
@pytest.mark.parametrize(
    ("write", "channels"), [(write_grey, 1), (write_mixed, 3), (write_medical, 1)]
)
def test_the_same_bytes(tmp_path, write, channels, mode):
    write(tmp_path / "data")
    for window in (AUTO, IntensityWindow("range", 100, 700)):
        plain = dataset_of(tmp_path / "data", window=window)
        kept = keep_images(plain, mode, tmp_path / "cache")
        assert len(kept) == len(plain) > 2
        for index in range(len(plain)):
            assert torch.equal(kept[index]["image"], plain[index]["image"])
            assert len(kept.resized(index)) == channels
        # What is given out may be changed.
        before = kept.resized(0).clone()
        kept.resized(0).zero_()
        assert torch.equal(kept.resized(0), before)


@pytest.mark.parametrize("mode", ["ram", "disk"])
def test_files_are_read_once(source, decoded, mode):
    (source / "b2.png").unlink()  # the one in colour, at which reading begins anew
    kept = keep_images(dataset_of(source), mode, source.parent / "cache")
    for path in source.iterdir():
        path.unlink()
    assert [kept[index]["image"].shape for index in range(3)] == [(3, 8, 8)] * 3
    assert sorted(decoded) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("write", [write_grey, write_mixed])
@pytest.mark.parametrize("workers", [0, 2])
def test_augmented_batches_are_identical(tmp_path, write, workers):
    write(tmp_path / "data")
    plain = dataset_of(tmp_path / "data", size=16)
    found = []
    for mode, used in (("none", 0), ("none", workers), ("ram", workers), ("disk", workers)):
        dataset = TrainDataset(keep_images(plain, mode, tmp_path / "cache"), seed=3)
        sampler = EpochSampler(len(plain), seed=3)
        loader = train_loader(dataset, sampler, batch_size=1, num_workers=used, pin=False)
        epochs = []
        for sampler.epoch in (1, 2):
            epochs += [batch["image"] for batch in loader]
        found.append(torch.cat(epochs))
    assert not torch.equal(*found[0].chunk(2))
    assert all(torch.equal(each, found[0]) for each in found[1:])


def test_a_spawned_worker_maps_the_file(source):
    kept = keep_images(dataset_of(source, size=64), "disk", source.parent / "cache")
    content = pickle.dumps(kept)
    assert len(content) < 64 * 64
    assert torch.equal(pickle.loads(content).resized(2), kept.resized(2))


def test_a_hit_decodes_nothing_and_is_said(source, decoded, caplog):
    cache = source.parent / "cache"
    with caplog.at_level(logging.INFO):
        keep_images(dataset_of(source), "disk", cache)
        decoded.clear()
        keep_images(dataset_of(source), "disk", cache)
    assert decoded == []
    (file,) = files_in(cache)
    size = "7.68e-07 GB, colour"
    assert caplog.messages == [
        f"4 images of {source} kept in {file}: {size}",
        f"4 images of {source} found in {file}: {size}",
    ]


def touch(file: Path) -> None:
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def grow(file: Path) -> None:
    times = file.stat()
    file.write_bytes(file.read_bytes() + b"\0")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def add(file: Path) -> None:
    Image.fromarray(GREY).save(file.with_name("d.png"))


def test_changed_files_settings_and_versions_are_read_anew(source, decoded, monkeypatch):
    cache = source.parent / "cache"

    def count(size: int = 8, window: IntensityWindow = AUTO) -> int:
        decoded.clear()
        plain = dataset_of(source, size, window)
        kept = keep_images(plain, "disk", cache)
        for index in range(len(plain)):
            assert torch.equal(kept[index]["image"], plain[index]["image"])
        # The comparison decodes each image once more.
        return len(decoded) - len(plain)

    narrow = IntensityWindow("range", 0, 900)
    # The first grey ones are read again where the one in colour is met.
    assert count() >= 4
    assert count() == 0
    assert all(each >= 4 for each in (count(size=9), count(window=narrow), count(9, narrow)))
    assert count() == 0
    for change in (touch, grow, add):
        change(source / "a.png")
        assert count() >= 4
    monkeypatch.setattr(image_cache, "CACHE_VERSION", image_cache.CACHE_VERSION + 1)
    assert count() >= 4


def test_another_slice_axis_is_another_cache(tmp_path):
    write_nifti(tmp_path / "data/a.nii", VOLUME[:4, :4, :4])
    keys = set()
    for axis in ("axial", "coronal", "sagittal"):
        split = find_normal_images(tmp_path / "data", key="TRAIN_DATA_PATH", slicing=Slicing(axis))
        keys.add(image_cache.cache_key(AnomalyDataset(split, 8, AUTO)))
    assert len(keys) == 3


@pytest.mark.parametrize("mode", ["ram", "disk"])
def test_all_bad_files_are_named_and_nothing_is_kept(source, mode):
    cache = source.parent / "cache"
    for name in ("a.png", "c.png"):
        (source / name).write_bytes((source / name).read_bytes()[:60])
    with pytest.raises(UserError) as caught:
        keep_images(dataset_of(source), mode, cache)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{source}/a.png: cannot be read as an image")
    assert second.startswith(f"{source}/c.png: cannot be read as an image")
    assert files_in(cache) == []


def test_masks_are_checked_at_a_hit_as_well(tmp_path):
    for name in ("img", "label"):
        (tmp_path / "data/Ungood" / name).mkdir(parents=True)
        Image.fromarray(GREY).save(tmp_path / f"data/Ungood/{name}/b.png")

    def kept() -> AnomalyDataset:
        split = find_split(tmp_path / "data", key="TEST_DATA_PATH")
        return keep_images(AnomalyDataset(split, 8, AUTO), "disk", tmp_path / "cache")

    for _ in range(2):
        assert kept()[0]["mask"].any()
    Image.fromarray(GREY[:5]).save(tmp_path / "data/Ungood/label/b.png")
    with pytest.raises(UserError, match=r"label/b\.png: is 14 × 5 pixels"):
        kept()


@pytest.mark.parametrize(
    ("processes", "available", "said"),
    [(1, 255, "needs 2.56e-07 GB"), (1, 767, "needs 7.68e-07 GB"), (2, 1535, "needs 1.54e-06 GB")],
)
def test_too_little_memory(source, decoded, monkeypatch, processes, available, said):
    def keep(left: int | None) -> AnomalyDataset:
        monkeypatch.setattr(image_cache, "available_memory", lambda: left)
        return keep_images(dataset_of(source), "ram", source, processes=processes)

    expected = rf"CACHE_IMAGES = ram: {said} of memory, but only {available / 1e9:.3g} GB is free"
    with pytest.raises(UserError, match=expected):
        keep(available)
    # What even grey images have no room for is found before reading.
    assert bool(decoded) == (available > 255)
    assert keep(768 * processes).images is not None
    assert keep(None).images is not None


def test_training_and_test_end_with_the_same_numbers(tiny, tmp_path, decoded, caplog):
    caplog.set_level(logging.INFO)
    weights, scores = {}, {}
    for mode, workers in (("none", 0), ("ram", 2), ("disk", 2)):
        folder = tmp_path / mode
        config = tiny(
            f"CACHE_IMAGES={mode}", f"CACHE_DIR={tmp_path}/cache", f"NUM_WORKERS={workers}",
            f"TRAINING.RESULTS_PATH={folder}", f"TESTING.RESULTS_PATH={folder}/test",
            f"CHECKPOINT_PATH={folder}/checkpoints/last_ckpt.pth", "N_EPOCHS=2",
        )  # fmt: skip
        train(config)
        decoded.clear()
        caplog.clear()
        run_test(config)
        weights[mode] = torch.load(folder / "checkpoints/last_ckpt.pth", weights_only=True)
        scores[mode] = (folder / "test/scores.csv").read_bytes()
        assert weights[mode].keys() == weights["none"].keys()
        assert all(torch.equal(each, weights["none"][name]) for name, each in weights[mode].items())
        assert scores[mode] == scores["none"]
        assert mode == "none" or len(decoded) == 7
        # The threshold's images have been kept by the training.
        found = f"6 images of {tmp_path}/data/valid found in {tmp_path}/cache" in caplog.text
        assert found == (mode == "disk")
        assert len(files_in(tmp_path / "cache")) == (3 if mode == "disk" else 0)
