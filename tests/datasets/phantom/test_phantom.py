"""Phantoms: the same by seed, lesions where their masks say, folders that are never lost."""

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from datasets.phantom import draw as phantom
from datasets.phantom import write as phantom_dataset
from datasets.phantom.draw import LESION_KINDS, add_lesion, draw_phantom
from datasets.phantom.write import write_phantom_dataset
from utils.errors import UserError

SMALL = {"train": 3, "valid_good": 1, "valid_ungood": 2, "test_good": 2, "test_ungood": 4}


def generator(*seed):
    return np.random.default_rng(seed)


def lesions(kind, count=12, size=64):
    for index in range(count):
        rng = generator(1, index)
        head = draw_phantom(rng, size)
        yield head.image.astype(int), *add_lesion(rng, head, kind)


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_seed_decides_on_head_and_lesion():
    first, second = (draw_phantom(generator(7), 48) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    before = first.image.copy(), first.signal.copy()
    results = [add_lesion(generator(8), head) for head in (first, second)]
    assert np.array_equal(results[0], results[1])
    # The lesion is drawn into a copy.
    assert np.array_equal(first.image, before[0])
    assert np.array_equal(first.signal, before[1])
    images = [draw_phantom(generator(seed), 48).image.astype(float) for seed in range(6)]
    assert min(np.abs(a - b).mean() for a in images for b in images if a is not b) > 4


@pytest.mark.parametrize("size", [16, 64, 97])
def test_a_head_is_grey_of_the_asked_size_with_dark_air_and_a_bright_scalp(size):
    for seed in range(10):
        image = draw_phantom(generator(seed), size).image
        assert (image.shape, image.dtype) == ((size, size), np.uint8)
        assert image[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 30
        frame = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert frame.max() < 40
        assert image.max() > 110
    with pytest.raises(ValueError, match="16 or more"):
        draw_phantom(generator(0), 15)


def test_the_anatomy_does_not_depend_on_the_size():
    small, large = (draw_phantom(generator(3), size).image for size in (64, 128))
    shrunk = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
    other = draw_phantom(generator(4), 64).image
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.98
    assert np.corrcoef(small.ravel(), other.ravel())[0, 1] < 0.95


@pytest.mark.parametrize(("kind", "sign"), [("bright", 1), ("dark", -1), ("ring", 0)])
def test_the_mask_holds_all_that_changed(kind, sign):
    for before, after, mask in lesions(kind):
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(before[mask == 0], after[mask == 0])
        change = (after.astype(int) - before)[mask > 0]
        assert (np.abs(change) > 3).mean() > 0.6
        assert np.abs(change).mean() > 12
        assert sign == 0 or sign * change.mean() > 10


def test_rings_have_a_rim_brighter_than_their_core():
    rims, cores = [], []
    for before, after, mask in lesions("ring", size=128):
        depth = ndimage.distance_transform_edt(mask > 0)
        change = after.astype(int) - before
        rims.append(change[(depth > 0) & (depth < 0.4 * depth.max())].mean())
        cores.append(change[depth > 0.8 * depth.max()].mean())
    assert np.mean(np.array(rims) > np.array(cores) + 20) > 0.8
    assert np.mean(rims) > 0 > np.mean(cores)


def test_lesions_lie_in_the_brain():
    for index in range(20):
        rng = generator(2, index)
        head = draw_phantom(rng, 64)
        _, mask = add_lesion(rng, head)
        tissue = cv2.resize(head.tissue, (64, 64), interpolation=cv2.INTER_AREA)
        assert tissue[mask > 0].min() > 0.2


def test_lesions_vary_in_size_place_and_contrast():
    drawn = [item for kind in LESION_KINDS for item in lesions(kind)]
    areas = np.array([(mask > 0).sum() for _, _, mask in drawn])
    contrasts = [np.abs(after - before)[mask > 0].mean() for before, after, mask in drawn]
    centres = np.array([ndimage.center_of_mass(mask) for _, _, mask in drawn])
    assert areas.max() > 4 * areas.min()
    assert max(contrasts) > 2 * min(contrasts)
    assert centres.std(axis=0).min() > 5


def test_the_kind_is_drawn_where_none_is_asked():
    head, signs = draw_phantom(generator(0), 64), set()
    for seed in range(20):
        after, mask = add_lesion(generator(seed), head)
        change = (after.astype(int) - head.image)[mask > 0]
        signs.add(int(np.sign(round(change.mean() / 10))))
    assert signs >= {-1, 1}


def test_a_phantom_without_room_for_a_lesion_is_reported(monkeypatch):
    monkeypatch.setattr(phantom, "_FAINTEST_LESION", 2.0)
    monkeypatch.setattr(phantom, "_LESION_ATTEMPTS", 3)
    with pytest.raises(RuntimeError, match="no place"):
        add_lesion(generator(0), draw_phantom(generator(0), 32))


@pytest.fixture
def written(tmp_path):
    """A folder that was empty, with phantoms of 32 pixels."""
    (tmp_path / "set").mkdir()
    assert write_phantom_dataset(tmp_path / "set", size=32, **SMALL)
    return tmp_path / "set"


def test_masks_share_their_images_names_and_mark_lesions_only(written):
    assert len(list((written / "train/good/img").iterdir())) == 3
    for split, label in itertools.product(("valid", "test"), ("good", "Ungood")):
        folder = written / split / label
        names = sorted(path.name for path in (folder / "img").iterdir())
        assert names == sorted(path.name for path in (folder / "label").iterdir())
        assert len(names) == SMALL[f"{split}_{label.lower()}"]
        for name in names:
            mask = cv2.imread(str(folder / "label" / name), cv2.IMREAD_UNCHANGED)
            image = cv2.imread(str(folder / "img" / name), cv2.IMREAD_UNCHANGED)
            assert mask.shape == image.shape == (32, 32)
            assert mask.any() == (label == "Ungood")
    images = {path.read_bytes() for path in written.rglob("img/*.png")}
    assert len(images) == sum(SMALL.values()), "no image repeats"


def test_the_same_seed_writes_the_same_files_and_more_leave_the_others_alone(tmp_path, written):
    write_phantom_dataset(tmp_path / "again", size=32, **SMALL)
    write_phantom_dataset(tmp_path / "other", size=32, seed=6, **SMALL)
    write_phantom_dataset(tmp_path / "more", size=32, **SMALL | {"train": 5, "test_good": 3})
    again, other, more = (snapshot(tmp_path / name) for name in ("again", "other", "more"))
    found = snapshot(written)
    assert found == again
    assert found["train/good/img/00000.png"] != other["train/good/img/00000.png"]
    found.pop("phantom.json")
    assert found.items() <= more.items()


def test_what_is_there_is_not_drawn_again(written, monkeypatch):
    monkeypatch.setattr(phantom_dataset, "draw_phantom", lambda *_: pytest.fail("drawn again"))
    before = snapshot(written)
    assert not write_phantom_dataset(written, size=32, **SMALL)
    assert snapshot(written) == before
    (written / "train/good/img/00001.png").unlink()
    with pytest.raises(UserError, match="2 of 3 images"):
        write_phantom_dataset(written, size=32, **SMALL)


def test_phantoms_of_other_parameters_are_an_error_and_stay(written, monkeypatch):
    before = snapshot(written)

    def refused(**change):
        with pytest.raises(UserError, match=r"other settings .* delete it, or choose another"):
            write_phantom_dataset(written, **{"size": 32, **SMALL, **change})

    for change in ({"seed": 1}, {"size": 40}, {"train": 4}):
        refused(**change)
    monkeypatch.setattr(phantom_dataset, "DRAWING_VERSION", phantom_dataset.DRAWING_VERSION + 1)
    refused()
    assert snapshot(written) == before
    (written / "phantom.json").write_text("{")
    refused()


@pytest.mark.parametrize(
    ("name", "said"), [("set/thesis.txt", "contains no phantoms"), ("set", "delete it, or choose")]
)
def test_something_else_in_its_place_is_an_error_and_stays(tmp_path, name, said):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("years of work")
    with pytest.raises(UserError, match=said):
        write_phantom_dataset(tmp_path / "set", size=32, **SMALL)
    assert snapshot(tmp_path) == {name: b"years of work"}


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(phantom_dataset, "add_lesion", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantom_dataset(tmp_path / "deep" / "set", size=32, **SMALL)
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep"]


@pytest.mark.parametrize("wrong", [{"size": 8}, {"seed": -1}, {"train": -1}])
def test_numbers_without_sense_are_an_error(tmp_path, wrong):
    with pytest.raises(UserError, match="must be"):
        write_phantom_dataset(tmp_path / "set", **wrong)
    assert not (tmp_path / "set").exists()


def test_the_command_line_records_what_it_was_given(tmp_path, capsys):
    folder = tmp_path / "set"
    counts = [f"--{name.replace('_', '-')}={count}" for name, count in SMALL.items()]
    arguments = ["--output", str(folder), "--size=32", "--seed=9", *counts]
    phantom_dataset.main(arguments)
    assert "drawn" in capsys.readouterr().out
    record = json.loads(Path(folder, "phantom.json").read_text())
    assert (record["size"], record["seed"], record["images"]["test/Ungood"]) == (32, 9, 4)
    phantom_dataset.main(arguments)
    assert "already there" in capsys.readouterr().out
