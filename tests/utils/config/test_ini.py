"""INI text: what configparser accepts, the first fault of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.config.ini import RawConfig, read_ini
from utils.errors import ConfigError, Problem


def read(folder: Path, text: str | bytes) -> RawConfig:
    file = folder / "case.ini"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_ini(file)


def test_keys_are_in_capitals_and_values_as_they_stand(tmp_path):
    raw = read(tmp_path, "[TRAINING]\nresults_path = ./50%/%(x)s ; $HOME\nLR: 8e-5\n")
    assert raw.sections == {"TRAINING": {"RESULTS_PATH": "./50%/%(x)s ; $HOME", "LR": "8e-5"}}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark(tmp_path, ends, mark):
    text = "# ä\n[TRAINING]\nSEED = 1\n\n[TESTING]\nSEED = 2\n".replace("\n", ends)
    raw = read(tmp_path, mark + text.encode())
    assert raw.sections == {"TRAINING": {"SEED": "1"}, "TESTING": {"SEED": "2"}}


def test_default_is_shared_and_known_apart(tmp_path):
    text = "[DEFAULT]\nSEED = 1\nLR = 2\n[TRAINING]\nSEED = 1\n[TESTING]\nRESIZE = 3\n"
    raw = read(tmp_path, text)
    assert raw.sections["TRAINING"] == {"SEED": "1", "LR": "2"}
    assert raw.sections["TESTING"] == {"SEED": "1", "LR": "2", "RESIZE": "3"}
    # SEED stands in [TRAINING] although its value there is the shared one.
    assert raw.own == {"DEFAULT": {"SEED", "LR"}, "TRAINING": {"SEED"}, "TESTING": {"RESIZE"}}


def test_an_indented_line_continues_a_value(tmp_path):
    raw = read(tmp_path, "[TRAINING]\nPATCH_SIZE = 1,\n  2\nSEED\t=\t3\t\n")
    assert raw.sections["TRAINING"] == {"PATCH_SIZE": "1,\n2", "SEED": "3"}


FAULTS = [
    (
        "[TRAINING]\nSEED = 1\nLR = 1\nSEED = 2\n  3\nlr = 2\n",
        "[TRAINING] SEED: stands twice (line 4); keep one of the two",
    ),
    *(
        (
            f"[{name}]\nSEED = 1\n[{name}]\nLR = 3\n[{name}]\n",
            f"[{name}] stands twice (line 3); join the two",
        )
        for name in ("TRAINING", "TESTING", "DEFAULT")
    ),
    (
        "# c\nSEED = 0\nLR = 0\n[TRAINING]\nSEED 1\n",
        "line 2 stands before any section; begin with [TRAINING] or [TESTING]",
    ),
    # A file of another kind.
    (
        "path,label,score\n" * 50_000,
        "line 1 stands before any section; begin with [TRAINING] or [TESTING]",
    ),
    *(
        (
            f"[TRAINING]\nLR = 1\n{line}\nSEED 1\n",
            f"line 3 is neither 'KEY = value', a section nor a comment: '{line}'",
        )
        for line in ("SEED 1", "= 7", "[TESTING")
    ),
]


@pytest.mark.parametrize(("text", "said"), FAULTS, ids=range(len(FAULTS)))
def test_the_first_fault_is_told(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    (problem,) = caught.value.problems
    assert str(problem) == f"{tmp_path / 'case.ini'}: {said}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[TRAINING]\nEXPERIMENT_NAME = Schädel".encode("latin-1"), "is not UTF-8 text (byte 32)"),
        ("[TRAINING]\nSEED = 1".encode("utf-16"), "is not UTF-8 text (byte 0)"),
        (b"[TRAINING]\nSEED = 1\x00\n", "holds a NUL byte in line 2"),
        (b"[TRAINING]\n\x00\x00\x00", "holds a NUL byte in line 2"),
    ],
)
def test_other_encodings_are_refused_whole(tmp_path, content, said):
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
def test_files_that_cannot_be_read(tmp_path, path, said):
    (tmp_path / "case.ini").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as caught:
        read_ini(tmp_path / path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_problem_is_one_printable_line():
    problem = Problem("a.ini", "X\x1b[31m", "K\nL", "found\x00\x85\u2028 it, at 5 % of ärger")
    assert str(problem) == "a.ini: [X\\x1b[31m] K\\nL: found\\x00\\x85\\u2028 it, at 5 % of ärger"
