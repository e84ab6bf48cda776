"""Files, overrides and calls that are no config: one printable line says what would do."""

import pytest

from tests.config_helpers import problems_of, small_ini
from tests.processes import python
from utils.config.load import load_config
from utils.errors import ConfigError, Problem

NO_SECTION = "comes before any section; start with [TRAINING] or [TESTING]"
# An INI file, and how its one problem ends or what it says.
FORMS: list[tuple[str | bytes, str]] = [
    ("", "has no sections"),
    ("# nothing\n\n", "has no sections"),
    ("[DEFAULT]\nSEED = 1\n", "has no sections"),
    ("[TRAIN]\nSEED = 1\n", "did you mean [TRAINING]?"),
    ("[TRAINNG]\nSEED = 1\n", "did you mean [TRAINING]?"),
    ("[testing]\nSEED = 1\n", "did you mean [TESTING]?"),
    ("[ testing ]\nSEED = 1\n", "did you mean [TESTING]?"),
    ("[default]\nSEED = 1\n", "did you mean [DEFAULT]?"),
    ("[default]\nMODEL_NAME = test_vit\n[TESTING]\nTEST_DATA_PATH = data\n",
     "did you mean [DEFAULT]?"),
    ("[wandb]\nx = 1\n", "unknown section; use [DEFAULT], [TRAINING] or [TESTING]"),
    ("[]\nSEED = 1\n", f"line 1 {NO_SECTION}"),
    ("{'SEED': 1}", f"line 1 {NO_SECTION}"),
    ("# c\nSEED = 0\nLR = 0\n[TRAINING]\nSEED 1\n", f"line 2 {NO_SECTION}"),
    # A file of another kind.
    ("path,label,score\n" * 50_000, f"line 1 {NO_SECTION}"),
    *((f"[TRAINING]\nLR = 1\n{line}\nSEED 1\n",
       f"line 3 is neither 'KEY = value', a section nor a comment: '{line}'")
      for line in ("SEED 1", "= 7", "[TESTING")),
    ("[TRAINING]\nSEED = 1\nLR = 1\nSEED = 2\n  3\nlr = 2\n",
     "[TRAINING] SEED: appears twice (again in line 4); keep one of the two"),
    *((f"[{name}]\nSEED = 1\n[{name}]\nLR = 3\n[{name}]\n",
       f"[{name}] appears twice (again in line 3); merge the two")
      for name in ("TRAINING", "TESTING", "DEFAULT")),
    (small_ini() + "SEED\n", "is neither 'KEY = value'"),
    (small_ini() + "export SEEDS=1\n", "unknown key; "),
    (small_ini() + "ſeed = 1\n", "appears twice"),
    ("[TRAINING]\nEXPERIMENT_NAME = Schädel".encode("latin-1"), "is not UTF-8 text (byte 32)"),
    ("[TRAINING]\nSEED = 1".encode("utf-16"), "is not UTF-8 text (byte 0)"),
    (b"[TRAINING]\nSEED = 1\x00\n", "has a NUL byte in line 2"),
    (b"[TRAINING]\n\x00\x00\x00", "has a NUL byte in line 2"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), FORMS, ids=range(len(FORMS)))
def test_broken_forms(tmp_path, text, said):
    (problem,) = problems_of(tmp_path, text)
    assert said in str(problem)
    assert str(problem).startswith(f"{tmp_path / 'case.ini'}: ")
    assert str(problem).isprintable()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.ini", "no such file"),
        ("", "is a folder"),
        *((path, "cannot be read") for path in ("a\0b", "x" * 5000, "case.ini/below")),
    ],
)
def test_files_that_cannot_be_read(tmp_path, path, said):
    (tmp_path / "case.ini").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(tmp_path / path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_problem_is_one_printable_line():
    problem = Problem("a.ini", "X\x1b[31m", "K\nL", "found\x00\x85\u2028 it, at 5 % of ärger")
    assert str(problem) == "a.ini: [X\\x1b[31m] K\\nL: found\\x00\\x85\\u2028 it, at 5 % of ärger"


OVERRIDES: list[tuple[str, str, str]] = [
    *((override, "", "write KEY=VALUE")
      for override in ("", "SEED", "=1", "TESTING.=1", "DEFAULT.SEED=1", "A.B.SEED=1")),
    ("SEED=", "SEED", "found ''; must be a whole number"),
    ("TRAINING.SEED=1.5", "TRAINING.SEED", "found '1.5'; must be a whole number"),
    ("SEDE=1", ".SEDE", "unknown key; did you mean SEED?"),
    ("TRAINING.TEST_DATA_PATH=x", "TRAINING.TEST_DATA_PATH", "[TESTING]"),
    ("TESTING.SEED=1", "TESTING.SEED", "the file has no section [TESTING]"),
    ("TEST_DATA_PATH=x", "TESTING.TEST_DATA_PATH", "the file has no section [TESTING]"),
    ("RESULTS_PATH=a\nb", "RESULTS_PATH", r"found 'a\nb'"),
    ("RESULTS_PATH=\udcff", "RESULTS_PATH", r"found '\udcff'"),
    ("EXPERIMENT_NAME=\udcff", "EXPERIMENT_NAME", r"found '\udcff'"),
    ("JUNCTION_HEADS=5", "JUNCTION_HEADS", "5 heads do not divide JUNCTION_DIM"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "place", "said"), OVERRIDES, ids=range(len(OVERRIDES)))
def test_broken_overrides(tmp_path, override, place, said):
    text = small_ini().split("\n\n")[0] + "\n"
    (problem,) = problems_of(tmp_path, text, [override])
    assert problem.file == "--set"
    assert f"{problem.section}.{problem.key}".strip(".") == place.strip(".")
    assert said in str(problem)
    assert str(problem).isprintable()


def test_scripts_say_config_errors_in_lines(tmp_path):
    file = tmp_path / "broken.ini"
    file.write_text(small_ini({"TRAINING.LRR": "1", "TESTING.SEED": "x"}), encoding="utf-8")
    process = python("run_training.py", "--config", str(file), "--set", "N_PATCHES=7")
    assert process.returncode == 2
    assert [line.split(": ")[:2] for line in process.stderr.splitlines()] == [
        [str(file), "[TRAINING] LRR"],
        ["--set", "N_PATCHES"],
        [str(file), "[TESTING] SEED"],
    ]
    assert process.stdout == f"loading PyTorch and {file}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "--config FILE"),
        (["--config", "nowhere.ini"], 2, "error: nowhere.ini: no such file"),
        ([], 2, "required: --config"),
    ],
)
def test_help_and_wrong_calls_without_torch(arguments, code, said):
    process = python("-X", "importtime", "run_training.py", *arguments)
    assert process.returncode == code
    assert said in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    imported = [line.rpartition("|")[2].strip() for line in process.stderr.splitlines()]
    assert "argparse" in imported
    assert not any(name.split(".")[0] in ("torch", "timm") for name in imported)
