"""INI text: what configparser accepts, what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.errors import ConfigError, Problem
from utils.ini import RawConfig, read_ini


def read(folder: Path, text: str | bytes) -> RawConfig:
    file = folder / "case.ini"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_ini(file)


def lines(raw: RawConfig) -> list[str]:
    return [str(problem).removeprefix(f"{raw.file}: ") for problem in raw.problems]


def test_keys_are_in_capitals_and_values_as_they_stand(tmp_path: Path) -> None:
    raw = read(tmp_path, "[TRAINING]\nresults_path = ./50%/%(x)s ; $HOME\nLR: 8e-5\n")
    assert raw.sections == {"TRAINING": {"RESULTS_PATH": "./50%/%(x)s ; $HOME", "LR": "8e-5"}}
    assert not raw.problems


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark(tmp_path: Path, ends: str, mark: bytes) -> None:
    text = "# ä\n[TRAINING]\nSEED = 1\n\n[TESTING]\nSEED = 2\n".replace("\n", ends)
    raw = read(tmp_path, mark + text.encode())
    assert raw.sections == {"TRAINING": {"SEED": "1"}, "TESTING": {"SEED": "2"}}
    assert not raw.problems


def test_default_is_shared_and_known_apart(tmp_path: Path) -> None:
    text = "[DEFAULT]\nSEED = 1\nLR = 2\n[TRAINING]\nSEED = 1\n[TESTING]\nRESIZE = 3\n"
    raw = read(tmp_path, text)
    assert raw.sections["TRAINING"] == {"SEED": "1", "LR": "2"}
    assert raw.sections["TESTING"] == {"SEED": "1", "LR": "2", "RESIZE": "3"}
    # SEED stands in [TRAINING] although its value there is the shared one.
    assert raw.own == {"DEFAULT": {"SEED", "LR"}, "TRAINING": {"SEED"}, "TESTING": {"RESIZE"}}


def test_an_indented_line_continues_a_value(tmp_path: Path) -> None:
    raw = read(tmp_path, "[TRAINING]\nPATCH_SIZE = 1,\n  2\nSEED\t=\t3\t\n")
    assert raw.sections["TRAINING"] == {"PATCH_SIZE": "1,\n2", "SEED": "3"}


def test_all_duplicates_are_found_and_the_first_holds(tmp_path: Path) -> None:
    text = "[TRAINING]\nSEED = 1\nLR = 1\nSEED = 2\n  3\nlr = 2\nSEED = 4\n[TESTING]\nSEED = 9\n"
    raw = read(tmp_path, text)
    assert lines(raw) == [
        "[TRAINING] SEED: stands twice (line 4); keep one of the two",
        "[TRAINING] LR: stands twice (line 6); keep one of the two",
        "[TRAINING] SEED: stands twice (line 7); keep one of the two",
    ]
    assert raw.sections == {"TRAINING": {"SEED": "1", "LR": "1"}, "TESTING": {"SEED": "9"}}


@pytest.mark.parametrize("name", ["TRAINING", "TESTING", "DEFAULT"])
def test_a_section_that_stands_twice_is_joined(tmp_path: Path, name: str) -> None:
    raw = read(tmp_path, f"[{name}]\nSEED = 1\n[{name}]\nSEED = 2\nLR = 3\n[{name}]\nRESIZE = 4\n")
    assert lines(raw) == [
        f"[{name}] stands twice (line 3); join the two",
        f"[{name}] stands twice (line 6); join the two",
    ]
    # So that no key of the second one counts as missing.
    assert raw.own[name] == {"SEED", "LR", "RESIZE"}
    if name != "DEFAULT":
        assert raw.sections[name] == {"SEED": "1", "LR": "3", "RESIZE": "4"}


def test_problems_of_every_form_at_once(tmp_path: Path) -> None:
    text = (
        "SEED = 0\nLR = 0\n# c\n[TRAINING]\nSEED 1\nLR = 1\n= 7\nLR = 2\n[TRIANING]\nSEED = 5\n"
        "[TESTING\n[ testing ]\n[default]\n"
    )
    raw = read(tmp_path, text)
    assert sorted(lines(raw)) == sorted(
        [
            "line 1 stands before any section; begin with [TRAINING] or [TESTING]",
            "line 5 is neither 'KEY = value', a section nor a comment: 'SEED 1'",
            "line 7 is neither 'KEY = value', a section nor a comment: '= 7'",
            "line 11 is neither 'KEY = value', a section nor a comment: '[TESTING'",
            "[TRAINING] LR: stands twice (line 8); keep one of the two",
            "[TRIANING] unknown section; write [TRAINING]",
            "[ testing ] unknown section; write [TESTING]",
            "[default] unknown section; write [DEFAULT]",
        ]
    )
    assert raw.sections == {"TRAINING": {"LR": "1"}}


def test_a_section_that_resembles_nothing_lists_the_known_ones(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, "[wandb]\nx = 1\n").problems
    assert problem.text == "unknown section; known are [DEFAULT], [TRAINING] and [TESTING]"


def test_a_file_of_another_kind_gives_one_line(tmp_path: Path) -> None:
    raw = read(tmp_path, "path,label,score\n" * 50_000)
    assert len(raw.problems) == 1
    assert raw.problems[0].text.startswith("line 1 stands before any section")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[TRAINING]\nEXPERIMENT_NAME = Schädel".encode("latin-1"), "is not UTF-8 text (byte 32)"),
        ("[TRAINING]\nSEED = 1".encode("utf-16"), "is not UTF-8 text (byte 0)"),
        (b"[TRAINING]\nSEED = 1\x00\n", "holds a NUL byte in line 2"),
        (b"[TRAINING]\n\x00\x00\x00", "holds a NUL byte in line 2"),
    ],
)
def test_other_encodings_are_refused_whole(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match="as UTF-8") as caught:
        read(tmp_path, content)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.ini", "no such file"),
        ("", "is a folder"),
        ("a\0b", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("case.ini/below", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "case.ini").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as caught:
        read_ini(tmp_path / path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_problem_is_one_printable_line() -> None:
    problem = Problem("a.ini", "X\x1b[31m", "K\nL", "found\x00\x85\u2028 it, at 5 % of ärger")
    assert str(problem) == "a.ini: [X\\x1b[31m] K\\nL: found\\x00\\x85\\u2028 it, at 5 % of ärger"
