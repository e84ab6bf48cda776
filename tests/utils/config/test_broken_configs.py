"""Broken configs: each fault has its own line, that says where it is and what would do."""

import re
import string
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config_helpers import load_text, problems_of, small_ini
from utils.config.load import ini_text, load_config
from utils.config.schema import SCHEMAS, keys_of
from utils.errors import ConfigError, Problem

ROOT = Path(__file__).parents[3]
Row = tuple[str, str | None, tuple[str, ...]]
REQUIRED = ("TRAIN_DATA_PATH", "VAL_DATA_PATH", "RESULTS_PATH", "MODEL_NAME")

# (SECTION.KEY, value or None to leave it out, what the message must say): one problem each.
VALUES: list[Row] = [
    # Numbers; the properties below try their ranges.
    ("TRAINING.SEED", "9" * 5000, ("a whole number from 0",)),
    ("TRAINING.SEED", "1 ; the answer", ("comments need a line of their own",)),
    ("TRAINING.SEED", "1\t# the answer", ("comments need a line of their own",)),
    ("TRAINING.SEED", "1\n  LR = 2", ("an indented line continues the one above it",)),
    ("TRAINING.N_EPOCHS", "2.5", ("'2.5'", "a whole number")),
    ("TRAINING.DECODER_OUT_CHANNELS", "2", ("'2'", "1 or 3")),
    ("TRAINING.DECODER_OUT_CHANNELS", "3.0", ("'3.0'", "1 or 3")),
    ("TRAINING.LR", "0", ("'0'", "above 0")),
    ("TRAINING.LR", "-8e-5", ("'-8e-5'", "above 0")),
    ("TRAINING.LR", "10", ("'10'", "below 10")),
    ("TRAINING.LR", "8e-5 (peak)", ("'8e-5 (peak)'",)),
    ("TRAINING.SCHEDULER_STEPS", "-inf", ("'-inf'", "a number")),
    ("TRAINING.JUNCTION_MLP_RATIO", "64", ("'64'", "below 64")),
    ("TESTING.DECODER_MLP_RATIO", "0", ("'0'", "above 0")),
    ("TESTING.THRESHOLD_QUANTILE", "1", ("'1'", "between 0 and 1")),
    ("TESTING.PIXEL_QUANTILE", "0", ("'0'", "between 0 and 1")),
    # What INI files take as it stands, and other programs do not.
    ("TRAINING.N_EPOCHS", '"5"', ("a whole number", "without quotes")),
    ("TRAINING.TRAIN_DATA_PATH", '"data/train"', ("the path of a folder", "without quotes")),
    ("TRAINING.RESULTS_PATH", "“results”", ("without quotes",)),
    ("TRAINING.MODEL_NAME", "test_vit ; small", ("comments need a line of their own",)),
    ("TRAINING.MODEL_NAME", "timm/test_vit.r160_in1k", ("write test_vit.r160_in1k",)),
    ("TRAINING.MODEL_NAME", "test_vit.nope", ("cannot build 'test_vit.nope': Invalid",)),
    # Choices.
    ("TRAINING.SAVE_MODEL_CKPT", "perhaps", ("'perhaps'", "0 or 1")),
    ("TRAINING.SAVE_MODEL_CKPT", "2", ("'2'", "0 or 1")),
    ("TRAINING.SAVE_MODEL_CKPT", "", ("''", "0 or 1")),
    ("TRAINING.CHECKPOINT_CONTENT", "all", ("'all'", "trained or full")),
    ("TRAINING.PRECISION", "fp16", ("'fp16'", "auto, fp32, tf32 or bf16")),
    ("TRAINING.DEVICE", "gpu", ("'gpu'", "auto, cpu, cuda, cuda:N or mps")),
    ("TRAINING.DEVICE", "cuda:", ("'cuda:'",)),
    ("TRAINING.DEVICE", "cuda:-1", ("'cuda:-1'",)),
    ("TRAINING.REDUCTION", "median", ("'median'", "pixelwise_mean_max")),
    ("TESTING.VOLUME_REDUCTION", "top_5", ("'top_5'", "max, mean or top_k_mean")),
    ("TESTING.CHECKPOINT_PATH", "a.pth, ", ("'a.pth,'", "or several different ones, ")),
    ("TESTING.CHECKPOINT_PATH", "a.pth, b.pth, a.pth", ("or several different ones, ",)),
    ("TESTING.CHECKPOINT_PATH", "a.pth, hf://a", ("hf://owner/repo/path[@revision]",)),
    ("TESTING.BASELINE", "knn", ("'knn'", "none or nearest_neighbour")),
    ("TESTING.BASELINE_SIZE", "0", ("'0'", "from 1 to")),
    ("TESTING.BASELINE_HSTATE", "-1, -7", ("test_vit has no block -7", "-6 to 5")),
    ("TESTING.BASELINE_HSTATE", "", ("a comma-separated list of block numbers",)),
    ("TRAINING.MULTI_HSTATE_REDUCTION", "pixelwise_mean_max", ("mean or max",)),
    ("TESTING.IMAGE_REDUCTION", "Mean", ("'Mean'", "mean, max")),
    ("TESTING.PIXEL_MULTI_HSTATE_REDUCTION", "min", ("'min'", "empty, mean or max")),
    ("TRAINING.PERCEPTUAL_METRIC_TRAIN", "cos", ("'cos'", "cosine, L2, L1")),
    ("TESTING.PERCEPTUAL_METRIC_VAL", "", ("''", "cosine")),
    ("TESTING.PERCEPTUAL_METRIC_VAL", "content+style", ("PERCEPTUAL_VIT_mae_multi", "cosine")),
    ("TRAINING.CRITERION_TRAIN", "PERCEPTUAL_VIT", ("'PERCEPTUAL_VIT'", "MS_SSIM")),
    ("TRAINING.CRITERION_TRAIN", "", ("''", "criteria")),
    ("TRAINING.CRITERION_TRAIN", "MSE,", ("'MSE,'", "criteria")),
    ("TRAINING.CRITERION_TRAIN", "MS_SSIM", ("above 160", "found 96")),
    # Lists.
    ("TRAINING.CRITERION_TRAIN_WEIGHTS", "1, 2", ("found 2 weights", "give 1")),
    ("TRAINING.CRITERION_TRAIN_WEIGHTS", "-1", ("'-1'", "from 0")),
    ("TRAINING.CRITERION_TRAIN_WEIGHTS", "0", ("all weights are 0",)),
    ("TESTING.CRITERION_VAL_WEIGHTS", "inf", ("'inf'", "one for each criterion")),
    ("TRAINING.USE_HIDDEN_STATE", "-2 -4", ("'-2 -4'", "comma-separated")),
    ("TRAINING.USE_HIDDEN_STATE", "-2, -4,", ("'-2, -4,'", "comma-separated")),
    ("TRAINING.USE_HIDDEN_STATE", "[-2, -4]", ("'[-2, -4]'", "comma-separated")),
    ("TRAINING.PERCEPTUAL_PATCH_SIZE_TRAIN", "16, 56", ("56 does not divide RESIZE = 96",)),
    ("TESTING.PERCEPTUAL_PATCH_SIZE_VAL", "128", ("128 does not divide RESIZE = 96",)),
    ("TRAINING.MODEL_NAME", "", ("''", "timm")),
    ("TRAINING.MODEL_NAME", ",test_vit", ("',test_vit'", "timm")),
    ("TRAINING.MODEL_NAME", "test_vit\n  N_PATCHES = 6", ("an indented line",)),
    ("TRAINING.MODEL_WEIGHTS", "hub, random", ("found 2 values", "give 1")),
    ("TRAINING.CACHE_DIR", "a, b, c", ("found 3 values", "give 1")),
    ("TRAINING.CACHE_DIR", "a\n  b", ("an indented line",)),
    ("TRAINING.PERCEPTUAL_MODEL_NAME", "", ("''", "a timm model tag")),
    ("TRAINING.PERCEPTUAL_WEIGHTS", "", ("''", "hub, random")),
    ("TRAINING.FINAL_PROJ_IN_FEATURES", "", ("is empty while FINAL_PROJ_OUT_FEATURES is not",)),
    ("TRAINING.FINAL_PROJ_IN_FEATURES", "64, 64", ("found 2 values", "give 1")),
    ("TRAINING.FINAL_PROJ_OUT_FEATURES", "64", ("found 64", "JUNCTION_DIM = 48")),
    ("TRAINING.PATCH_SIZE", "16, 16", ("found 2 values", "give 1")),
    ("TRAINING.N_REG_TOKENS", "0, 0", ("found 2 values", "give 1")),
    # Geometry.
    ("TRAINING.N_PATCHES", "7", ("7 patches of 16 make 112 pixels", "RESIZE = 96")),
    ("TRAINING.JUNCTION_N_QUERIES", "100", ("found 100", "DECODER_N_PATCHES² = 144")),
    ("TRAINING.JUNCTION_HEADS", "5", ("5 heads do not divide JUNCTION_DIM = 48",)),
    ("TRAINING.DECODER_NUM_HEADS", "7", ("7 heads do not divide DECODER_DIM = 48",)),
    # Paths, names, patterns.
    ("TRAINING.RESULTS_PATH", "", ("''", "the path of a folder")),
    ("TRAINING.TRAIN_DATA_PATH", "  ", ("''", "the path of a folder")),
    ("TRAINING.RESULTS_PATH", "~nobody-of-that-name/x", ("'~nobody-of-that-name/x'",)),
    ("TRAINING.TRAIN_DATA_PATH", "x" * 256, ("the path of a folder",)),
    ("TESTING.CHECKPOINT_PATH", "long/" * 300, ("the path of a checkpoint",)),
    ("TRAINING.RESULTS_PATH", "results\n  SEED = 3", ("an indented line continues",)),
    ("TRAINING.EXPERIMENT_NAME", "a\n  b", ("an indented line continues",)),
    ("TRAINING.EXPERIMENT_NAME", "a\x1bb", (r"'a\x1bb'", "a name")),
    ("TESTING.CHECKPOINT_PATH", "", ("''", "the path of a checkpoint")),
    ("TESTING.PATIENT_PATTERN", "([a-z", ("'([a-z'", "a regular expression")),
    ("TESTING.PATIENT_PATTERN", "a{99999999999999999999}", ("a regular expression",)),
    ("TESTING.PATIENT_PATTERN", "(" * 5000 + ")" * 5000, ("a regular expression",)),
    ("TESTING.PATIENT_PATTERN", "^(a)\n  (b)", ("an indented line continues",)),
    ("TESTING.INTENSITY_WINDOW", "wide", ("'wide'", "percentiles LOW,HIGH")),
    ("TESTING.INTENSITY_WINDOW", "80,-20", ("'80,-20'", "LOW below HIGH")),
    ("TESTING.INTENSITY_WINDOW", "nan,1", ("'nan,1'",)),
    ("TESTING.INTENSITY_WINDOW", "0,inf", ("'0,inf'",)),
    ("TESTING.INTENSITY_WINDOW", "percentiles 1,101", ("'percentiles 1,101'",)),
    ("TESTING.INTENSITY_WINDOW", "-20,\n  80", ("an indented line continues",)),
    # Keys.
    ("TRAINING.SEDE", "1", ("unknown key", "SEED")),
    ("TRAINING.WEIGHT_DECAY", "1", ("unknown key; docs/config.md lists the known ones",)),
    ("TRAINING.LEARNING_RATE", "1", ("unknown key; docs/config.md lists the known ones",)),
    ("TRAINING.BATCH", "1", ("unknown key; docs/config.md lists the known ones",)),
    ("TRAINING.JUNCTION_NQUERIES", "1", ("the nearest known one is JUNCTION_N_QUERIES",)),
    ("TESTING.IMAGE_REDUCTON", "max", ("the nearest known one is IMAGE_REDUCTION",)),
    ("DEFAULT.N_EPOCH", "1", ("the nearest known one is N_EPOCHS",)),
    ("DEFAULT.SCHEDULER_GAMMA", "x", ("'x'", "a number")),
    ("TESTING.LR", "1", ("belongs in [TRAINING]",)),
    ("TRAINING.CHECKPOINT_PATH", "a.pth", ("belongs in [TESTING]",)),
    ("TRAINING.IMAGE_REDUCTION", "max", ("belongs in [TESTING]",)),
    *((f"TRAINING.{key}", None, ("missing; give ",)) for key in REQUIRED),
    *((f"TESTING.{key}", None, ("missing; give ",)) for key in ("TEST_DATA_PATH", "RESULTS_PATH")),
]


