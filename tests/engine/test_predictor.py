"""Prediction from Python: every kind of input, and the numbers of the script."""

import re
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from engine.evaluate.calibration_file import load_calibration
from engine.prediction.predict import Output, predict
from engine.predictor import Predictor
from tests.conftest import read_csv
from tests.medical_files import write_nifti
from tests.series_files import write_series
from utils.errors import UserError


@pytest.fixture(scope="module")
def files(phantoms):
    return sorted((phantoms / "test" / "good" / "img").iterdir())


@pytest.fixture
def config(trained):
    return trained("N_EPOCHS=1")


@pytest.fixture
def predictor(config):
    return Predictor.from_config(config)


def test_a_path_a_picture_and_an_array_give_one_result(predictor, config, files):
    of_path = predictor(str(files[0]))
    picture = Image.open(files[0])
    array = np.asarray(picture)
    for other in (picture, array, np.stack([array] * 3, axis=2)):
        prediction = predictor(other)
        assert prediction.score == of_path.score
        assert np.array_equal(prediction.anomaly_map, of_path.anomaly_map)
    assert of_path.anomaly_map.shape == array.shape[:2]
    assert of_path.anomaly_map.dtype == np.float32
    size = config.testing.resize
    assert of_path.reconstruction.shape == (size, size, 3)
    assert of_path.threshold == load_calibration(config.testing).threshold
    assert of_path.predicted == (of_path.score >= of_path.threshold)
    assert str(of_path).startswith("Prediction(score=")
    assert len(str(of_path)) < 80


def test_more_than_8_bits_go_through_the_window(predictor, files):
    array = np.asarray(Image.open(files[0])).astype(np.uint16)
    wide = predictor(array * 256)
    assert predictor((array * 256).astype(np.float32)).score == wide.score
    assert predictor(Image.fromarray(array * 256)).score == wide.score


@pytest.mark.parametrize("kind", ["turned", "alpha", "palette", "big-endian"])
def test_a_picture_gives_what_its_file_gives(predictor, tmp_path, kind):
    path, exif = tmp_path / "x.png", Image.Exif()
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 4)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    if kind == "turned":
        exif[0x0112] = 6
    if kind == "palette":
        picture = picture.convert("RGB").convert("P")
    if kind == "big-endian":
        path = tmp_path / "x.tif"
        deep = pixels[..., 0].astype(">u2") * 200
        picture = Image.frombytes("I;16B", (30, 20), deep.astype(">u2").tobytes())
    picture.save(path, exif=exif)
    with Image.open(path) as opened:
        of_picture = predictor(opened)
    assert of_picture.score == predictor(path).score
    assert of_picture.anomaly_map.shape == ((30, 20) if kind == "turned" else (20, 30))


def test_a_list_gives_a_list_and_an_iterator_streams(predictor, files):
    listed = predictor(files)
    assert [each.score for each in predictor(tuple(files))] == [each.score for each in listed]
    assert predictor([]) == []
    assert [each.case.name for each in listed] == [str(file) for file in files]
    asked = []
    stream = predictor(asked.append(file) or file for file in files * 5)
    assert not asked
    first = next(stream)
    assert len(asked) == min(predictor.settings.batch_size_test, 5 * len(files))
    assert first.score == pytest.approx(listed[0].score, rel=1e-5)


def test_a_result_that_is_kept_does_not_keep_its_batch(predictor):
    side = predictor.settings.resize
    result, _ = predictor([np.zeros((side, side), np.uint8)] * 2)
    for array in (result.case.image, result.reconstruction, result.anomaly_map):
        held = array
        while isinstance(held, np.ndarray) and held.base is not None:
            held = held.base
        size = held.untyped_storage().nbytes() if torch.is_tensor(held) else held.nbytes
        assert size == array.nbytes


def test_keys_and_threshold_can_be_overridden(config, files):
    own = Predictor.from_config(config.file, threshold=-1.0, BATCH_SIZE_TEST=2)
    assert own.settings.batch_size_test == 2
    assert own(files[0]).predicted is True
    # As Python writes them, not as an INI file does.
    own = Predictor.from_config(config.file, COMPILE=False, PERCEPTUAL_PATCH_SIZE_VAL=[8, 16])
    assert own.settings.perceptual_patch_size_val == (8, 16)
    with pytest.raises(ValueError, match="threshold nan is not a finite number"):
        Predictor.from_config(config.file, threshold=float("nan"))
    with pytest.raises(TypeError, match="DEVICE: can only override an INI file; pass its path"):
        Predictor.from_config(config, DEVICE="cpu")


