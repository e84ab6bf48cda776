"""Keys that a file leaves out: published ratios for any backbone, and never a contradiction."""

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import config_helpers
from tests.config_helpers import load_text, problems_of
from utils.config.load import Config, ini_text

SHORT = config_helpers.SHORT.replace("test_vit", "vit_small_patch14_reg4_dinov2.lvd142m")


def short(folder: Path, *changes: str) -> Config:
    return load_text(folder, SHORT, changes)


# Tag → patch size, registers, hidden states; widths of encoder, Q-Former and decoder; heads of
# the two; blocks of the decoder.
BACKBONES = {
    "vit_small_patch14_reg4_dinov2.lvd142m": (14, 4, (-1, -2), 384, 288, 3, 4, 3),
    "vit_base_patch14_reg4_dinov2.lvd142m": (14, 4, (-1, -2), 768, 576, 6, 9, 3),
    "vit_large_patch14_reg4_dinov2.lvd142m": (14, 4, (-2, -4), 1024, 768, 8, 12, 6),
    "vit_base_patch16_224.dino": (16, 0, (-1, -2), 768, 576, 6, 9, 3),
    "vit_large_patch16_224.mae": (16, 0, (-2, -4), 1024, 768, 8, 12, 6),
    "vit_small_patch16_dinov3.lvd1689m": (16, 4, (-1, -2), 384, 288, 3, 4, 3),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_decides(tmp_path, name):
    patch, registers, states, width, dim, junction_heads, decoder_heads, depth = BACKBONES[name]
    expected = {
        "resize": 224, "patch_size": (patch,), "n_patches": (224 // patch,),
        "n_reg_tokens": (registers,), "use_hidden_state": states,
        "final_proj_in_features": (width,), "final_proj_out_features": (dim,),
        "junction_dim": dim, "junction_output_dim": dim, "decoder_dim": dim,
        "junction_heads": junction_heads, "decoder_num_heads": decoder_heads,
        "junction_n_queries": 784, "decoder_n_patches": 28, "decoder_patch_size": 8,
        "decoder_depth": depth,
    }  # fmt: skip
    config = short(tmp_path, f"MODEL_NAME={name}")
    for section in (config.need_training(), config.need_testing()):
        assert {key: getattr(section, key) for key in expected} == expected


def test_the_baseline_looks_at_the_blocks_of_the_model(tmp_path: Path) -> None:
    assert short(tmp_path).need_testing().baseline_hstate == (-1, -2)
    written = short(tmp_path, "USE_HIDDEN_STATE=-3, 4").need_testing()
    assert (written.baseline, written.baseline_size) == ("none", 12_000)
    assert written.baseline_hstate == (-3, 4)
    apart = short(tmp_path, "BASELINE_HSTATE=2", "BASELINE=NEAREST_NEIGHBOUR").need_testing()
    assert (apart.baseline, apart.baseline_hstate) == ("nearest_neighbour", (2,))


def test_the_run_is_derived_from_the_file_and_its_training(tmp_path: Path) -> None:
    config = short(tmp_path)
    training, testing = config.need_training(), config.need_testing()
    assert training.experiment_name == testing.experiment_name == "case"
    assert 1 <= training.num_workers <= 8
    assert (training.device, training.n_epochs) == ("auto", 300)
    assert testing.checkpoint_path == Path("results/mine/checkpoints/last_ckpt.pth")
    moved = short(tmp_path, "TRAINING.RESULTS_PATH=elsewhere").need_testing()
    assert moved.checkpoint_path == Path("elsewhere/checkpoints/last_ckpt.pth")


@pytest.mark.parametrize(
    ("changes", "training", "testing"),
    [
        ([], (15, 19), (11, 15, 19)),
        (["PERCEPTUAL_MODEL_NAME=vit_base_patch16_224.mae"], (7, 9), (5, 7, 9)),
        (["CRITERION_TRAIN=PERCEPTUAL_RESNET18"], (1, 2, 3), (11, 15, 19)),
        (["CRITERION_TRAIN=MSE", "PERCEPTUAL_MODEL_NAME=test_vit"], (15, 19), (2, 3, 4)),
    ],
)
def test_blocks_of_the_perceptual_network(tmp_path, changes, training, testing):
    config = short(tmp_path, *changes)
    assert config.need_training().perceptual_hstate_train == training
    assert config.need_testing().perceptual_hstate_val == testing


@pytest.mark.parametrize(
    ("resize", "training", "testing", "batch"),
    [
        (224, (32, 56), (16, 32, 56), 64),
        (448, (64, 112), (32, 64, 112), 16),
        (256, (32, 64), (16, 32, 64), 32),
        (64, (8, 16), (4, 8, 16), 64),
    ],
)
def test_the_size_of_images_decides(tmp_path, resize, training, testing, batch):
    config = short(tmp_path, f"RESIZE={resize}")
    assert config.need_training().perceptual_patch_size_train == training
    assert config.need_training().perceptual_patch_size_val == training
    assert config.need_testing().perceptual_patch_size_val == testing
    assert config.need_training().batch_size_train == config.need_testing().batch_size_test == batch
    assert config.need_training().lr == pytest.approx(8e-5 * math.sqrt(batch / 64), rel=0.02)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["PATCH_SIZE=10"], {"resize": 220, "n_patches": (22,)}),
        (["RESIZE=256"], {"patch_size": (16,), "n_patches": (16,), "decoder_n_patches": 32}),
        (["N_PATCHES=32"], {"patch_size": (7,), "resize": 224}),
        (["DECODER_N_PATCHES=14"], {"decoder_patch_size": 16, "junction_n_queries": 196}),
        (["JUNCTION_DIM=384"], {"final_proj_in_features": (), "final_proj_out_features": ()}),
        (["FINAL_PROJ_IN_FEATURES="], {"junction_dim": 384, "final_proj_out_features": ()}),
        (["FINAL_PROJ_OUT_FEATURES=192"], {"junction_dim": 192, "final_proj_in_features": (384,)}),
        (["ACCUMULATE=4"], {"lr": 1.6e-4}),
        (["BATCH_SIZE_TRAIN=16"], {"lr": 4e-5}),
        (["MODEL_NAME=test_vit, vit_tiny_patch16_224"],
         {"junction_dim": 144, "junction_heads": 2, "patch_size": (16, 16),
          "final_proj_in_features": (64, 192)}),
    ],
)  # fmt: skip
def test_other_keys_decide(tmp_path, changes, expected):
    training = short(tmp_path, *changes).need_training()
    assert {name: getattr(training, name) for name in expected} == expected


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.sampled_from(["test_vit", "test_vit2", "test_vit3", "vit_tiny_patch16_224"]),
        min_size=1,
        max_size=2,
    ),
    resize=st.sampled_from([None, 32, 48, 96, 100, 196, 224, 250, 518]),
    others=st.dictionaries(
        st.sampled_from(["JUNCTION_DIM", "DECODER_DIM", "FINAL_PROJ_OUT_FEATURES"]),
        st.integers(1, 40).map(lambda number: 4 * number),
        max_size=1,
    ),
)
def test_what_is_derived_contradicts_nothing(tmp_path, names, resize, others):
    changes = [f"MODEL_NAME={', '.join(names)}", "PERCEPTUAL_MODEL_NAME=test_vit"]
    changes += [f"RESIZE={resize}"] if resize else []
    changes += [f"{key}={value}" for key, value in others.items()]
    assert problems_of(tmp_path, SHORT, changes) == []
    config = short(tmp_path, *changes)
    again = load_text(tmp_path, ini_text(config))
    assert (again.training, again.testing) == (config.training, config.testing)


def test_one_fault_is_told_once_however_much_depends_on_it(tmp_path):
    for change, key in (("MODEL_NAME=vit_smal_patch14", "MODEL_NAME"), ("RESIZE=x", "RESIZE")):
        problems = problems_of(tmp_path, SHORT, [change])
        assert {problem.key for problem in problems} == {key}
    problems = problems_of(tmp_path, SHORT, ["PERCEPTUAL_MODEL_NAME=nonsense"])
    assert {problem.key for problem in problems} == {"PERCEPTUAL_MODEL_NAME"}
