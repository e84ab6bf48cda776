"""README and docs/ hold: config keys, defaults, files, links and commands exist."""

import re
import runpy
import tomllib
from pathlib import Path
from typing import get_args

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.check import bmad
from tests.test_architecture import help_of
from utils.config.docs_tables import with_tables
from utils.config.schema import keys_of
from utils.config.values import CriterionName

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
DOCUMENTS = [README, *OTHERS, *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in DOCUMENTS}
CONFIG_MD = TEXTS["docs/config.md"]

# What runs write and users bring: never in the repository.
ELSEWHERE = ("data/", "results/", "cache/", "weights/", "out/", "predictions/", "~", "/")
NOT_OURS = {"config.ini", "mine.ini", "configs/mine.ini"}
SOURCES = r"(?:py|ini|md|toml|txt|yml|yaml|cff)"
RESULTS = r"(?:png|html|npz|csv|json|pth)"
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")


def code_of(text: str) -> list[str]:
    """Everything that stands as code: fenced and indented blocks, and `spans`."""
    blocks = re.findall(r"^```.*?^```|^(?: {4}|\t).+$", text, re.MULTILINE | re.DOTALL)
    indented = [line for block in blocks for line in block.splitlines()]
    return indented + re.findall(r"`([^`\n]+)`", text)


def exists(name: str) -> bool:
    """Whether a name, perhaps with * in it, stands for a file of the repository."""
    if "*" in name or "…" in name:
        return any(ROOT.glob(name.replace("…", "*")))
    return (ROOT / name).exists()


def anchors_of(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_tables_of_keys_are_those_of_the_schema() -> None:
    assert with_tables(CONFIG_MD) == CONFIG_MD, "run python -m utils.config.docs_tables"
    rows = re.findall(r"^\| `([A-Z_]+)` \|", CONFIG_MD, re.MULTILINE)
    assert sorted(rows) == sorted(keys_of("TRAINING") | keys_of("TESTING"))


def test_every_criterion_is_named() -> None:
    names = get_args(CriterionName)
    assert [name for name in names if f"`{name}`" not in CONFIG_MD] == []


@pytest.mark.parametrize("document", TEXTS)
def test_overridden_keys_are_known(document: str) -> None:
    named = re.findall(r"--set (?:\w+\.)?([A-Z_]+)=", TEXTS[document])
    known = {"KEY", *keys_of("TRAINING"), *keys_of("TESTING")}
    assert set(named) <= known


@pytest.mark.parametrize("document", TEXTS)
def test_links_lead_somewhere(document: str) -> None:
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[document]):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (ROOT / document).parent / path if path else ROOT / document
        headings = anchors_of(file.read_text(encoding="utf-8")) if anchor else {""}
        if not file.exists() or anchor not in headings:
            missing.append(target)
    assert missing == []


@pytest.mark.parametrize("document", TEXTS)
def test_named_files_are_there(document: str) -> None:
    text = re.sub(r"https?://\S+", "", TEXTS[document])
    folders = "|".join(map(re.escape, FOLDERS))
    pattern = rf"(?<![\w./*…-])(?:[\w.*…/~-]+\.{SOURCES}|(?:{folders})/[\w.*…/-]+\.{RESULTS})\b"
    names = {name.removeprefix("./").removeprefix("../") for name in re.findall(pattern, text)}
    ours = {name for name in names if not name.startswith(ELSEWHERE) and name not in NOT_OURS}
    # Within docs/, a file or a config may go by its own name.
    places = ("", "docs/", "configs/") if document.startswith("docs/") else ("",)
    assert {name for name in ours if not any(exists(place + name) for place in places)} == set()


@pytest.mark.parametrize("document", TEXTS)
def test_commands_use_options_that_exist(document: str) -> None:
    unknown = []
    for line in code_of(TEXTS[document]):
        command = re.match(r"\s*(?:\S*python3? )?(\w+\.py)( .*)?$", line.partition(" # ")[0])
        if command and command[1] not in NOT_OURS:
            options = re.findall(r"(?<=\s)--[\w-]+", command[2] or "")
            unknown += [(command[1], each) for each in options if each not in help_of(command[1])]
    assert unknown == []


def test_every_script_and_config_is_in_a_document() -> None:
    files = [*ROOT.glob("*.py"), *ROOT.glob("configs/*.ini")]
    everything = "\n".join(TEXTS.values())
    assert [file.name for file in files if file.name not in everything] == []


@pytest.mark.parametrize("name", bmad.SPLITS)
def test_bmad_is_counted_as_the_program_does(name: str) -> None:
    (row,) = re.findall(rf"^\| {name} \| \d.*$", TEXTS["docs/data.md"], re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    splits = bmad.SPLITS[name]
    pairs = [f"{normal} / {anomalous}" for normal, anomalous in (splits["valid"], splits["test"])]
    assert cells[1:4] == [str(splits["train"][0]), *pairs]


def test_the_script_of_the_page_on_volumes_draws_cuts(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("image.nii.gz", "map.nii.gz", "mask.nii.gz")]
    scores = np.zeros((6, 8, 5), np.float32)
    scores[2:4, 5:7, 1:3] = 0.5
    for path, values in zip(paths, (scores + 1, scores, scores > 0), strict=True):
        affine = np.diag([-2.0, 1, 3, 1])
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
    draw = runpy.run_path(str(ROOT / "docs" / "draw_volume.py"))["draw"]
    draw(*paths, tmp_path / "cuts.png")
    pixels = np.asarray(Image.open(tmp_path / "cuts.png").convert("RGB")).astype(int)
    assert (pixels.max(axis=2) - pixels.min(axis=2)).max() > 60


def test_the_readme_stays_readable() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 200


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == [{"name": "QFAE contributors"}]
    assert "QFAE contributors" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    names = [each["family-names"] for each in paper["authors"]]
    assert names == ["Dalmonte", "Bayar", "Akbas", "Georgescu"]
    assert all(name in TEXTS["README.md"] for name in (*names, "2507.18481"))