def assert_one_problem(folder: Path, text: str, place: str, said: tuple[str, ...]) -> None:
    (problem,) = problems_of(folder, text)
    assert problem.file == str(folder / "case.ini")
    assert f"{problem.section}.{problem.key}" == place
    line = str(problem)
    assert line.isprintable()
    for words in (problem.file, f"[{problem.section}]", problem.key, *said):
        assert words in line


def test_the_small_config_is_valid(tmp_path):
    assert problems_of(tmp_path, small_ini()) == []


@pytest.mark.parametrize(("place", "value", "said"), VALUES, ids=range(len(VALUES)))
def test_broken_values(tmp_path, place, value, said):
    assert_one_problem(tmp_path, small_ini({place: value}), place, said)


def test_a_checkpoint_must_be_named_where_there_is_no_training(tmp_path):
    text = small_ini({"TESTING.CHECKPOINT_PATH": None})
    assert problems_of(tmp_path, text) == []
    assert_one_problem(
        tmp_path, text[text.index("[TESTING]") :], "TESTING.CHECKPOINT_PATH", ("missing; give ",)
    )


PLACES = sorted(f"{section}.{key}" for section in SCHEMAS for key in keys_of(section))
WORDS = {
    place: str(SCHEMAS[section].model_fields[key.lower()].description)
    for place in PLACES
    for section, _, key in [place.partition(".")]
}
NUMBERS = [place for place, words in WORDS.items() if "number" in words and "list" not in words]
LISTS = [place for place, words in WORDS.items() if "list of" in words and "tags" not in words]
RANGES = [place for place in NUMBERS if re.search(r"from \d+ to \d+$", WORDS[place])]
PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@PROPERTY
@given(
    place=st.sampled_from(NUMBERS + LISTS),
    value=st.sampled_from(["x", "1,", "nan", "inf", "%(HOME)s", "96x96", "1.5.2", "95%"]),
)
def test_no_number(tmp_path, place, value):
    (problem,) = problems_of(tmp_path, small_ini({place: value}))
    assert f"{problem.section}.{problem.key}" == place
    assert problem.text == f"found {value!r}; give {WORDS[place]}"


