"""Whatever a split holds is used or told: names of folders, MVTec's layout, what lies elsewhere."""

import pytest

from datasets.check.findings import check_dataset
from datasets.folders.find import find_normal_images, find_split
from datasets.folders.splits import places_of_folder
from tests.drawn_sets import described, found, put, put_masks
from utils.errors import UserError

KEY = "TEST_DATA_PATH"
NOT_AN_IMAGE = "have the name of an image"


UNREAD = {
    "sub-folders": (["train/good/p7/x.png", "train/good/p7/y.png", "train/good/p8/z.png"],
                    "train/good: 3 images are ignored, such as p7/x.png; "),
    "beside img": (["test/good/img/x.png"], "test/good: 1 image is ignored, such as p4_d.png; "),
    "an unknown class": (["test/crack/x.png", "test/hole/y.png"],
                         "test: 2 images are ignored, such as crack/x.png; "),
    "beside the classes": (["test/x.png"], "test: 1 image is ignored, such as x.png; "),
    "a second mask folder": (["test/Ungood/gt/e.png"],
                             "test/Ungood: 1 image is ignored, such as gt/e.png; "),
    "masks of no image": (["train/abnormal/label/x.png"],
                          "train: 1 image is ignored, such as abnormal/label/x.png; "),
    "two of one stem": (["train/good/p1_a.bmp"],
                        "train/good: p1_a.bmp and p1_a.png differ only in their extension; "),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNREAD)
def test_what_is_not_read_is_a_finding_and_a_warning(data, caplog, kind):
    names, line = UNREAD[kind]
    put(data, *names)
    ((severity, sort, text),) = found(data)
    assert (severity, sort) == ("error", "unread")
    assert text.startswith(line)
    assert caplog.messages == []
    split = line.split("/")[0].split(":")[0]
    (find_normal_images if split == "train" else find_split)(data / split, key=KEY)
    (warning,) = caplog.messages
    assert warning.replace(f"{data}/", "") == text


def test_files_of_unknown_suffix(data):
    for name in ("train/good/x.webp", "train/good/y.gif", "test/Ungood/label/z.npy"):
        (data / name).write_bytes(b"x")
    assert [text for *_, text in found(data)] == [
        f"train/good: 2 files do not {NOT_AN_IMAGE}, such as x.webp; convert or remove them",
        f"test/Ungood/label: 1 file does not {NOT_AN_IMAGE}, such as z.npy; convert or remove them",
    ]


def test_what_systems_leave_behind_is_passed_over_without_a_word(data):
    for name in (".DS_Store", "Thumbs.db", "._a.png", "desktop.ini", "__MACOSX/._a.png"):
        for folder in ("train/good", "test/Ungood/label", "test"):
            (data / folder / name).parent.mkdir(exist_ok=True)
            (data / folder / name).write_bytes(b"x")
    assert found(data) == []


def test_folders_are_walked_once_where_links_make_a_circle(data):
    (data / "train/good/loop").symlink_to(data / "train")
    assert found(data) == []


@pytest.mark.parametrize(
    "name", ["mask", "masks", "Masks", "segmentation", "ground_truth", "gt", "labels", "Label"]
)
def test_a_mask_folder_of_another_name(data, name):
    (data / "test/Ungood/label").rename(data / "test/Ungood" / name)
    anomalous, _ = find_split(data / "test", key=KEY).samples
    assert anomalous.mask == data / f"test/Ungood/{name}/p4_f.png"
    assert found(data) == []


@pytest.mark.parametrize("normal", ["Good", "NORMAL", "normal"])
@pytest.mark.parametrize("anomalous", ["abnormal", "Anomaly", "DEFECT", "UNGOOD"])
def test_class_folders_of_other_names(tmp_path, caplog, normal, anomalous):
    put(tmp_path, f"valid/{normal}/IMG/a.png", f"valid/{anomalous}/b.png")
    put_masks(tmp_path, f"valid/{anomalous}/masks/b.png")
    assert described(find_split(tmp_path / "val", key=KEY), tmp_path) == sorted(
        [
            (f"valid/{normal}/IMG/a.png", 0, None),
            (f"valid/{anomalous}/b.png", 1, f"valid/{anomalous}/masks/b.png"),
        ]
    )
    assert caplog.messages == []


