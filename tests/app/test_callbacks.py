"""What the page computes and shows, and what it keeps and removes, without a browser."""

import base64
import shutil
import zipfile
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from app import uploads
from app.callbacks import Callbacks
from app.pictures import numbers, png
from engine.predictor import Predictor
from engine.report.pictures import shrunk
from tests.medical_files import write_nifti
from tests.series_files import write_series


@pytest.fixture
def callbacks(predictor, tmp_path):
    (tmp_path / "maps").mkdir()
    return Callbacks(predictor, tmp_path / "maps")


@pytest.fixture
def volume(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 255, (12, 10, 4)).astype(np.uint8)
    return write_nifti(tmp_path / "files/a.nii.gz", voxels, np.diag([-2.0, 1, 3, 1]))


@pytest.fixture
def upload(tmp_path):
    """Puts copies of files where Gradio puts uploads: each in a folder of its own."""

    def put(*files):
        copies = [
            tmp_path / "gradio" / f"{number:x}" / file.name for number, file in enumerate(files)
        ]
        for copy, file in zip(copies, files, strict=True):
            copy.parent.mkdir(parents=True)
            shutil.copy(file, copy)
        return copies

    return put


def first_image(predictor) -> Path:
    return min((predictor.settings.test_data_path / "Ungood/img").iterdir())


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_picture_has_the_score_and_the_map_of_the_predictor(callbacks, predictor, upload):
    image = first_image(predictor)
    *progress, view = callbacks.score(upload(image), "session")
    expected = predictor(image)
    assert progress == [{"done": 0, "total": 0}, {"done": 1, "total": 1}]
    assert (view["name"], view["score"]) == (image.name, expected.score)
    assert view["threshold"] == predictor.threshold
    assert view["histogram"]["normal"] == predictor.calibration.histogram["normal"]
    assert (view["slice"], view["volume"]) == (None, None)
    assert np.array_equal(np.load(view["map"]["path"]), expected.anomaly_map)
    assert view["map"]["name"] == f"{image.stem}_map.npy"
    low, high = view["values"]["range"]
    shares = np.frombuffer(base64.b64decode(view["values"]["numbers"]), "<u2") / 65535
    shown = low + (high - low) * shares.reshape(view["values"]["size"][::-1])
    assert shown == pytest.approx(expected.anomaly_map, abs=(high - low) / 65535)


def test_a_volume_opens_at_its_worst_slice_and_turns_to_others(
    callbacks, predictor, upload, volume
):
    *progress, view = callbacks.score(upload(volume), "session")
    expected = predictor.volume(volume)
    assert [each["done"] for each in progress] == [0, 1, 2, 3, 4]
    assert view["slice"]["number"] == expected.worst_slice
    assert view["slice"]["scores"] == list(expected.slices.values())
    assert view["volume"]["score"] == expected.score
    other = callbacks.turn_to(1, "session")
    assert (other["id"], other["score"]) == (view["id"], expected.slices[1])
    assert other["values"]["range"] == view["values"]["range"]
    assert callbacks.turn_to(99, "session")["slice"]["number"] == 3
    image = nibabel.load(view["map"]["path"])
    assert view["map"]["name"] == "a_map.nii.gz"
    assert np.array_equal(image.get_fdata(), expected.anomaly_map)
    assert np.array_equal(image.affine, expected.affine)


def test_slices_of_background_are_shown_without_a_score(config, upload, tmp_path):
    own = Predictor.from_config(config.file, MIN_FOREGROUND=0.5)
    voxels = np.full((12, 10, 3), 100, np.uint8)
    voxels[..., 1] = 0
    path = write_nifti(tmp_path / "files/a.nii", voxels)
    callbacks = Callbacks(own, tmp_path)
    *_, view = callbacks.score(upload(path), "session")
    assert view["slice"]["scores"][1] is None
    dark = callbacks.turn_to(1, "session")
    assert "image" in dark
    assert not {"score", "reconstruction", "layer", "values"} & dark.keys()


def test_files_of_a_series_and_a_zip_of_them_are_one_volume(callbacks, upload, tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (4, 8, 6)).astype(np.uint16)
    files = write_series(tmp_path / "scan", stack)
    *_, of_files = callbacks.score(upload(*files), "one")
    archive = tmp_path / "scan.ZIP"
    with zipfile.ZipFile(archive, "w") as target:
        for file in files:
            target.write(file, f"inner/{file.name}")
        target.writestr("__MACOSX/._notes.txt", "no image")
    shutil.rmtree(tmp_path / "gradio", ignore_errors=True)
    *_, of_zip = callbacks.score(upload(archive), "two")
    assert of_files["name"] == "4 files"
    assert of_zip["name"] == "scan.ZIP"
    assert of_zip["slice"]["scores"] == of_files["slice"]["scores"]
    assert of_zip["map"]["name"] == "series_map.nii.gz"