@PROPERTY
@given(place=st.sampled_from(RANGES), beyond=st.integers(1, 10**30))
def test_ranges_are_what_messages_say(tmp_path, place, beyond):
    low, high = map(int, re.findall(r"\d+", WORDS[place]))
    for value in (low - beyond, high + beyond):
        assert_one_problem(tmp_path, small_ini({place: str(value)}), place, (WORDS[place],))
    for value in (low, high):
        found = problems_of(tmp_path, small_ini({place: str(value)}))
        assert all(WORDS[place] not in problem.text for problem in found)


# Changes of [TRAINING], and the keys that are named.
SEVERAL: list[tuple[Mapping[str, str], set[str]]] = [
    # Three encoders, and lists that were left at two entries.
    ({"MODEL_NAME": "test_vit, test_vit2, test_vit", "PATCH_SIZE": "16, 16", "N_PATCHES": "6, 6",
      "N_REG_TOKENS": "0, 0", "FINAL_PROJ_IN_FEATURES": "64, 64",
      "FINAL_PROJ_OUT_FEATURES": "48, 48"},
     {"PATCH_SIZE", "N_PATCHES", "N_REG_TOKENS", "FINAL_PROJ_IN_FEATURES",
      "FINAL_PROJ_OUT_FEATURES"}),
    ({"MODEL_NAME": "test_vit, test_vit2", "PATCH_SIZE": "16, 8", "N_PATCHES": "6, 6",
      "N_REG_TOKENS": "0, 0", "FINAL_PROJ_IN_FEATURES": "64, 64",
      "FINAL_PROJ_OUT_FEATURES": "48, 4"}, {"N_PATCHES", "FINAL_PROJ_OUT_FEATURES"}),
    # An extra block: all three keys, heads that divide its width.
    ({"ADDITIONAL_BLOCK_DIM": "64"}, {"ADDITIONAL_BLOCK_NUM_HEADS", "ADDITIONAL_BLOCK_MLP_RATIO"}),
    ({"ADDITIONAL_BLOCK_DIM": "64", "ADDITIONAL_BLOCK_NUM_HEADS": "5",
      "ADDITIONAL_BLOCK_MLP_RATIO": "4"}, {"ADDITIONAL_BLOCK_NUM_HEADS"}),
    ({"ADDITIONAL_BLOCK_NUM_HEADS": "0", "ADDITIONAL_BLOCK_MLP_RATIO": "-4"},
     {"ADDITIONAL_BLOCK_NUM_HEADS", "ADDITIONAL_BLOCK_MLP_RATIO"}),
    ({"ADDITIONAL_BLOCK_DIM": "64, 64", "ADDITIONAL_BLOCK_NUM_HEADS": "4",
      "ADDITIONAL_BLOCK_MLP_RATIO": "4"}, {"ADDITIONAL_BLOCK_DIM"}),
    # One wrong number that contradicts several others.
    ({"RESIZE": "100", "CRITERION_TRAIN": "PERCEPTUAL_VIT_mae"},
     {"N_PATCHES", "DECODER_N_PATCHES", "PERCEPTUAL_PATCH_SIZE_VAL", "CRITERION_TRAIN"}),
    ({"PATCH_SIZE": "8", "DECODER_PATCH_SIZE": "16"}, {"N_PATCHES", "DECODER_N_PATCHES"}),
    ({"DECODER_DIM": "50"}, {"DECODER_DIM", "DECODER_NUM_HEADS"}),
    ({"DECODER_N_PATCHES": "13"}, {"JUNCTION_N_QUERIES", "DECODER_N_PATCHES"}),
    ({"N_PATCHES": "7", "CRITERION_TRAIN_WEIGHTS": "1, 1",
      "PERCEPTUAL_METRIC_TRAIN": "content+style", "LRR": "1"},
     {"N_PATCHES", "CRITERION_TRAIN_WEIGHTS", "PERCEPTUAL_METRIC_TRAIN", "LRR"}),
    # Wrong values, contradictions and what a backbone says, in one round.
    ({"SEED": "x", "TRAIN_DATA_PATH": "", "N_PATCHES": "7", "LRR": "1", "JUNCTION_DIM": "-3",
      "N_REG_TOKENS": "4", "PERCEPTUAL_MODEL_NAME": "nonsense"},
     {"SEED", "TRAIN_DATA_PATH", "N_PATCHES", "LRR", "JUNCTION_DIM", "N_REG_TOKENS",
      "PERCEPTUAL_MODEL_NAME"}),
    ({"RESIZE": "x", "USE_HIDDEN_STATE": "9"}, {"RESIZE", "USE_HIDDEN_STATE"}),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "keys"), SEVERAL, ids=range(len(SEVERAL)))
