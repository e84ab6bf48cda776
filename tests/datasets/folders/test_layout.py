"""BMAD's layout in all its variants; what prediction takes for input."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_normal_images, find_split, inspect_split
from datasets.folders.inputs import expand_names, find_inputs
from datasets.folders.layouts import list_images
from datasets.folders.samples import Sample, Split
from datasets.folders.scan import check_headers
from datasets.folders.slicing import Slicing
from datasets.readers.formats import stem_of
from datasets.readers.image import read_image
from tests.drawn_sets import described, put
from tests.medical_files import write_dicom, write_nifti
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO = IntensityWindow()
KEY = "TEST_DATA_PATH"


@pytest.mark.parametrize("anomalous", ["Ungood", "ungood"])
@pytest.mark.parametrize("images", ["img/", ""])
@pytest.mark.parametrize("masks", ["label", "anomaly_mask"])
def test_layouts(tmp_path, anomalous, images, masks):
    put(tmp_path, f"good/{images}b.png", f"good/{images}a.JPG", f"good/{masks}/a.png")
    put(tmp_path, f"{anomalous}/{images}c.PNG", f"{anomalous}/{images}d.bmp")
    put(tmp_path, f"{anomalous}/{masks}/c.png", f"{anomalous}/{masks}/d.TIFF")
    split = find_split(tmp_path, key=KEY)
    expected = [
        (f"{anomalous}/{images}c.PNG", 1, f"{anomalous}/{masks}/c.png"),
        (f"{anomalous}/{images}d.bmp", 1, f"{anomalous}/{masks}/d.TIFF"),
        (f"good/{images}a.JPG", 0, None),
        (f"good/{images}b.png", 0, None),
    ]
    assert described(split, tmp_path) == sorted(expected)
    assert split.has_masks


def test_without_masks(tmp_path):
    put(tmp_path, "good/a.png", "Ungood/b.png", "Ungood/b.jpg")
    split = find_split(tmp_path, key=KEY)
    assert [mask for *_, mask in described(split, tmp_path)] == [None] * 3
    assert split.labels == [1, 1, 0]
    assert not split.has_masks


@pytest.mark.parametrize(
    ("there", "asked"), list(itertools.permutations(["valid", "val", "Val", "Valid"], 2))
)
def test_spellings_of_validation(tmp_path, there, asked):
    put(tmp_path, f"{there}/good/a.png")
    assert find_split(tmp_path / asked, key="VAL_DATA_PATH").folder.samefile(tmp_path / there)


def test_no_other_folder_has_spellings(tmp_path):
    put(tmp_path, "Test/good/a.png")
    with pytest.raises(UserError, match=f"{KEY}: .*/test is not a folder"):
        find_split(tmp_path / "test", key=KEY)


@pytest.mark.parametrize("images", ["good/img/a.png", "good/a.png", "a.png"])
def test_training_folders(tmp_path, images):
    put(tmp_path, images)
    split = find_normal_images(tmp_path, key="TRAIN_DATA_PATH")
    assert described(split, tmp_path) == [(images, 0, None)]


@pytest.mark.parametrize("find", [find_split, find_normal_images])
def test_an_empty_folder_names_what_is_expected(tmp_path, find):
    (tmp_path / "good").mkdir()
    with pytest.raises(
        UserError, match=r"KEY: .* contains no images; expected .*\.nii\.gz files in .*good"
    ):
        find(tmp_path, key="KEY")


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"cannot be listed \(Permission denied\)"):
        list_images(tmp_path)


MASK_FAULTS = {
    "missing": (["Ungood/a.png", "Ungood/b.png", "Ungood/label/a.png"], r"Ungood/b\.png: has no m"),
    "without image": (["Ungood/a.png", "Ungood/label/a.png", "Ungood/label/c.png"],
                      r"label/c\.png: this mask has no image; add one named c\.\*"),
    "of a normal image": (["good/a.png", "good/label/b.png"], r"label/b\.png: th"),
    "of two images": (["Ungood/a.png", "Ungood/a.jpg", "Ungood/label/a.png"],
                      r"label/a\.png: could belong to .*a\.jpg or to .*a\.png"),
    "twice": (["Ungood/a.png", "Ungood/label/a.png", "Ungood/label/a.bmp"],
              r"label/a\.bmp: .*label/a\.png is also a mask of this image"),
    "of another case": (["Ungood/A.png", "Ungood/label/a.png"], r"label/a\.png: this mask has no"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MASK_FAULTS)
def test_faults_of_masks(tmp_path, kind):
    names, reason = MASK_FAULTS[kind]
    put(tmp_path, *names)
    with pytest.raises(UserError, match=reason):
        find_split(tmp_path, key=KEY)


def test_all_faults_are_told_at_once(tmp_path):
    put(tmp_path, "Ungood/a.png", "Ungood/b.png", "Ungood/c.png")
    put(tmp_path, "Ungood/label/a.png", "Ungood/label/x.png")
    split = inspect_split(tmp_path, key=KEY)
    assert len(split.samples) == 3
    assert [problem.split(":")[0].removeprefix(f"{tmp_path}/") for problem in split.problems] == [
        "Ungood/label/x.png",
        "Ungood/b.png",
        "Ungood/c.png",
    ]


def test_names_that_differ_in_case_alone_have_masks_of_their_own(tmp_path):
    put(tmp_path, "Ungood/a.png")
    if (tmp_path / "Ungood/A.png").exists():
        pytest.skip("this file system ignores case")
    put(tmp_path, "Ungood/A.png", "Ungood/label/A.png", "Ungood/label/a.png")
    assert described(find_split(tmp_path, key=KEY), tmp_path) == [
        ("Ungood/A.png", 1, "Ungood/label/A.png"),
        ("Ungood/a.png", 1, "Ungood/label/a.png"),
    ]


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.b.PNG", "a.b"), ("a.NII.GZ", "a"), ("a.nii", "a"), ("a.dcm", "a"), ("1.2.8", "1.2.8")],
)
def test_stems(tmp_path, name, stem):
    assert stem_of(tmp_path / name) == stem == Sample(tmp_path / name, 0).stem


def test_a_cut_is_seeded_and_counted(tmp_path):
    split = Split(tmp_path, tuple(Sample(tmp_path / f"{n}.png", n % 2) for n in range(9)), False)
    assert split.cut(9, 0) is split
    first, again, other = split.cut(4, 1), split.cut(4, 1), split.cut(4, 2)
    assert first.samples == again.samples != other.samples
    assert set(first.samples) < set(split.samples)
    assert (len(first.samples), first.num_left_out) == (4, 5)


def test_links_that_lead_nowhere_or_in_circles_are_named_when_read(tmp_path):
    put(tmp_path, "good/a.png")
    (tmp_path / "good/circle.png").symlink_to("circle.png")
    (tmp_path / "good/gone.png").symlink_to("nowhere.png")
    split = find_split(tmp_path, key=KEY)
    with pytest.raises(UserError) as caught:
        check_headers(split)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "good/circle.png: " in lines[0]
    assert "good/gone.png: no such file" in lines[1]


def test_pipes_are_left_out(tmp_path):
    put(tmp_path, "good/a.png")
    os.mkfifo(tmp_path / "good/pipe.png")
    assert [each.path.name for each in find_split(tmp_path, key=KEY).samples] == ["a.png"]


def test_every_bad_header_is_named(tmp_path):
    put(tmp_path, "Ungood/a.png", "Ungood/b.png", "Ungood/label/a.png")
    put(tmp_path, "Ungood/label/b.png", shape=(8, 6))
    (tmp_path / "Ungood/a.png").write_bytes(b"")
    split = find_split(tmp_path, key=KEY)
    with pytest.raises(UserError) as caught:
        check_headers(split)
    first, second = str(caught.value).splitlines()
    assert "Ungood/a.png: cannot be read" in first
    assert "label/b.png: is 6 × 8 pixels but its image" in second
    assert "Ungood/b.png is 8 × 6;" in second
    (tmp_path / "Ungood/label/b.png").unlink()
    put(tmp_path, "Ungood/a.png", "Ungood/label/b.png")
    check_headers(split)


def test_items_hold_image_and_mask(tmp_path):
    put(tmp_path, "Ungood/a.png", "Ungood/label/a.png", "good/b.png", levels=[9], shape=(8, 8))
    dataset = AnomalyDataset(find_split(tmp_path, key=KEY), 8, AUTO)
    assert (dataset[0]["image"] == 9).all()
    assert dataset[0]["image"].shape == (3, 8, 8)
    assert dataset[0]["mask"].all()
    assert not dataset[1]["mask"].any()


def inputs(root, *arguments, **options):
    return [
        sample.name.removeprefix(f"{root}/")
        for sample in find_inputs([root], *arguments, **options)
    ]


def test_inputs_of_a_folder(tmp_path):
    put(tmp_path, "b.png", "a.PNG", "sub/c.png", "sub/deep/d.png", "__MACOSX/x.png", ".git/y.png")
    write_dicom(tmp_path / "e.dcm", np.zeros((2, 3, 4), np.int16))
    write_nifti(tmp_path / "sub/f.nii.gz", np.zeros((2, 3, 4), np.int16))
    top = ["a.PNG", "b.png", "e.dcm#0", "e.dcm#1"]
    assert inputs(tmp_path) == top
    assert inputs(tmp_path, True, slicing=Slicing("sagittal")) == [
        *top,
        "sub/c.png",
        "sub/f.nii.gz#0",
        "sub/f.nii.gz#1",
        "sub/deep/d.png",
    ]
    assert {sample.label for sample in find_inputs([tmp_path])} == {None}


def test_masks_are_no_inputs_unless_they_are_named(tmp_path, caplog):
    put(tmp_path, "Ungood/img/a.png", "Ungood/label/a.png", "ground_truth/Ungood/b.png")
    assert inputs(tmp_path, True) == ["Ungood/img/a.png"]
    skipped = [f"{tmp_path}/{each}: skipping this folder of masks"
               for each in ("Ungood/label", "ground_truth")]  # fmt: skip
    assert caplog.messages == skipped
    assert inputs(tmp_path / "Ungood/label", True) == ["a.png"]


def test_inputs_follow_links_once(tmp_path):
    put(tmp_path, "elsewhere/a.png", "start/b.png")
    (tmp_path / "start/loop").symlink_to(tmp_path / "start")
    (tmp_path / "start/other").symlink_to(tmp_path / "elsewhere")
    assert inputs(tmp_path / "start", True) == ["b.png", "other/a.png"]


def test_a_bad_input_raises_only_when_it_is_read(tmp_path):
    put(tmp_path, "a.png")
    (tmp_path / "b.nii.gz").write_bytes(b"")
    (tmp_path / "c.dcm").write_bytes(b"")
    picture, *others = find_inputs([tmp_path])
    assert read_image(picture.path, AUTO).shape == (6, 8)
    assert [each.name for each in others] == [f"{tmp_path}/b.nii.gz", f"{tmp_path}/c.dcm"]
    for each in others:
        with pytest.raises(UserError, match=f"{each.path.name}: cannot be read"):
            read_image(each.path, AUTO, each.frame)


def test_inputs_of_any_name_and_none(tmp_path):
    put(tmp_path, "sub/a.png")
    with pytest.raises(UserError, match=r"gone: no such file or folder"):
        find_inputs([tmp_path / "gone"])
    with pytest.raises(UserError, match=r"xxx: no such file or folder"):
        find_inputs([tmp_path / ("x" * 300)])
    with pytest.raises(UserError, match=r"contains no images; use --recursive to search subf"):
        find_inputs([tmp_path])
    (sample,) = find_inputs([(tmp_path / "sub/a.png").rename(tmp_path / "photo.weird")])
    assert read_image(sample.path, AUTO).shape == (6, 8)


def test_names_as_users_give_them(tmp_path, monkeypatch):
    put(tmp_path, "0a.png", "0b.png", "sub/wide.jpg", "._a.png")
    monkeypatch.chdir(tmp_path)
    every = [Path("0a.png"), Path("0b.png")]
    assert expand_names(["*.png"], []) == every
    assert expand_names(["**/wide.*"], []) == [Path("sub/wide.jpg")]
    names = ["~b.png", "s**/wide.jpg", "~$x.docx"]
    assert expand_names(names, []) == [Path("~b.png"), Path("sub/wide.jpg"), Path("~$x.docx")]
    listed = ["0a.png\n", "\n", "0b.png\r\n"]
    assert expand_names(["-", "0a.png"], listed) == every
    with pytest.raises(UserError, match=r"--input: no files found for nothing\*\.png"):
        expand_names(["nothing*.png"], [])
