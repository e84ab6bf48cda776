"""Valid configs: the published form, the shipped files, [DEFAULT], overrides, resolved values."""

import re
from pathlib import Path

import pytest

from tests.config_helpers import TEST_CONFIGS, load_text, problems_of, small_ini
from utils.config.ini import read_ini
from utils.config.load import Config, ini_text, ini_values, load_config
from utils.config.schema import SectionConfig
from utils.errors import ConfigError
from utils.run_files import same_folder

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.ini"))

PUBLISHED = (TEST_CONFIGS / "published.ini").read_text("utf-8")
# What a data set changes: experiment, folder of the data, keys of both sections, of [TESTING].
DATA_SETS: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "brain": ("Brain_AD", "Brain", {}, {}),
    "chest": (
        "Chest_AD",
        "Chest",
        {"REDUCTION": "mean", "MULTI_HSTATE_REDUCTION": "max"},
        {"IMAGE_REDUCTION": "mean", "IMAGE_MULTI_HSTATE_REDUCTION": "max"},
    ),
    "liver": ("Liver_AD", "Liver_processed", {}, {"PERCEPTUAL_PATCH_SIZE_VAL": "8, 16"}),
    "resc": ("RESC_AD", "RESC", {}, {}),
    # No setting of their own is published.
    "oct2017": ("OCT2017_AD", "OCT2017", {}, {}),
    "camelyon16": ("Camelyon16_AD", "Camelyon16", {}, {}),
}


def differing(one: SectionConfig, other: SectionConfig) -> set[str]:
    was, now = ini_values(one), ini_values(other)
    return {key for key in was if was[key] != now[key]}


def test_the_published_form_parses_unchanged(tmp_path):
    config = load_text(tmp_path, PUBLISHED)
    for section, written in read_ini(tmp_path / "case.ini").sections.items():
        resolved = ini_values(getattr(config, f"need_{section.lower()}")())
        for key, text in written.items():
            as_path = Path(text) == Path(resolved[key])
            assert as_path or float(text) == float(resolved[key]), key


def test_values_of_the_published_form(tmp_path):
    config = load_text(tmp_path, PUBLISHED)
    training, testing = config.need_training(), config.need_testing()
    assert (training.device, testing.device) == ("cuda", "cuda:0")
    assert training.results_path == Path("results/Brain_AD")
    assert training.val_data_path == testing.test_data_path == Path("data/Brain/test")
    assert (training.model_ckpt_path, training.additional_block_dim) == (None, ())
    assert (training.use_hidden_state, training.final_proj_in_features) == ((-2, -4), (1024,))
    assert (training.perceptual_hstate_val, testing.image_reduction) == ((15, 19), "max")
    assert (training.lr, training.junction_mlp_ratio) == (8e-5, 4.0)
    assert training.save_model_ckpt is True


@pytest.mark.parametrize("name", DATA_SETS)
def test_shipped_configs_hold_the_published_values(tmp_path, name):
    config = load_config(CONFIGS[0].parent / f"{name}.ini")
    experiment, folder, of_both, of_testing = DATA_SETS[name]
    text = PUBLISHED.replace("Brain_AD", experiment).replace("data/Brain/", f"data/{folder}/")
    changes = [f"{key}={value}" for key, value in of_both.items()]
    changes += [f"TESTING.{key}={value}" for key, value in of_testing.items()]
    published = load_text(tmp_path, text, changes)
    training, testing = config.need_training(), config.need_testing()
    # Ours validate apart from the test set, test all of it, and run on any device.
    ours = {"VAL_DATA_PATH", "DEVICE", "OBJECT"}
    assert differing(training, published.need_training()) == ours
    assert differing(testing, published.need_testing()) == {"MAX_SAMPLES_TEST", "DEVICE"}
    assert training.val_data_path.parent == Path("data", folder)
    # Not the published code's precision: written out, not left to a default.
    assert "\nPRECISION = auto\n" in (CONFIGS[0].parent / f"{name}.ini").read_text("utf-8")