def test_uploads_go_at_once_and_results_with_their_session(callbacks, predictor, upload, tmp_path):
    image = first_image(predictor)
    for session in ("one", "two"):
        list(callbacks.score(upload(image), session))
        assert not (tmp_path / "gradio/0").exists()
    assert len(left(tmp_path / "maps")) == 2
    list(callbacks.score([image], "two", keep=True))
    assert image.is_file()
    assert len(left(tmp_path / "maps")) == 2
    callbacks.close("two")
    callbacks.close("unknown")
    assert len(left(tmp_path / "maps")) == 1
    assert callbacks.turn_to(0, "two") == {
        "error": "this volume is no longer in memory; please upload it again"
    }


@pytest.mark.parametrize("steps_before", [2, 3])
def test_a_page_closed_while_its_image_is_scored_leaves_nothing(
    callbacks, predictor, upload, tmp_path, steps_before
):
    steps = callbacks.score(upload(first_image(predictor)), "session")
    for _ in range(steps_before):
        next(steps)
    steps.close()
    assert "error" in callbacks.turn_to(0, "session")
    assert left(tmp_path / "maps") == left(tmp_path / "gradio") == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.png", b"nothing", "x.png: cannot be read as an image"),
        ("x.dcm", b"", "x.dcm: "),
        ("x.nii.gz", b"nothing", "x.nii.gz: "),
        ("x.zip", b"nothing", "x.zip: cannot be unpacked (File is not a zip file)"),
        ("x.zip", b"PK\5\6" + bytes(18), "x.zip: contains no files"),
        ("x.txt", b"nothing", "x.txt: "),
    ],
)
def test_a_bad_file_is_one_line_without_our_folders(
    callbacks, upload, tmp_path, name, content, said
):
    (tmp_path / name).write_bytes(content)
    *_, view = callbacks.score(upload(tmp_path / name), "session")
    assert view.keys() == {"error"}
    assert view["error"].startswith(said)
    assert str(tmp_path) not in view["error"]
    assert left(tmp_path / "gradio") == left(tmp_path / "maps") == []


def test_several_pictures_are_refused(callbacks, predictor, upload):
    images = sorted((predictor.settings.test_data_path / "Ungood/img").iterdir())[:2]
    *_, view = callbacks.score(upload(*images), "session")
    assert view["error"].startswith("these 2 images are not slices of one volume; upload one")


def test_an_archive_that_unpacks_to_too_much_is_refused(callbacks, upload, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "_LARGEST_ARCHIVE", 1000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.png", bytes(1001))
    *_, view = callbacks.score(upload(tmp_path / "x.zip"), "session")
    assert view["error"].startswith("x.zip: unpacks to more than ")
    assert left(tmp_path / "gradio") == []


def test_files_of_an_archive_stay_in_its_folder(callbacks, predictor, upload, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(first_image(predictor), "../../outside.png")
    *_, view = callbacks.score(upload(tmp_path / "x.zip"), "session")
    assert "score" in view
    assert not list(tmp_path.rglob("outside.png"))


def test_large_pictures_are_shown_small_and_keep_their_shape():
    assert shrunk(np.zeros((2000, 1000, 3), np.uint8), 768).shape == (768, 384, 3)
    small = np.zeros((5, 7), np.float32)
    assert shrunk(small, 768) is small


def test_pictures_keep_their_colours():
    colours = np.random.default_rng(0).integers(0, 255, (4, 5, 4)).astype(np.uint8)
    for channels in (3, 4):
        content = base64.b64decode(png(colours[..., :channels]).partition(",")[2])
        read = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        order = [2, 1, 0, 3][:channels]
        assert np.array_equal(read[..., order], colours[..., :channels])


def test_numbers_beyond_the_range_stay_at_its_ends():
    content = base64.b64decode(numbers(np.array([[-1, 0, 0.5, 2]], np.float32), 0, 1))
    assert np.frombuffer(content, "<u2").tolist() == [0, 0, 32768, 65535]


def test_without_calibration_there_is_a_map_and_no_verdict(predictor, upload, tmp_path):
    alone = Predictor(predictor.scorer, predictor.settings, None)
    *_, view = Callbacks(alone, tmp_path).score(upload(first_image(predictor)), "session")
    assert (view["threshold"], view["pixel_threshold"], view["histogram"]) == (None, None, None)
    assert {"score", "layer", "values"} <= view.keys()


def test_what_is_unusual_is_noted_each_time(callbacks, upload, tmp_path):
    for _ in range(2):
        path = write_nifti(tmp_path / "files/a.nii", np.ones((12, 10, 3, 2), np.uint8))
        *_, view = callbacks.score(upload(path), "session")
        told = "a.nii has 2 volumes; reading only volume 0 (VOLUME_INDEX)"
        assert view["notes"] == [told]


def test_a_volume_of_background_alone_has_no_worst_slice(config, upload, tmp_path):
    own = Predictor.from_config(config.file, MIN_FOREGROUND=0.5)
    path = write_nifti(tmp_path / "files/a.nii", np.zeros((12, 10, 3), np.uint8))
    *_, view = Callbacks(own, tmp_path).score(upload(path), "session")
    assert (view["slice"]["number"], view["volume"]["worst"]) == (0, None)
    assert view["notes"] == []
    assert view["slice"]["scores"] == [None] * 3