def test_several_threads_get_the_same_numbers(predictor, files):
    expected = [predictor(file).score for file in files]
    with ThreadPoolExecutor(4) as pool:
        assert [each.score for each in pool.map(predictor, files)] == expected


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (1, 4, 4, 3), (0, 4)])
def test_other_shapes_are_refused(predictor, shape):
    with pytest.raises(ValueError, match=r"image 0: has shape .*; pass \(H, W\) or \(H, W, 3\)"):
        predictor(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (None, "NoneType"),
        (torch.zeros(4, 4), "Tensor"),
        (np.zeros((4, 4), complex), "an array of complex128"),
    ],
)
def test_what_is_no_image_is_refused_at_once(predictor, image, found):
    expected = f"image {{}}: is {found}; pass a path, a PIL image or an array of numbers"
    with pytest.raises(TypeError, match=expected.format(0)):
        predictor(image)
    with pytest.raises(TypeError, match=expected.format(1)):
        predictor([np.zeros((4, 4)), image])


def test_infinite_values_are_an_error_with_the_place(predictor):
    with pytest.raises(ValueError, match="image 1: contains NaN or infinite values"):
        predictor([np.zeros((4, 4)), np.full((4, 4), np.inf)])


def test_a_picture_that_is_damaged_or_several_is_an_error_with_its_place(predictor, tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    picture.save(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:-900])
    with pytest.raises(UserError, match="image 1: cannot be read"):
        predictor([picture, Image.open(tmp_path / "x.jpg")])
    picture.save(tmp_path / "x.gif", save_all=True, append_images=[picture.rotate(90)])
    with pytest.raises(UserError, match="image 0: has 2 frames"):
        predictor(Image.open(tmp_path / "x.gif"))


def test_a_file_that_is_no_image_is_an_error_with_its_name(predictor, tmp_path):
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"x\.png: "):
        predictor(tmp_path / "x.png")
    with pytest.raises(UserError, match=r"y\.png: no such file"):
        predictor([tmp_path / "y.png"])
    gone = tmp_path / "y.png"
    with pytest.raises(UserError, match=rf"^{re.escape(str(gone))}: no such file or folder$"):
        predictor.samples([tmp_path / "x.png", gone])
    write_series(tmp_path / "scan", np.zeros((3, 8, 6), np.uint16))
    with pytest.raises(UserError, match=r"y\.png: no such file or folder$"):
        predictor.samples([tmp_path / "scan", gone])


def test_a_volume_has_the_map_and_scores_of_the_script(predictor, config, tmp_path):
    volume = np.random.default_rng(0).integers(0, 255, (12, 10, 4)).astype(np.uint8)
    affine = np.diag([-2.0, 1, 3, 1])
    path = write_nifti(tmp_path / "a.nii.gz", volume, affine)
    found = predictor.volume(path)
    predict(config, [path], Output(tmp_path / "out"))
    (row,) = read_csv(tmp_path / "out/volumes.csv")
    assert len(str(found)) < 100
    assert (repr(found.score), str(found.worst_slice)) == (row["score"], row["worst_slice"])
    assert found.predicted == (row["predicted"] == "1")
    assert list(found.slices) == [0, 1, 2, 3]
    assert found.score == max(found.slices.values())
    image = nibabel.load(tmp_path / "out" / row["map"])
    assert np.array_equal(image.get_fdata(), found.anomaly_map)
    assert np.array_equal(found.affine, affine)
    with pytest.raises(UserError, match=r"a\.nii\.gz: is a volume; .* predictor\.volume"):
        predictor(path)
    with pytest.raises(UserError, match=r": is a folder; .* predictor\.volume"):
        predictor(tmp_path)
    write_nifti(tmp_path / "two/b.nii", volume)
    write_nifti(tmp_path / "two/c.nii", volume)
    with pytest.raises(UserError, match="two: must contain exactly one volume"):
        predictor.volume(tmp_path / "two")
    (tmp_path / "damaged.nii").write_bytes(b"no header")
    with pytest.raises(UserError, match=r"damaged\.nii: cannot be read as an image"):
        predictor.volume(tmp_path / "damaged.nii")


def test_the_slices_of_a_volume_come_one_by_one(config, tmp_path):
    own = Predictor.from_config(config.file, MIN_FOREGROUND=0.5)
    volume = np.random.default_rng(0).integers(100, 255, (12, 10, 4)).astype(np.uint8)
    volume[..., 2] = 0
    path = write_nifti(tmp_path / "a.nii", volume)
    slices = list(own.slices(own.samples([path])))
    assert [each.sample.frame for each, _ in slices] == [0, 1, 2, 3]
    assert [prediction is None for _, prediction in slices] == [False, False, True, False]
    whole = own.volume(path)
    joined = own.join(slices)
    assert (joined.score, joined.slices) == (whole.score, whole.slices)
    assert np.array_equal(joined.anomaly_map, whole.anomaly_map)


def test_a_series_that_cannot_be_put_in_order_says_why(predictor, tmp_path):
    stack = np.zeros((3, 8, 6), np.uint16)
    write_series(tmp_path / "scan", stack, heights=[0, 0, 2])
    with pytest.raises(UserError, match=r"scan: same .* says which belongs to this volume$"):
        predictor.volume(tmp_path / "scan")