@pytest.mark.parametrize("name", DATA_SETS)
def test_shipped_configs_write_no_value_that_a_rule_gives(tmp_path, name):
    text = (CONFIGS[0].parent / f"{name}.ini").read_text("utf-8")
    resolved = ini_text(load_text(tmp_path, text))
    # What is computed in is said on purpose; the machine decides on workers.
    for line in re.findall(r"^(?!NUM_WORKERS|PRECISION)\w+ = .*\n", text, re.MULTILINE):
        shorter = text.replace(line, "", 1)
        if not problems_of(tmp_path, shorter):
            assert ini_text(load_text(tmp_path, shorter)) != resolved, line


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_shipped_config_loads_and_validates_apart_from_the_test_split(tmp_path, file):
    config = load_config(file)
    assert_round_trip(tmp_path, config)
    training, testing = config.need_training(), config.need_testing()
    assert not same_folder(training.val_data_path, testing.test_data_path)
    assert not same_folder(training.train_data_path, training.val_data_path)
    assert not same_folder(training.results_path, testing.results_path)
    assert training.max_samples_val == testing.max_samples_test == 999_999


def assert_round_trip(folder: Path, config: Config) -> None:
    again = load_text(folder, ini_text(config))
    assert (again.training, again.testing) == (config.training, config.testing)
    assert ini_text(again) == ini_text(config)


def test_round_trip_of_every_kind_of_value(tmp_path):
    changes: dict[str, str | None] = {
        "TRAINING.RESULTS_PATH": "Ergebnisse/50%; # a=b: [x]",
        "TRAINING.MODEL_CKPT_PATH": "a b.pth",
        "TRAINING.SAVE_MODEL_CKPT": "no",
        "TRAINING.LR": "1e-300",
        "TRAINING.CRITERION_TRAIN": "MSE, SSIM",
        "TRAINING.CRITERION_TRAIN_WEIGHTS": "0.1, 3",
        "TRAINING.EXPERIMENT_NAME": "",
        "TESTING.PATIENT_PATTERN": r"^(\w+)_%d;\s#[=:]",
        "TESTING.PIXEL_REDUCTION": "",
        "TESTING.THRESHOLD_QUANTILE": "0.1234567890123456",
    }
    config = load_text(tmp_path, small_ini(changes))
    assert config.need_training().results_path == Path("Ergebnisse/50%; # a=b: [x]")
    assert config.need_testing().patient_pattern == r"^(\w+)_%d;\s#[=:]"
    assert_round_trip(tmp_path, config)


@pytest.mark.parametrize("section", ["TRAINING", "TESTING"])
def test_a_file_may_hold_one_section(tmp_path, section):
    other = {"TRAINING": "TESTING", "TESTING": "TRAINING"}[section]
    # Sections stand one after the other, each from its header to an empty line.
    text = next(part for part in small_ini().split("\n\n") if part.startswith(f"[{section}]"))
    config = load_text(tmp_path, text)
    assert_round_trip(tmp_path, config)
    need = {"TRAINING": config.need_training, "TESTING": config.need_testing}
    assert need[section]()
    with pytest.raises(ConfigError, match=rf"\[{other}\] missing; add a section \[{other}\]"):
        need[other]()


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_byte_order_mark_and_indented_lines(tmp_path, ends, mark):
    text = "# ä\n" + small_ini({"TRAINING.USE_HIDDEN_STATE": "-2,\n  -4", "TESTING.SEED": "2"})
    text = text.replace("N_EPOCHS = 2", "n_epochs\t:\t3\t").replace("\n", ends)
    config = load_text(tmp_path, mark + text.encode())
    training, testing = config.need_training(), config.need_testing()
    assert (training.seed, testing.seed, training.n_epochs) == (1, 2, 3)
    assert training.use_hidden_state == (-2, -4)


def test_default_is_shared_and_overridden_by_sections(tmp_path):
    changes: dict[str, str | None] = {
        "DEFAULT.SEED": "7",
        # Only [TRAINING] knows these two.
        "DEFAULT.LR": "1e-3",
        "DEFAULT.N_EPOCHS": "9",
        "DEFAULT.REDUCTION": "pixelwise_mean_max",
        "TRAINING.SEED": None,
        "TESTING.SEED": "8",
        "TRAINING.N_EPOCHS": "3",
    }
    config = load_text(tmp_path, small_ini(changes))
    training, testing = config.need_training(), config.need_testing()
    assert (training.seed, testing.seed) == (7, 8)
    assert (training.lr, training.n_epochs) == (1e-3, 3)
    assert training.reduction == testing.reduction == "pixelwise_mean_max"


