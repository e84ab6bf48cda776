"""Broken configs: each fault has its own line, that says where it is and what would do."""

from __future__ import annotations

import string
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config_helpers import load_text, problems_of, small_ini
from utils.config.load import ini_text
from utils.config.schema import SCHEMAS, keys_of

ROOT = Path(__file__).parents[3]
Row = tuple[str, str, tuple[str, ...]]

# (SECTION.KEY, value, what the message must say). Each row gives exactly one problem.
VALUES: list[Row] = [
    # Whole numbers.
    ("TRAINING.SEED", "x", ("'x'", "a whole number from 0")),
    ("TRAINING.SEED", "", ("''", "a whole number from 0")),
    ("TRAINING.SEED", "-1", ("'-1'", "from 0")),
    ("TRAINING.SEED", "2147483648", ("'2147483648'", "to 2147483647")),
    ("TRAINING.SEED", "1e3", ("'1e3'",)),
    ("TRAINING.SEED", "1,", ("'1,'",)),
    ("TRAINING.SEED", "9" * 5000, ("a whole number from 0",)),
    ("TRAINING.SEED", "1 ; the answer", ("comments need a line of their own",)),
    ("TRAINING.SEED", "1\t# the answer", ("comments need a line of their own",)),
    ("TRAINING.SEED", "%(HOME)s", ("'%(HOME)s'",)),
    ("TRAINING.SEED", "1\n  LR = 2", ("an indented line continues the one above it",)),
    ("TRAINING.NUM_WORKERS", "513", ("'513'", "to 512")),
    ("TRAINING.NUM_WORKERS", "-1", ("'-1'",)),
    ("TRAINING.N_EPOCHS", "0", ("'0'", "from 1")),
    ("TRAINING.N_EPOCHS", "2.5", ("'2.5'", "a whole number")),
    ("TRAINING.N_EPOCHS", "inf", ("'inf'",)),
    ("TRAINING.N_EPOCHS", "1" + "0" * 30, ("to 1000000000",)),
    ("TRAINING.EVAL_STEPSIZE", "0", ("'0'", "from 1")),
    ("TRAINING.BATCH_SIZE_TRAIN", "0", ("'0'", "from 1")),
    ("TRAINING.BATCH_SIZE_TRAIN", "auto", ("'auto'", "a whole number")),
    ("TESTING.BATCH_SIZE_TEST", "-4", ("'-4'", "from 1")),
    ("TESTING.BATCH_SIZE_TEST", "four", ("'four'", "a whole number")),
    ("TESTING.MAX_SAMPLES_TEST", "0", ("'0'", "from 1")),
    ("TESTING.MAX_SAMPLES_TEST", "all", ("'all'", "a whole number")),
    ("TESTING.REPORT_IMAGES", "-1", ("'-1'", "from 0")),
    ("TRAINING.DECODER_DEPTH", "1000000000", ("'1000000000'", "to 1000")),
    ("TRAINING.DECODER_N_REG_TOKENS", "-1", ("'-1'", "from 0")),
    ("TRAINING.DECODER_OUT_CHANNELS", "2", ("'2'", "1 or 3")),
    ("TRAINING.DECODER_OUT_CHANNELS", "3.0", ("'3.0'", "1 or 3")),
    ("TRAINING.JUNCTION_N_BLOCKS", "0", ("'0'", "from 1")),
    # Numbers.
    ("TRAINING.LR", "0", ("'0'", "above 0")),
    ("TRAINING.LR", "-8e-5", ("'-8e-5'", "above 0")),
    ("TRAINING.LR", "10", ("'10'", "below 10")),
    ("TRAINING.LR", "inf", ("'inf'", "a number above 0")),
    ("TRAINING.LR", "nan", ("'nan'", "a number above 0")),
    ("TRAINING.LR", "8e-5 (peak)", ("'8e-5 (peak)'",)),
    ("TRAINING.LR", "8,5e-5", ("'8,5e-5'",)),
    ("TRAINING.SCHEDULER_GAMMA", "nan", ("'nan'", "a number")),
    ("TRAINING.SCHEDULER_STEPS", "-inf", ("'-inf'", "a number")),
    ("TRAINING.JUNCTION_MLP_RATIO", "64", ("'64'", "below 64")),
    ("TESTING.DECODER_MLP_RATIO", "0", ("'0'", "above 0")),
    ("TESTING.THRESHOLD_QUANTILE", "1", ("'1'", "between 0 and 1")),
    ("TESTING.THRESHOLD_QUANTILE", "95%", ("'95%'",)),
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
    ("TRAINING.CRITERION_TRAIN_WEIGHTS", "nan", ("'nan'", "one for each criterion")),
    ("TESTING.CRITERION_VAL_WEIGHTS", "inf", ("'inf'", "one for each criterion")),
    ("TESTING.CRITERION_VAL_WEIGHTS", "", ("''", "one for each criterion")),
    ("TRAINING.USE_HIDDEN_STATE", "", ("''", "block numbers")),
    ("TRAINING.USE_HIDDEN_STATE", "-2 -4", ("'-2 -4'", "comma-separated")),
    ("TRAINING.USE_HIDDEN_STATE", "-2, -4,", ("'-2, -4,'", "comma-separated")),
    ("TRAINING.USE_HIDDEN_STATE", "[-2, -4]", ("'[-2, -4]'", "comma-separated")),
    ("TRAINING.PERCEPTUAL_HSTATE_TRAIN", "last", ("'last'", "block numbers")),
    ("TRAINING.PERCEPTUAL_PATCH_SIZE_TRAIN", "16, 0", ("'16, 0'", "from 1")),
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
    ("TRAINING.N_REG_TOKENS", "-1", ("'-1'", "from 0")),
    ("TRAINING.N_REG_TOKENS", "", ("''", "from 0")),
    # Geometry.
    ("TRAINING.N_PATCHES", "7", ("7 patches of 16 make 112 pixels", "RESIZE = 96")),
    ("TRAINING.JUNCTION_N_QUERIES", "100", ("found 100", "DECODER_N_PATCHES² = 144")),
    ("TRAINING.JUNCTION_HEADS", "5", ("5 heads do not divide JUNCTION_DIM = 48",)),
    ("TRAINING.DECODER_N_REG_TOKENS", "70000", ("'70000'", "to 65536")),
    ("TRAINING.DECODER_NUM_HEADS", "7", ("7 heads do not divide DECODER_DIM = 48",)),
    ("TRAINING.DECODER_DIM", "70000", ("'70000'", "to 65536")),
    ("TRAINING.RESIZE", "7", ("'7'", "from 8 to 4096")),
    ("TRAINING.RESIZE", "5000", ("'5000'", "from 8 to 4096")),
    ("TRAINING.RESIZE", "96x96", ("'96x96'",)),
    # Paths, names, patterns.
    ("TRAINING.RESULTS_PATH", "", ("''", "the path of the folder")),
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
    ("TRAINING.JUNCTION_NQUERIES", "1", ("the nearest known one is JUNCTION_N_QUERIES",)),
    ("TESTING.IMAGE_REDUCTON", "max", ("the nearest known one is IMAGE_REDUCTION",)),
    ("DEFAULT.N_EPOCH", "1", ("the nearest known one is N_EPOCHS",)),
    ("DEFAULT.SCHEDULER_GAMMA", "x", ("'x'", "a number")),
    ("TESTING.LR", "1", ("belongs into [TRAINING]",)),
    ("TESTING.N_EPOCHS", "1", ("belongs into [TRAINING]",)),
    ("TRAINING.CHECKPOINT_PATH", "a.pth", ("belongs into [TESTING]",)),
    ("TRAINING.IMAGE_REDUCTION", "max", ("belongs into [TESTING]",)),
]