def test_all_problems_at_once(tmp_path, changes, keys):
    text = small_ini({f"TRAINING.{key}": value for key, value in changes.items()})
    problems = problems_of(tmp_path, text)
    assert {problem.key for problem in problems} == keys
    assert {problem.section for problem in problems} == {"TRAINING"}
    assert len({str(problem) for problem in problems}) == len(problems)


def test_problems_of_both_sections_names_and_overrides_at_once(tmp_path):
    text = small_ini({"TRAINING.SEED": "x", "TESTING.SEED": "y"}) + "SEDE = 3\n[X]\n"
    problems = problems_of(tmp_path, text, ["RESIZE=nine", "nonsense"])
    found = [(Path(problem.file).name, problem.section, problem.key) for problem in problems]
    assert sorted(found) == [
        ("--set", "", ""),
        ("--set", "", "RESIZE"),
        ("case.ini", "TESTING", "SEDE"),
        ("case.ini", "TESTING", "SEED"),
        ("case.ini", "TRAINING", "SEED"),
        ("case.ini", "X", ""),
    ]


@pytest.mark.parametrize(("key", "value"), [("DEVICE", "gpu"), ("JUNCTION_HEADS", "5")])
def test_a_fault_in_default_is_said_once_and_where_it_stands(tmp_path, key, value):
    changes = {f"DEFAULT.{key}": value, f"TRAINING.{key}": None, f"TESTING.{key}": None}
    (problem,) = problems_of(tmp_path, small_ini(changes))
    assert (problem.section, problem.key) == ("DEFAULT", key)