def test_defaults_are_the_published_behaviour(tmp_path):
    left_out = ("RESIZE", "N_PATCHES", "DECODER_N_PATCHES", "JUNCTION_N_QUERIES", "MODEL_WEIGHTS",
                "PERCEPTUAL_MODEL_NAME", "PERCEPTUAL_WEIGHTS", "PERCEPTUAL_PATCH_SIZE_TRAIN",
                "PERCEPTUAL_HSTATE_TRAIN", "PERCEPTUAL_HSTATE_VAL")  # fmt: skip
    changes: dict[str, str | None] = {"TRAINING.PERCEPTUAL_PATCH_SIZE_VAL": "16"}
    config = load_text(tmp_path, small_ini(changes | {f"TRAINING.{key}": None for key in left_out}))
    training, testing = config.need_training(), config.need_testing()
    assert training.perceptual_model_name == "vit_large_patch16_224.mae"
    assert training.perceptual_hstate_train == (15, 19)
    assert training.perceptual_patch_size_train == (32, 56)
    assert (training.model_weights, training.perceptual_weights) == (("hub",), "hub")
    assert (training.precision, training.checkpoint_content) == ("auto", "trained")
    # The last fall-back of the reductions: mean over space, max over hidden states.
    assert (testing.reduction, testing.multi_hstate_reduction) == ("mean", "max")
    assert testing.image_reduction is None
    assert testing.pixel_multi_hstate_reduction is None


ACCEPTED = [
    *(("SAVE_MODEL_CKPT", text, False) for text in ("False", "no", "OFF", "0")),
    *(("SAVE_MODEL_CKPT", text, True) for text in ("Yes", "on", "TRUE")),
    ("PRECISION", "BF16", "bf16"), ("CHECKPOINT_CONTENT", "Full", "full"),
    ("DEVICE", "cuda:3", "cuda:3"), ("DEVICE", "CPU", "cpu"), ("DEVICE", "Cuda:1", "cuda:1"),
    ("OBJECT", "anything", "anything"),
    ("JUNCTION_MLP_RATIO", "2.5", 2.5), ("SCHEDULER_GAMMA", "0.", 0.0),
    ("USE_HIDDEN_STATE", "-1", (-1,)), ("USE_HIDDEN_STATE", "3,0 ,\t-2", (3, 0, -2)),
    ("USE_HIDDEN_STATE", "-2,\n\t-4", (-2, -4)), ("RESULTS_PATH", "~/x", Path.home() / "x"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text", "value"), ACCEPTED)
def test_values_that_must_work(tmp_path, key, text, value):
    config = load_text(tmp_path, small_ini({f"TRAINING.{key}": text}))
    assert getattr(config.need_training(), key.lower()) == value


def test_overrides_reach_every_section_that_knows_the_key(tmp_path):
    overrides = ["seed=3", "N_EPOCHS = 5", "TESTING.BATCH_SIZE_TEST=2", "training.device=cuda:1"]
    config = load_text(tmp_path, small_ini(), [*overrides, "EXPERIMENT_NAME=a=b", "SEED=4"])
    training, testing = config.need_training(), config.need_testing()
    assert (training.seed, testing.seed) == (4, 4)
    assert training.n_epochs == 5
    assert (training.batch_size_test, testing.batch_size_test) == (64, 2)
    assert (training.device, testing.device) == ("cuda:1", "cpu")
    assert training.experiment_name == testing.experiment_name == "a=b"


def test_an_override_beats_default_repairs_a_broken_value_and_may_empty_a_key(tmp_path):
    changes = {"DEFAULT.SEED": "x", "TRAINING.SEED": None, "TESTING.SEED": None}
    text = small_ini(changes | {"TRAINING.MODEL_CKPT_PATH": "a.pth"})
    assert len(problems_of(tmp_path, text)) == 1
    config = load_text(tmp_path, text, ["SEED=3", "MODEL_CKPT_PATH="])
    assert (config.need_training().seed, config.need_testing().seed) == (3, 3)
    assert config.need_training().model_ckpt_path is None


def test_every_key_is_in_the_resolved_text(tmp_path):
    config = load_text(tmp_path, small_ini())
    resolved = ini_values(config.need_testing())
    assert resolved["IMAGE_REDUCTION"] == ""
    assert resolved["THRESHOLD_QUANTILE"] == "0.95"
    assert set(resolved) == {name.upper() for name in type(config.need_testing()).model_fields}