REQUIRED = [
    "TRAINING.TRAIN_DATA_PATH", "TRAINING.VAL_DATA_PATH", "TRAINING.RESULTS_PATH",
    "TRAINING.MODEL_NAME", "TRAINING.N_PATCHES", "TRAINING.PATCH_SIZE", "TRAINING.N_REG_TOKENS",
    "TRAINING.USE_HIDDEN_STATE", "TRAINING.JUNCTION_DIM", "TRAINING.JUNCTION_OUTPUT_DIM",
    "TRAINING.JUNCTION_N_QUERIES", "TRAINING.JUNCTION_HEADS", "TRAINING.DECODER_DIM",
    "TRAINING.DECODER_N_PATCHES", "TRAINING.DECODER_PATCH_SIZE", "TRAINING.DECODER_DEPTH",
    "TRAINING.DECODER_NUM_HEADS", "TESTING.CHECKPOINT_PATH", "TESTING.TEST_DATA_PATH",
    "TESTING.RESULTS_PATH",
]  # fmt: skip


def assert_one_problem(folder: Path, text: str, place: str, said: tuple[str, ...]) -> None:
    (problem,) = problems_of(folder, text)
    assert problem.file == str(folder / "case.ini")
    assert f"{problem.section}.{problem.key}" == place
    line = str(problem)
    assert line.isprintable()
    for words in (problem.file, f"[{problem.section}]", problem.key, *said):
        assert words in line