NO_SECTION = "stands before any section; begin with [TRAINING] or [TESTING]"
# An INI file, and how its one problem ends or what it says.
FORMS: list[tuple[str | bytes, str]] = [
    ("", "holds no section"),
    ("# nothing\n\n", "holds no section"),
    ("[DEFAULT]\nSEED = 1\n", "holds no section"),
    ("[TRAIN]\nSEED = 1\n", "write [TRAINING]"),
    ("[TRAINNG]\nSEED = 1\n", "write [TRAINING]"),
    ("[testing]\nSEED = 1\n", "write [TESTING]"),
    ("[ testing ]\nSEED = 1\n", "write [TESTING]"),
    ("[default]\nSEED = 1\n", "write [DEFAULT]"),
    ("[default]\nMODEL_NAME = test_vit\n[TESTING]\nTEST_DATA_PATH = data\n", "write [DEFAULT]"),
    ("[wandb]\nx = 1\n", "unknown section; known are [DEFAULT], [TRAINING] and [TESTING]"),
    ("[]\nSEED = 1\n", f"line 1 {NO_SECTION}"),
    ("{'SEED': 1}", f"line 1 {NO_SECTION}"),
    ("# c\nSEED = 0\nLR = 0\n[TRAINING]\nSEED 1\n", f"line 2 {NO_SECTION}"),
    # A file of another kind.
    ("path,label,score\n" * 50_000, f"line 1 {NO_SECTION}"),
    *(
        (
            f"[TRAINING]\nLR = 1\n{line}\nSEED 1\n",
            f"line 3 is neither 'KEY = value', a section nor a comment: '{line}'",
        )
        for line in ("SEED 1", "= 7", "[TESTING")
    ),
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
    (small_ini() + "SEED\n", "is neither 'KEY = value'"),
    (small_ini() + "export SEEDS=1\n", "unknown key; "),
    (small_ini() + "ſeed = 1\n", "stands twice"),
    ("[TRAINING]\nEXPERIMENT_NAME = Schädel".encode("latin-1"), "is not UTF-8 text (byte 32)"),
    ("[TRAINING]\nSEED = 1".encode("utf-16"), "is not UTF-8 text (byte 0)"),
    (b"[TRAINING]\nSEED = 1\x00\n", "holds a NUL byte in line 2"),
    (b"[TRAINING]\n\x00\x00\x00", "holds a NUL byte in line 2"),
]


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
        ("a\0b", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("case.ini/below", "cannot be read"),
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
    ("", "", "write KEY=VALUE"),
    ("SEED", "", "write KEY=VALUE"),
    ("=1", "", "write KEY=VALUE"),
    ("TESTING.=1", "", "write KEY=VALUE"),
    ("DEFAULT.SEED=1", "", "write KEY=VALUE"),
    ("A.B.SEED=1", "", "write KEY=VALUE"),
    ("SEED=", "SEED", "found ''; give a whole number"),
    ("TRAINING.SEED=1.5", "TRAINING.SEED", "found '1.5'; give a whole number"),
    ("SEDE=1", ".SEDE", "unknown key; the nearest known one is SEED"),
    ("TRAINING.TEST_DATA_PATH=x", "TRAINING.TEST_DATA_PATH", "[TESTING]"),
    ("TESTING.SEED=1", "TESTING.SEED", "the file has no section [TESTING]"),
    ("TEST_DATA_PATH=x", "TESTING.TEST_DATA_PATH", "the file has no section [TESTING]"),
    ("RESULTS_PATH=a\nb", "RESULTS_PATH", r"found 'a\nb'"),
    ("RESULTS_PATH=\udcff", "RESULTS_PATH", r"found '\udcff'"),
    ("EXPERIMENT_NAME=\udcff", "EXPERIMENT_NAME", r"found '\udcff'"),
    ("JUNCTION_HEADS=5", "JUNCTION_HEADS", "5 heads do not divide JUNCTION_DIM"),
]


