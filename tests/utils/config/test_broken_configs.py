"""Broken keys: each fault has its own line, that says where it is and what would do."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.config_helpers import problems_of, small_ini

Row = tuple[str, str | None, tuple[str, ...]]
REQUIRED = ("TRAIN_DATA_PATH", "VAL_DATA_PATH", "RESULTS_PATH", "MODEL_NAME")

# (SECTION.KEY, value or None to leave it out, what the message must say): one problem each.
VALUES: list[Row] = [
    # Numbers; the properties below try their ranges.
    ("TRAINING.SEED", "9" * 5000, ("a whole number from 0",)),
    ("TRAINING.SEED", "1 ; the answer", ("comments need their own line",)),
    ("TRAINING.SEED", "1\t# the answer", ("comments need their own line",)),
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
    ("TRAINING.MODEL_NAME", "test_vit ; small", ("comments need their own line",)),
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
    ("TESTING.CHECKPOINT_PATH", "a.pth, ", ("'a.pth,'", "list without duplicates")),
    ("TESTING.CHECKPOINT_PATH", "a.pth, b.pth, a.pth", ("list without duplicates",)),
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
    ("TESTING.PERCEPTUAL_METRIC_VAL", "L1tot", ("L1tot is for PERCEPTUAL_RESNET", "use cosine")),
    ("TRAINING.CRITERION_TRAIN", "PERCEPTUAL_VIT", ("'PERCEPTUAL_VIT'", "MS_SSIM")),
    ("TRAINING.CRITERION_TRAIN", "", ("''", "criteria")),
    ("TRAINING.CRITERION_TRAIN", "MSE,", ("'MSE,'", "criteria")),
    ("TRAINING.CRITERION_TRAIN", "MS_SSIM", ("above 160", "found 96")),
    ("TESTING.CRITERION_VAL", "MS_SSIM", ("above 160", "found 96")),
    # Lists.
    ("TRAINING.CRITERION_TRAIN_WEIGHTS", "1, 2", ("found 2 weights", "use 1")),
    ("TRAINING.CRITERION_TRAIN_WEIGHTS", "-1", ("'-1'", "0 or more")),
    ("TRAINING.CRITERION_TRAIN_WEIGHTS", "0", ("all weights are 0",)),
    ("TESTING.CRITERION_VAL_WEIGHTS", "inf", ("'inf'", "one per criterion")),
    ("TRAINING.USE_HIDDEN_STATE", "-2 -4", ("'-2 -4'", "comma-separated")),
    ("TRAINING.USE_HIDDEN_STATE", "-2, -4,", ("'-2, -4,'", "comma-separated")),
    ("TRAINING.USE_HIDDEN_STATE", "[-2, -4]", ("'[-2, -4]'", "comma-separated")),
    ("TRAINING.PERCEPTUAL_PATCH_SIZE_TRAIN", "16, 56", ("56 does not divide RESIZE = 96",)),
    ("TESTING.PERCEPTUAL_PATCH_SIZE_VAL", "128", ("128 does not divide RESIZE = 96",)),
    ("TRAINING.MODEL_NAME", "", ("''", "timm")),
    ("TRAINING.MODEL_NAME", ",test_vit", ("',test_vit'", "timm")),
    ("TRAINING.MODEL_NAME", "test_vit\n  N_PATCHES = 6", ("an indented line",)),
    ("TRAINING.MODEL_WEIGHTS", "hub, random", ("found 2 values", "use 1")),
    ("TRAINING.CACHE_DIR", "a, b, c", ("found 3 values", "use 1")),
    ("TRAINING.CACHE_DIR", "a\n  b", ("an indented line",)),
    ("TRAINING.CACHE_DIR", "~nobody-of-that-name/x", ("'~nobody-of-that-name/x'",)),
    ("TRAINING.CACHE_DIR", "cache # downloads", ("comments need their own line",)),
    ("TRAINING.PERCEPTUAL_MODEL_NAME", "", ("''", "a timm model tag")),
    ("TRAINING.PERCEPTUAL_WEIGHTS", "", ("''", "hub, random")),
    ("TRAINING.FINAL_PROJ_IN_FEATURES", "", ("is empty but FINAL_PROJ_OUT_FEATURES is not",)),
    ("TRAINING.FINAL_PROJ_IN_FEATURES", "64, 64", ("found 2 values", "use 1")),
    ("TRAINING.FINAL_PROJ_OUT_FEATURES", "64", ("found 64", "JUNCTION_DIM = 48")),
    ("TRAINING.PATCH_SIZE", "16, 16", ("found 2 values", "use 1")),
    ("TRAINING.N_REG_TOKENS", "0, 0", ("found 2 values", "use 1")),
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
    ("TESTING.INTENSITY_WINDOW", "-20,\n  80", ("an indented line continues",)),
    # Keys.
    ("TRAINING.SEDE", "1", ("unknown key", "SEED")),
    ("TRAINING.WEIGHT_DECAY", "1", ("unknown key; docs/config.md lists all keys",)),
    ("TRAINING.LEARNING_RATE", "1", ("unknown key; docs/config.md lists all keys",)),
    ("TRAINING.BATCH", "1", ("unknown key; docs/config.md lists all keys",)),
    ("TRAINING.JUNCTION_NQUERIES", "1", ("did you mean JUNCTION_N_QUERIES?",)),
    ("TESTING.IMAGE_REDUCTON", "max", ("did you mean IMAGE_REDUCTION?",)),
    ("DEFAULT.N_EPOCH", "1", ("did you mean N_EPOCHS?",)),
    ("DEFAULT.SCHEDULER_GAMMA", "x", ("'x'", "a number")),
    ("TESTING.LR", "1", ("belongs in [TRAINING]",)),
    ("TRAINING.CHECKPOINT_PATH", "a.pth", ("belongs in [TESTING]",)),
    ("TRAINING.IMAGE_REDUCTION", "max", ("belongs in [TESTING]",)),
    *((f"TRAINING.{key}", None, ("missing; set it to ",)) for key in REQUIRED),
    *(
        (f"TESTING.{key}", None, ("missing; set it to ",))
        for key in ("TEST_DATA_PATH", "RESULTS_PATH")
    ),
]


def assert_one_problem(folder: Path, text: str, place: str, said: tuple[str, ...]) -> None:
    (problem,) = problems_of(folder, text)
    assert problem.file == str(folder / "case.ini")
    assert f"{problem.section}.{problem.key}" == place
    line = str(problem)
    assert line.isprintable()
    for words in (problem.file, f"[{problem.section}]", problem.key, *said):
        assert words in line


@pytest.mark.parametrize(("place", "value", "said"), VALUES, ids=range(len(VALUES)))
def test_broken_values(tmp_path, place, value, said):
    assert_one_problem(tmp_path, small_ini({place: value}), place, said)


def test_a_checkpoint_must_be_named_where_there_is_no_training(tmp_path):
    text = small_ini({"TESTING.CHECKPOINT_PATH": None})
    assert problems_of(tmp_path, text) == []
    assert_one_problem(
        tmp_path,
        text[text.index("[TESTING]") :],
        "TESTING.CHECKPOINT_PATH",
        ("missing; set it to ",),
    )


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