def test_the_small_config_is_valid(tmp_path: Path) -> None:
    assert problems_of(tmp_path, small_ini()) == []


@pytest.mark.parametrize(("place", "value", "said"), VALUES, ids=range(len(VALUES)))
def test_broken_values(tmp_path: Path, place: str, value: str, said: tuple[str, ...]) -> None:
    assert_one_problem(tmp_path, small_ini({place: value}), place, said)


@pytest.mark.parametrize("place", REQUIRED)
def test_missing_keys(tmp_path: Path, place: str) -> None:
    assert_one_problem(tmp_path, small_ini({place: None}), place, ("missing; give ",))


SEVERAL: list[tuple[Mapping[str, str], set[str]]] = [
    # Three encoders, and lists that were left at two entries.
    (
        {"TRAINING.MODEL_NAME": "test_vit, test_vit2, test_vit", "TRAINING.PATCH_SIZE": "16, 16",
         "TRAINING.N_PATCHES": "6, 6", "TRAINING.N_REG_TOKENS": "0, 0",
         "TRAINING.FINAL_PROJ_IN_FEATURES": "64, 64", "TRAINING.FINAL_PROJ_OUT_FEATURES": "48, 48"},
        {"PATCH_SIZE", "N_PATCHES", "N_REG_TOKENS", "FINAL_PROJ_IN_FEATURES",
         "FINAL_PROJ_OUT_FEATURES"},
    ),
    (
        {"TRAINING.MODEL_NAME": "test_vit, test_vit2", "TRAINING.PATCH_SIZE": "16, 8",
         "TRAINING.N_PATCHES": "6, 6", "TRAINING.N_REG_TOKENS": "0, 0",
         "TRAINING.FINAL_PROJ_IN_FEATURES": "64, 64", "TRAINING.FINAL_PROJ_OUT_FEATURES": "48, 4"},
        {"N_PATCHES", "FINAL_PROJ_OUT_FEATURES"},
    ),
    # An extra block: all three keys, heads that divide its width.
    (
        {"TRAINING.ADDITIONAL_BLOCK_DIM": "64"},
        {"ADDITIONAL_BLOCK_NUM_HEADS", "ADDITIONAL_BLOCK_MLP_RATIO"},
    ),
    (
        {"TRAINING.ADDITIONAL_BLOCK_DIM": "64", "TRAINING.ADDITIONAL_BLOCK_NUM_HEADS": "5",
         "TRAINING.ADDITIONAL_BLOCK_MLP_RATIO": "4"},
        {"ADDITIONAL_BLOCK_NUM_HEADS"},
    ),
    (
        {"TRAINING.ADDITIONAL_BLOCK_NUM_HEADS": "0", "TRAINING.ADDITIONAL_BLOCK_MLP_RATIO": "-4"},
        {"ADDITIONAL_BLOCK_NUM_HEADS", "ADDITIONAL_BLOCK_MLP_RATIO"},
    ),
    (
        {"TRAINING.ADDITIONAL_BLOCK_DIM": "64, 64", "TRAINING.ADDITIONAL_BLOCK_NUM_HEADS": "4",
         "TRAINING.ADDITIONAL_BLOCK_MLP_RATIO": "4"},
        {"ADDITIONAL_BLOCK_DIM"},
    ),
    # One wrong number that contradicts several others.
    (
        {"TRAINING.RESIZE": "100", "TRAINING.CRITERION_TRAIN": "PERCEPTUAL_VIT_mae"},
        {"N_PATCHES", "DECODER_N_PATCHES", "PERCEPTUAL_PATCH_SIZE_VAL", "CRITERION_TRAIN"},
    ),
    ({"TRAINING.PATCH_SIZE": "8", "TRAINING.DECODER_PATCH_SIZE": "16"},
     {"N_PATCHES", "DECODER_N_PATCHES"}),
    ({"TRAINING.DECODER_DIM": "50"}, {"DECODER_DIM", "DECODER_NUM_HEADS"}),
    (
        {"TRAINING.DECODER_N_PATCHES": "13"},
        {"JUNCTION_N_QUERIES", "DECODER_N_PATCHES"},
    ),
    (
        {"TRAINING.N_PATCHES": "7", "TRAINING.CRITERION_TRAIN_WEIGHTS": "1, 1",
         "TRAINING.PERCEPTUAL_METRIC_TRAIN": "content+style", "TRAINING.LRR": "1"},
        {"N_PATCHES", "CRITERION_TRAIN_WEIGHTS", "PERCEPTUAL_METRIC_TRAIN", "LRR"},
    ),
    # Contradictions are looked for once all values are right one by one.
    (
        {"TRAINING.SEED": "x", "TRAINING.TRAIN_DATA_PATH": "", "TRAINING.N_PATCHES": "7",
         "TRAINING.LRR": "1", "TRAINING.JUNCTION_DIM": "-3"},
        {"SEED", "TRAIN_DATA_PATH", "LRR", "JUNCTION_DIM"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "keys"), SEVERAL, ids=range(len(SEVERAL)))
def test_all_problems_at_once(tmp_path: Path, changes: dict[str, str], keys: set[str]) -> None:
    problems = problems_of(tmp_path, small_ini(changes))
    assert {problem.key for problem in problems} == keys
    assert {problem.section for problem in problems} == {"TRAINING"}
    assert len({str(problem) for problem in problems}) == len(problems)


def test_problems_of_both_sections_names_and_overrides_at_once(tmp_path: Path) -> None:
    text = small_ini({"TRAINING.SEED": "x", "TESTING.SEED": "y"}) + "SEDE = 3\n[X]\n"
    problems = problems_of(tmp_path, text, ["RESIZE=nine", "nonsense"])
    found = [(Path(problem.file).name, problem.section, problem.key) for problem in problems]
    assert sorted(found) == [
        ("--set", "", ""),
        ("--set", "TESTING", "RESIZE"),
        ("--set", "TRAINING", "RESIZE"),
        ("case.ini", "TESTING", "SEDE"),
        ("case.ini", "TESTING", "SEED"),
        ("case.ini", "TRAINING", "SEED"),
        ("case.ini", "X", ""),
    ]


@pytest.mark.parametrize(("key", "value"), [("DEVICE", "gpu"), ("JUNCTION_HEADS", "5")])
def test_a_fault_in_default_is_said_once_and_where_it_stands(
    tmp_path: Path, key: str, value: str
) -> None:
    changes = {f"DEFAULT.{key}": value, f"TRAINING.{key}": None, f"TESTING.{key}": None}
    (problem,) = problems_of(tmp_path, small_ini(changes))
    assert (problem.section, problem.key) == ("DEFAULT", key)


FORMS: list[tuple[str, str]] = [
    ("", "holds no section"),
    ("# nothing\n\n", "holds no section"),
    ("[DEFAULT]\nSEED = 1\n", "holds no section"),
    ("[TRAIN]\nSEED = 1\n", "write [TRAINING]"),
    ("[TRAINNG]\nSEED = 1\n", "write [TRAINING]"),
    ("[testing]\nSEED = 1\n", "write [TESTING]"),
    ("[ testing ]\nSEED = 1\n", "write [TESTING]"),
    ("[default]\nSEED = 1\n", "write [DEFAULT]"),
    ("[wandb]\nx = 1\n", "unknown section; known are [DEFAULT], [TRAINING] and [TESTING]"),
    ("[]\nSEED = 1\n", "line 1 stands before any section"),
    ("SEED = 1\n", "line 1 stands before any section"),
    ("{'SEED': 1}", "line 1 stands before any section"),
    (small_ini() + "SEED\n", "is neither 'KEY = value'"),
    (small_ini() + "SEED = 1\n", "stands twice"),
    (small_ini() + "[TRAINING]\n", "stands twice"),
    (small_ini() + "[DEFAULT]\n[DEFAULT]\n", "stands twice"),
    (small_ini() + "[WANDB]\nproject = x\n", "unknown section"),
    (small_ini() + "export SEEDS=1\n", "unknown key; "),
    (small_ini() + "ſeed = 1\n", "stands twice"),
]


@pytest.mark.parametrize(("text", "said"), FORMS, ids=range(len(FORMS)))
def test_broken_forms(tmp_path: Path, text: str, said: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert said in problem.text
    assert str(problem).startswith(f"{tmp_path / 'case.ini'}: ")


OVERRIDES: list[tuple[str, str, str]] = [
    ("", "", "write KEY=VALUE"),
    ("SEED", "", "write KEY=VALUE"),
    ("=1", "", "write KEY=VALUE"),
    ("TESTING.=1", "", "write KEY=VALUE"),
    ("DEFAULT.SEED=1", "", "write KEY=VALUE"),
    ("A.B.SEED=1", "", "write KEY=VALUE"),
    ("SEED=", "TRAINING.SEED", "found ''; give a whole number"),
    ("SEED=1.5", "TRAINING.SEED", "found '1.5'; give a whole number"),
    ("SEDE=1", ".SEDE", "unknown key; the nearest known one is SEED"),
    ("TRAINING.TEST_DATA_PATH=x", "TRAINING.TEST_DATA_PATH", "[TESTING]"),
    ("TESTING.SEED=1", "TESTING.SEED", "the file has no section [TESTING]"),
    ("TEST_DATA_PATH=x", "TESTING.TEST_DATA_PATH", "the file has no section [TESTING]"),
    ("RESULTS_PATH=a\nb", "TRAINING.RESULTS_PATH", r"found 'a\nb'"),
    ("RESULTS_PATH=\udcff", "TRAINING.RESULTS_PATH", r"found '\udcff'"),
    ("EXPERIMENT_NAME=\udcff", "TRAINING.EXPERIMENT_NAME", r"found '\udcff'"),
    ("JUNCTION_HEADS=5", "TRAINING.JUNCTION_HEADS", "5 heads do not divide JUNCTION_DIM"),
]


@pytest.mark.parametrize(("override", "place", "said"), OVERRIDES, ids=range(len(OVERRIDES)))
def test_broken_overrides(tmp_path: Path, override: str, place: str, said: str) -> None:
    text = small_ini().split("\n\n")[0] + "\n"
    (problem,) = problems_of(tmp_path, text, [override])
    assert problem.file == "--set"
    assert f"{problem.section}.{problem.key}".strip(".") == place.strip(".")
    assert said in str(problem)
    assert str(problem).isprintable()


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", script, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def said_by(process: subprocess.CompletedProcess[str]) -> list[str]:
    lines = process.stderr.splitlines()
    return [line for line in lines if not line.startswith("import time:")]


def imports_torch(process: subprocess.CompletedProcess[str]) -> bool:
    imported = [line.rpartition("|")[2].strip() for line in process.stderr.splitlines()]
    assert "argparse" in imported
    return any(name.split(".")[0] in ("torch", "timm") for name in imported)


@pytest.mark.parametrize("script", ["run_training.py", "run_test.py"])
def test_scripts_say_config_errors_without_torch(tmp_path: Path, script: str) -> None:
    file = tmp_path / "broken.ini"
    file.write_text(small_ini({"TRAINING.LRR": "1", "TESTING.SEED": "x"}), encoding="utf-8")
    process = run(script, "--config", str(file), "--set", "N_PATCHES=7")
    assert process.returncode == 2
    places = [line.split(": ")[:2] for line in said_by(process)]
    assert places == [
        [str(file), "[TRAINING] LRR"],
        ["--set", "[TRAINING] N_PATCHES"],
        [str(file), "[TESTING] SEED"],
    ]
    assert process.stdout == ""
    assert not imports_torch(process)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "--config FILE"),
        (["--config", "nowhere.ini"], 2, "error: nowhere.ini: no such file"),
        (["--config", "configs"], 2, "error: configs: is a folder"),
        ([], 2, "required: --config"),
    ],
)
def test_help_and_wrong_calls_without_torch(arguments: list[str], code: int, said: str) -> None:
    process = run("run_training.py", *arguments)
    assert process.returncode == code
    assert said in process.stdout + "\n".join(said_by(process))
    assert "Traceback" not in process.stderr
    assert not imports_torch(process)


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
NAMES = sorted({"X"}.union(*map(keys_of, SCHEMAS)))
VALUE = st.one_of(
    TEXT,
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", ",", "1,", "nan", "1e400", "~x", "~", "a\n b", "\\", "(?P<", "True"]),
    st.lists(st.integers(-3, 99), max_size=4).map(lambda items: ", ".join(map(str, items))),
)
PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def assert_config_or_problems(folder: Path, text: str | bytes, *overrides: str) -> None:
    """Loads to a config that says itself again, or gives printable problems."""
    problems = problems_of(folder, text, overrides)
    assert all(str(problem).isprintable() for problem in problems)
    if not problems:
        config = load_text(folder, text, overrides)
        again = load_text(folder, ini_text(config))
        assert (again.training, again.testing) == (config.training, config.testing)


@PROPERTY
@given(content=st.binary(max_size=200))
def test_no_bytes_crash(tmp_path: Path, content: bytes) -> None:
    assert_config_or_problems(tmp_path, content)


LINE = st.one_of(
    TEXT,
    st.builds("{} {} {}".format, st.sampled_from(NAMES), st.sampled_from("=: "), VALUE),
    st.sampled_from(
        ["[DEFAULT]", "[TRAINING]", "[TESTING]", "[X]", "[]", " [TESTING]", "[TRAINING", "=", ":"]
    ),
)


@PROPERTY
@given(lines=st.lists(LINE, max_size=12))
def test_no_text_crashes(tmp_path: Path, lines: list[str]) -> None:
    assert_config_or_problems(tmp_path, "\n".join(lines))


@PROPERTY
@given(override=st.one_of(st.text(), st.builds("{}={}".format, st.sampled_from(NAMES), VALUE)))
def test_no_override_crashes(tmp_path: Path, override: str) -> None:
    assert_config_or_problems(tmp_path, small_ini(), override)


PLACES = sorted(f"{section}.{key}" for section in SCHEMAS for key in keys_of(section))


@PROPERTY
@given(changes=st.dictionaries(st.sampled_from(PLACES), VALUE | st.none(), max_size=4))
def test_no_changed_value_crashes(tmp_path: Path, changes: dict[str, str | None]) -> None:
    assert_config_or_problems(tmp_path, small_ini(changes))


MUTATION = st.tuples(
    st.integers(0, len(small_ini()) - 1), st.integers(0, 40),
    st.text(string.printable + "\x00\x85ſ²٣", max_size=5),
)  # fmt: skip


@PROPERTY
@given(mutations=st.lists(MUTATION, min_size=1, max_size=4))
def test_no_mutation_crashes(tmp_path: Path, mutations: list[tuple[int, int, str]]) -> None:
    text = small_ini()
    for start, length, put in mutations:
        text = text[:start] + put + text[start + length :]
    assert_config_or_problems(tmp_path, text)