def test_a_split_of_another_name_is_checked_alone(data):
    (data / "test/good").rename(data / "test/NORMAL")
    assert [place.folder.name for place in places_of_folder(data / "test")] == ["test"]


AMBIGUOUS = {
    "validation": (["val/good/x.png"], "data has both val and valid; keep one"),
    "normal images": (["train/NORMAL/x.png"],
                      "train: NORMAL or good could be the folder of normal images"),
    "masks": (["valid/Defect/b.png", "valid/Defect/mask/b.png", "valid/Defect/gt/b.png"],
              "valid/Defect: mask or gt could be the folder of masks"),
}  # fmt: skip


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_two_folders_for_one_thing_are_ambiguous(data, kind):
    names, said = AMBIGUOUS[kind]
    put(data, *names)
    if kind == "validation":
        with pytest.raises(UserError, match=said):
            places_of_folder(data)
        return
    find = find_normal_images if kind == "normal images" else find_split
    with pytest.raises(UserError, match=said):
        find(data / names[0].split("/")[0], key=KEY)
    assert [finding[:2] for finding in found(data)] == [("error", "layout")]


def test_a_split_whose_images_all_lie_elsewhere_says_where(tmp_path):
    put(tmp_path, "good/p7/x.png")
    with pytest.raises(UserError, match=r"contains no images; expected .*: 1 image is ignored"):
        find_split(tmp_path, key=KEY)


@pytest.fixture
def mvtec(tmp_path):
    """MVTec's layout."""
    folder = tmp_path / "bottle"
    put(folder, "train/good/000.png", "train/good/001.png", "test/good/000.png")
    put(folder, "test/crack/000.png", "test/crack/001.png", "test/hole/000.png")
    put_masks(folder, *(f"ground_truth/crack/{stem}_mask.png" for stem in ("000", "001")))
    put_masks(folder, "ground_truth/hole/000_mask.png")
    return folder


def test_the_layout_of_mvtec(mvtec, caplog):
    split = find_split(mvtec / "test", key=KEY)
    assert described(split, mvtec) == [
        ("test/crack/000.png", 1, "ground_truth/crack/000_mask.png"),
        ("test/crack/001.png", 1, "ground_truth/crack/001_mask.png"),
        ("test/good/000.png", 0, None),
        ("test/hole/000.png", 1, "ground_truth/hole/000_mask.png"),
    ]
    assert len(find_normal_images(mvtec / "train", key=KEY).samples) == 2
    assert caplog.messages == []
    assert found(mvtec) == []


def test_a_defect_without_ground_truth_is_not_guessed(mvtec):
    put(mvtec, "test/odd/000.png")
    ((_, kind, text),) = found(mvtec)
    assert kind == "unread"
    assert text.startswith("test: 1 image is ignored, such as odd/000.png")


def test_validation_in_the_layout_of_mvtec_and_names_in_any_case(mvtec):
    put(mvtec, "ground_truth/good/000_mask.png", levels=(0,))
    put(mvtec, "valid/good/002.png", "valid/Crack/002.png")
    put_masks(mvtec, "valid/Ground_Truth/crack/002_mask.png")
    assert described(find_split(mvtec / "valid", key=KEY), mvtec) == [
        ("valid/Crack/002.png", 1, "valid/Ground_Truth/crack/002_mask.png"),
        ("valid/good/002.png", 0, None),
    ]
    assert found(mvtec) == []


def test_faults_in_the_layout_of_mvtec(mvtec):
    put_masks(mvtec, "ground_truth/crack/007_mask.png", "ground_truth/bent/000_mask.png")
    put(mvtec, "test/hole/005.png", "test/hole/more/006.png")
    assert [(kind, text.split(";")[0]) for _, kind, text in found(mvtec)] == [
        ("masks", "ground_truth/crack/007_mask.png: this mask has no image"),
        ("masks", "test/hole/005.png: has no mask although other images in test/hole do"),
        ("unread", "test/hole: 1 image is ignored, such as more/006.png"),
        ("unread", "ground_truth: 1 image is ignored, such as bent/000_mask.png"),
    ]


def test_splits_in_any_case_of_letters_are_checked(data):
    (data / "test").rename(data / "Test")
    (data / "train").rename(data / "TRAIN")
    report = check_dataset(places_of_folder(data))
    assert [each.place.name for each in report.splits] == ["train", "valid", "test"]
