"""Liver preprocessing against a slow twin, on every layout, and each error."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import preprocess_liver_dataset as script
from datasets.liver import preprocess_image, preprocess_liver_dataset, preprocess_mask
from tests.processes import python
from utils.errors import UserError


def blob(height, width, top, left, shape=(60, 50), seed=0):
    """A bright noisy rectangle of the given shape on black, as (height, width)."""
    image = np.zeros((height, width), np.uint8)
    rng = np.random.default_rng(seed)
    image[top : top + shape[0], left : left + shape[1]] = rng.integers(1, 256, shape)
    return image


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def slow_centre(picture, image):
    """Pixel by pixel, for content of at most 224 pixels a side."""
    places = [(y, x) for y in range(image.shape[0]) for x in range(image.shape[1]) if image[y, x]]
    canvas = np.zeros((224, 224), picture.dtype)
    if not places:
        return canvas
    top, left = min(y for y, _ in places), min(x for _, x in places)
    height = max(y for y, _ in places) - top + 1
    width = max(x for _, x in places) - left + 1
    for y in range(height):
        for x in range(width):
            value = picture[top + y, left + x]
            canvas[(224 - height) // 2 + y, (224 - width) // 2 + x] = value
    return canvas


def slow_shrink(picture, height, width):
    """Bilinear at pixel centres, in floating point."""
    rows = (np.arange(height) + 0.5) * picture.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * picture.shape[1] / width - 0.5
    result = np.zeros((height, width))
    for i, row in enumerate(np.clip(rows, 0, picture.shape[0] - 1)):
        for j, column in enumerate(np.clip(columns, 0, picture.shape[1] - 1)):
            y, x = int(row), int(column)
            below, right = min(y + 1, picture.shape[0] - 1), min(x + 1, picture.shape[1] - 1)
            upper = picture[y, x] * (1 - column + x) + picture[y, right] * (column - x)
            lower = picture[below, x] * (1 - column + x) + picture[below, right] * (column - x)
            result[i, j] = upper * (1 - row + y) + lower * (row - y)
    return result


@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    top=st.integers(0, 10),
    left=st.integers(0, 10),
    seed=st.integers(0, 99),
)
def test_images_and_masks_agree_with_the_slow_twin(shape, top, left, seed):
    image = blob(100, 110, top, left, shape, seed)
    mask = np.random.default_rng(seed).choice(np.array([0, 1, 58, 255], np.uint8), image.shape)
    expected = cv2.bilateralFilter(slow_centre(image, image), 9, 75, 75)
    assert np.array_equal(preprocess_image(image), expected)
    assert np.array_equal(preprocess_mask(mask, image), slow_centre(mask, image))


def test_content_of_exactly_224_pixels_is_not_resized():
    image = blob(300, 260, 40, 20, (224, 224))
    expected = cv2.bilateralFilter(image[40:264, 20:244], 9, 75, 75)
    assert np.array_equal(preprocess_image(image), expected)


@pytest.mark.parametrize(
    ("shape", "shrunk"), [((448, 300), (224, 150)), ((240, 301), (179, 224)), ((500, 1), (224, 1))]
)
def test_larger_content_is_shrunk_with_its_aspect(shape, shrunk):
    smooth = cv2.GaussianBlur(blob(520, 310, 0, 0, (520, 310)), (0, 0), 4).clip(1)
    image = np.zeros((520, 310), np.uint8)
    image[9 : 9 + shape[0], 5 : 5 + shape[1]] = smooth[: shape[0], : shape[1]]
    canvas = np.zeros((224, 224))
    top, left = (224 - shrunk[0]) // 2, (224 - shrunk[1]) // 2
    canvas[top : top + shrunk[0], left : left + shrunk[1]] = slow_shrink(
        image[9 : 9 + shape[0], 5 : 5 + shape[1]].astype(float), *shrunk
    )
    expected = cv2.bilateralFilter(np.rint(canvas).astype(np.uint8), 9, 75, 75)
    found = preprocess_image(image).astype(int)
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("shape", [(61, 50), (300, 200), (224, 400)])
def test_a_mark_moves_with_its_image(shape):
    image = np.zeros((512, 512), np.uint8)
    image[30 : 30 + shape[0], 40 : 40 + shape[1]] = 90
    mask = np.zeros_like(image)
    mask[45:69, 60:90] = 255
    image[mask > 0] = 255
    seen = preprocess_image(image) > 172
    moved = preprocess_mask(mask, image) > 0
    assert moved.sum() > 100
    assert np.logical_xor(seen, moved).sum() <= 2 * (moved.any(0).sum() + moved.any(1).sum())
    centres = [np.argwhere(region).mean(axis=0) for region in (seen, moved)]
    assert np.abs(centres[0] - centres[1]).max() < 0.5


def test_masks_keep_their_grey_levels_and_zeros_stay_zeros():
    image = np.full((448, 448), 9, np.uint8)
    mask = np.random.default_rng(0).choice(np.array([0, 58, 122, 255], np.uint8), image.shape)
    assert set(np.unique(preprocess_mask(mask, image))) == {0, 58, 122, 255}
    zeros, canvas = np.zeros((30, 400), np.uint8), np.zeros((224, 224), np.uint8)
    assert np.array_equal(preprocess_image(zeros), canvas)
    assert np.array_equal(preprocess_mask(zeros + 255, zeros), canvas)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".JPEG", ".bmp", ".TIF", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_read_as_opencv_reads_them(tmp_path, suffix, channels):
    image = np.dstack([blob(120, 90, 10, 5, seed=seed) for seed in range(channels)])
    path = write(tmp_path / "in/train/good" / f"a.b{suffix}", image)
    assert preprocess_liver_dataset(tmp_path / "in", tmp_path / "out") == 1
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(read(tmp_path / "out/train/good/a.b.png"), preprocess_image(grey))


def test_sixteen_bit_masks_keep_their_low_levels(tmp_path):
    write(tmp_path / "in/test/Ungood/img/a.png", blob(100, 100, 10, 10))
    write(tmp_path / "in/test/Ungood/label/a.png", np.ones((100, 100), np.uint16))
    preprocess_liver_dataset(tmp_path / "in", tmp_path / "out")
    assert np.count_nonzero(read(tmp_path / "out/test/Ungood/label/a.png")) == 60 * 50


@pytest.mark.parametrize("validation", ["valid", "val", "Val", "Valid"])
@pytest.mark.parametrize("anomalous", ["Ungood", "ungood"])
@pytest.mark.parametrize("images", ["img", "."])
@pytest.mark.parametrize("masks", ["label", "anomaly_mask"])
def test_every_layout_keeps_its_folders_but_for_validation(
    tmp_path, validation, anomalous, images, masks
):
    source, mask = tmp_path / "in", np.full((70, 70), 255, np.uint8)
    write(source / "train/good" / images / "1.png", blob(70, 70, 0, 0))
    for split in (validation, "test"):
        write(source / split / "good" / images / "2.JPG", blob(70, 70, 1, 1))
        write(source / split / anomalous / images / "3.bmp", blob(70, 70, 2, 2))
        write(source / split / anomalous / masks / "3.png", mask)
    assert preprocess_liver_dataset(source, tmp_path / "out") == 5
    expected = [Path("train/good", images, "1.png")]
    for split in ("val", "test"):
        expected.append(Path(split, "good", images, "2.png"))
        expected.append(Path(split, anomalous, images, "3.png"))
        expected.append(Path(split, anomalous, masks, "3.png"))
    assert written(tmp_path / "out") == sorted(map(str, expected))
    assert (read(tmp_path / "out" / "test" / anomalous / masks / "3.png") > 0).sum() == 60 * 50


def test_debug_takes_the_first_of_each_folder_with_their_masks(tmp_path, capsys):
    for name in "cab":
        write(tmp_path / f"in/train/good/img/{name}.png", blob(70, 70, 0, 0))
        write(tmp_path / f"in/test/Ungood/img/{name}.png", blob(70, 70, 0, 0))
        write(tmp_path / f"in/test/Ungood/label/{name}.png", blob(70, 70, 0, 0))
    for name in ("train/good/img/._1.png", "__MACOSX/train/good/x.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"what macOS leaves in zips is no image")
    script.main(["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--debug=2"])
    assert "4 images" in capsys.readouterr().out
    folders = ("test/Ungood/img", "test/Ungood/label", "train/good/img")
    assert written(tmp_path / "out") == [f"{folder}/{n}.png" for folder in folders for n in "ab"]


def test_an_output_in_use_is_completed_and_nothing_in_it_deleted(tmp_path):
    image = write(tmp_path / "in/train/good/1.png", blob(70, 70, 0, 0))
    stale = write(tmp_path / "out/train/good/1.png", np.zeros((5, 5), np.uint8))
    other = write(tmp_path / "out/train/good/2.png", np.ones((5, 5), np.uint8))
    preprocess_liver_dataset(tmp_path / "in", tmp_path / "out")
    assert np.array_equal(read(stale), preprocess_image(read(image)))
    assert read(other).shape == (5, 5)
    assert written(tmp_path / "out") == ["train/good/1.png", "train/good/2.png"]


@pytest.fixture
def source(tmp_path):
    write(tmp_path / "in/test/Ungood/img/1.png", blob(70, 70, 0, 0))
    write(tmp_path / "in/test/Ungood/label/1.png", blob(70, 70, 0, 0))
    return tmp_path / "in"


def refused(source, output, *mentions):
    """All is mentioned in one line; the source stays as it is."""
    before = written(source)
    with pytest.raises(UserError) as raised:
        preprocess_liver_dataset(source, output)
    assert len(str(raised.value).splitlines()) == 1
    assert all(str(mention) in str(raised.value) for mention in mentions), raised.value
    assert written(source) == before


def test_a_corrupt_image_is_one_line_and_exit_code_2(source, tmp_path):
    path = source / "test/Ungood/img/1.png"
    path.write_bytes(path.read_bytes()[:900])
    paths = ["--input", str(source), "--output", str(tmp_path / "out")]
    run = python("preprocess_liver_dataset.py", *paths)
    assert run.returncode == 2
    # A progress bar may stand before the message, on a line of its own.
    bar = r"\s*|liver: .*image/s\]"
    (line,) = (line for line in run.stderr.splitlines() if not re.fullmatch(bar, line))
    assert str(path) in line
    assert "download it again" in line


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff"])
@pytest.mark.parametrize("share", [0, 0.1, 0.9])
def test_empty_and_truncated_files_are_refused(tmp_path, suffix, share):
    path = write(tmp_path / f"in/train/good/1{suffix}", blob(70, 70, 0, 0))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(tmp_path / "in", tmp_path / "out", path, "damaged", "delete")


# Images that are added to the source, and what is said of them.
MISPLACED = {
    "mask without its image": (["Ungood/label/9.png"], ["label/9.png", "add the image"]),
    "two images for one output": (["Ungood/img/1.jpg"], ["img/1.png", "img/1.jpg", "rename"]),
    "two masks of one image": (["Ungood/label/1.bmp"], ["label/1.bmp", "label/1.png", "remove"]),
    "two spellings of validation": (["val/good/1.png", "valid/good/1.png"],
                                    ["val/good/1.png", "valid/good/1.png"]),
}  # fmt: skip


@pytest.mark.parametrize(("files", "mentions"), MISPLACED.values(), ids=MISPLACED)
def test_what_has_no_place_is_refused_before_anything_is_written(source, tmp_path, files, mentions):
    for name in files:
        write(source / "test" / name, blob(70, 70, 0, 0))
    refused(source, tmp_path / "out", *mentions)
    assert not (tmp_path / "out").exists()


def test_a_mask_of_another_size_is_refused(source, tmp_path):
    mask = write(source / "test/Ungood/label/1.png", blob(71, 70, 0, 0))
    image = source / "test/Ungood/img/1.png"
    refused(source, tmp_path / "out", mask, image, "70×71", "70×70")


def test_places_that_are_refused(source, tmp_path):
    empty = tmp_path / "empty"
    refused(empty, tmp_path / "out", empty, "no such folder", "--input")
    (empty / "train").mkdir(parents=True)
    (empty / "train/readme.txt").write_text("")
    refused(empty, tmp_path / "out", empty, "no images", "--input")
    for output in (".", "out", "test/../test/Ungood"):
        refused(source, source / output, "choose another --output")
    (tmp_path / "file").write_text("")
    refused(source, tmp_path / "file", tmp_path / "file", "is a file")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/test").write_text("")
    refused(source, tmp_path / "out", tmp_path / "out/test/Ungood/img/1.png", "cannot be written")


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_debug_must_be_a_count(number, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(["--debug", number])
    assert "--debug" in capsys.readouterr().err


def test_the_output_is_beside_the_data_by_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    assert "data/Liver_processed" in capsys.readouterr().out
