"""Drawn trees of files: each image is found once, masks belong to it, and the rest is told."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.folders.find import inspect_split
from datasets.folders.layouts import ANOMALOUS_NAMES, MASK_FOLDERS, NORMAL_NAMES
from datasets.folders.samples import ANOMALOUS, NORMAL, Split
from utils.errors import UserError

CLASSES = ("good", "Normal", "Ungood", "defect", "crack", ".git", "__MACOSX", "")
INNER = ("", "img", "label", "Masks", "p7", "img/deep", ".cache")
NAMES = ("a.png", "a.bmp", "b.PNG", "b_mask.png", "c.png", "ä b.jpg", "notes.txt", "x.webp")
LEFT_BEHIND = (".hidden.png", "._a.png", "Thumbs.db", ".DS_Store")
FILES = st.builds(Path, *map(st.sampled_from, (CLASSES, INNER, (*NAMES, *LEFT_BEHIND))))
TOLD = re.compile(r": (\d+) (?:images? (?:is|are) ignored|files? do(?:es)? not have the name of)")


def is_left_behind(file: Path) -> bool:
    return any(part.startswith((".", "__")) for part in file.parts) or file.name in LEFT_BEHIND


def check_samples(split: Split) -> set[Path]:
    """Each image once, in a class folder and with a mask of its own; gives the files used."""
    paths = [sample.path for sample in split.samples]
    assert paths == sorted(set(paths))
    for sample in split.samples:
        first, *inside = (part.casefold() for part in sample.path.relative_to(split.folder).parts)
        assert not {*inside} & {*MASK_FOLDERS}
        assert first not in (ANOMALOUS_NAMES if sample.label == NORMAL else NORMAL_NAMES)
        if sample.mask is not None:
            assert sample.label == ANOMALOUS
            assert sample.mask.stem in (sample.path.stem, f"{sample.path.stem}_mask")
            assert sample.mask.parent.name.casefold() in MASK_FOLDERS
        elif split.has_masks and sample.label == ANOMALOUS:
            assert any(f"{sample.path}: has no mask" in problem for problem in split.problems)
    masks = {sample.mask for sample in split.samples if sample.mask}
    return {*paths, *masks, *split.normal_masks.values()}


@settings(max_examples=60)
@given(files=st.sets(FILES, max_size=12), normal_only=st.booleans())
def test_nothing_is_found_twice_and_nothing_is_left_out_in_silence(files, normal_only):
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(b"any")
        try:
            split = inspect_split(folder, key="KEY", normal_only=normal_only)
        except UserError as error:
            said = str(error)
            assert re.search(
                r"contains no images|could be the folder of (normal images|masks)", said
            )
            return
        used = check_samples(split)
        if normal_only:
            assert {sample.label for sample in split.samples} == {NORMAL}
        told = sum(int(count) for line in split.unread for count in TOLD.findall(line))
        named = {
            folder / file for file in files for problem in split.problems
            if f"{folder / file}" in problem
        }  # fmt: skip
        visible = {folder / file for file in files if not is_left_behind(file)}
        assert used <= visible
        assert told == len(visible - used - named)