@pytest.mark.parametrize(("override", "place", "said"), OVERRIDES, ids=range(len(OVERRIDES)))
def test_broken_overrides(tmp_path, override, place, said):
    text = small_ini().split("\n\n")[0] + "\n"
    (problem,) = problems_of(tmp_path, text, [override])
    assert problem.file == "--set"
    assert f"{problem.section}.{problem.key}".strip(".") == place.strip(".")
    assert said in str(problem)
    assert str(problem).isprintable()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_scripts_say_config_errors_in_lines(tmp_path):
    file = tmp_path / "broken.ini"
    file.write_text(small_ini({"TRAINING.LRR": "1", "TESTING.SEED": "x"}), encoding="utf-8")
    process = run("run_training.py", "--config", str(file), "--set", "N_PATCHES=7")
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
    process = run("-X", "importtime", "run_training.py", *arguments)
    assert process.returncode == code
    assert said in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    imported = [line.rpartition("|")[2].strip() for line in process.stderr.splitlines()]
    assert "argparse" in imported
    assert not any(name.split(".")[0] in ("torch", "timm") for name in imported)


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
NAMES = sorted({"X"}.union(*map(keys_of, SCHEMAS)))
VALUE = st.one_of(
    TEXT,
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", ",", "1,", "nan", "1e400", "~x", "~", "a\n b", "\\", "(?P<", "True"]),
    st.lists(st.integers(-3, 99), max_size=4).map(lambda items: ", ".join(map(str, items))),
)


def assert_config_or_problems(folder: Path, text: str | bytes, *overrides: str) -> None:
    """Loads to a config that says itself again, or gives printable problems."""
    problems = problems_of(folder, text, overrides)
    assert all(str(problem).isprintable() for problem in problems)
    if not problems:
        config = load_text(folder, text, overrides)
        again = load_text(folder, ini_text(config))
        assert (again.training, again.testing) == (config.training, config.testing)


LINE = st.one_of(
    TEXT,
    st.builds("{} {} {}".format, st.sampled_from(NAMES), st.sampled_from("=: "), VALUE),
    st.sampled_from(
        ["[DEFAULT]", "[TRAINING]", "[TESTING]", "[X]", "[]", " [TESTING]", "[TRAINING", "=", ":"]
    ),
)
MUTATION = st.tuples(
    st.integers(0, len(small_ini()) - 1), st.integers(0, 40),
    st.text(string.printable + "\x00\x85ſ²٣", max_size=5),
)  # fmt: skip


def mutated(mutations: list[tuple[int, int, str]]) -> str:
    text = small_ini()
    for start, length, put in mutations:
        text = text[:start] + put + text[start + length :]
    return text


ANYTHING = {
    "bytes": st.binary(max_size=200),
    "lines": st.lists(LINE, max_size=12).map("\n".join),
    "values": st.dictionaries(st.sampled_from(PLACES), VALUE | st.none(), max_size=4).map(
        small_ini
    ),
    "mutations": st.lists(MUTATION, min_size=1, max_size=4).map(mutated),
}


@PROPERTY
@given(data=st.data())
@pytest.mark.parametrize("content", ANYTHING.values(), ids=ANYTHING)
def test_no_content_crashes(tmp_path, content, data):
    assert_config_or_problems(tmp_path, data.draw(content))


@PROPERTY
@given(override=st.one_of(st.text(), st.builds("{}={}".format, st.sampled_from(NAMES), VALUE)))
def test_no_override_crashes(tmp_path, override):
    assert_config_or_problems(tmp_path, small_ini(), override)
