"""Configs that contradict their backbones: said before any weight is read, all at once."""

from pathlib import Path

import pytest
import safetensors.torch
import timm.models._builder
import torch

from tests.config_helpers import THREE_ENCODERS, problems_of, small_ini
from utils.errors import Problem

Changes = dict[str, str | None]


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """No test here may read a weight, from a file or from the hub."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("weights were read")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(safetensors.torch, "load_file", refuse)
    monkeypatch.setattr(timm.models._builder, "load_pretrained", refuse)


def geometry_problems(folder: Path, changes: Changes) -> list[Problem]:
    return problems_of(folder, small_ini({f"TRAINING.{key}": changes[key] for key in changes}))


# Models of 224 pixels and a width that the projection takes.
def at_224(model: str, width: int, patch_size: int, registers: int) -> Changes:
    return {
        "RESIZE": "224", "MODEL_NAME": model, "PATCH_SIZE": str(patch_size),
        "N_PATCHES": str(224 // patch_size), "N_REG_TOKENS": str(registers),
        "FINAL_PROJ_IN_FEATURES": str(width), "DECODER_N_PATCHES": "28",
        "JUNCTION_N_QUERIES": "784",
    }  # fmt: skip


FITTING: dict[str, Changes] = {
    "small": {},
    "dino": at_224("vit_small_patch8_224.dino", 384, 8, 0),
    "dino at another patch size": at_224("vit_small_patch16_224.dino", 384, 14, 0),
    "dinov2": at_224("vit_small_patch14_dinov2.lvd142m", 384, 14, 0),
    "dinov2 with registers": at_224("vit_small_patch14_reg4_dinov2.lvd142m", 384, 14, 4),
    "dinov3": at_224("vit_small_patch16_dinov3.lvd1689m", 384, 16, 4),
    "mae": at_224("vit_base_patch16_224.mae", 768, 16, 0),
    "clip": at_224("vit_base_patch16_clip_224.openai", 768, 16, 0),
    "siglip, which has no class token": at_224("vit_base_patch16_siglip_224", 768, 16, 0),
    "supervised": at_224("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 192, 16, 0),
    "three encoders": THREE_ENCODERS,
    "an additional block": {"ADDITIONAL_BLOCK_DIM": "64", "ADDITIONAL_BLOCK_NUM_HEADS": "4",
                            "ADDITIONAL_BLOCK_MLP_RATIO": "2"},
    "no projection": {"FINAL_PROJ_IN_FEATURES": "", "FINAL_PROJ_OUT_FEATURES": "",
                      "JUNCTION_DIM": "64"},
    # The embedding loss looks at the last block only: these numbers are of no account.
    "an embedding loss": {"CRITERION_TRAIN": "EMBED_MSE", "PERCEPTUAL_HSTATE_TRAIN": "15, 19"},
    "no perceptual criterion": {"CRITERION_TRAIN": "MSE", "CRITERION_VAL": "SSIM",
                                "PERCEPTUAL_MODEL_NAME": "nonsense",
                                "PERCEPTUAL_HSTATE_TRAIN": "99"},
    "one ResNet from a file": {"CRITERION_TRAIN": "PERCEPTUAL_RESNET18",
                               "CRITERION_VAL": "PERCEPTUAL_RESNET18",
                               "PERCEPTUAL_WEIGHTS": "resnet18.pth"},
}  # fmt: skip


@pytest.mark.parametrize("changes", FITTING.values(), ids=FITTING)
def test_fitting_backbones(tmp_path, changes):
    assert geometry_problems(tmp_path, changes) == []


# Changes, the key that is named, and what its line must say.
BLOCK = {"ADDITIONAL_BLOCK_NUM_HEADS": "4", "ADDITIONAL_BLOCK_MLP_RATIO": "4"}
RESNET = {"CRITERION_TRAIN": "PERCEPTUAL_RESNET18", "PERCEPTUAL_WEIGHTS": "a.pth"}
CONTRADICTING: dict[str, tuple[Changes, str, tuple[str, ...]]] = {
    "a typo": ({"MODEL_NAME": "tset_vit"}, "MODEL_NAME", ("no model 'tset_vit'", "test_vit")),
    "a typo in a long name": (
        at_224("vit_larg_patch14_reg4_dinov2.lvd142m", 1024, 14, 4),
        "MODEL_NAME", ("did you mean ", "vit_large_patch14_reg4_dinov2")),
    "a wrong tag": (at_224("vit_small_patch16_224.dinoo", 384, 16, 0),
                    "MODEL_NAME", ("dinoo", "vit_small_patch16_224.dino")),
    "a Hugging Face name": ({"MODEL_NAME": "facebook/dinov2-large"},
                            "MODEL_NAME", ("no model 'facebook/dinov2-large'",)),
    "a CNN": ({"MODEL_NAME": "resnet18"}, "MODEL_NAME", ("resnet18", "not a plain vision")),
    "a hierarchical ViT": ({"MODEL_NAME": "swin_tiny_patch4_window7_224"},
                           "MODEL_NAME", ("swin_tiny", "not a plain vision")),
    # Its module does not even have the attributes that tell the geometry.
    "a ViT of another build": ({"MODEL_NAME": "xcit_nano_12_p8_224"}, "MODEL_NAME", ("xcit",)),
    "a patch size that it refuses": ({"MODEL_NAME": "vit_tiny_r_s16_p8_224"},
                                     "MODEL_NAME", ("vit_tiny_r_s16_p8_224", "'patch_size': 16")),
    "a positive block": ({"USE_HIDDEN_STATE": "6"}, "USE_HIDDEN_STATE", ("no block 6", "-6 to 5")),
    "a negative block": ({"USE_HIDDEN_STATE": "-1, -7"},
                         "USE_HIDDEN_STATE", ("test_vit has no block -7", "-6 to 5")),
    "registers where there are none": ({"N_REG_TOKENS": "4"}, "N_REG_TOKENS", ("use 0",)),
    "no registers where there are four": (
        at_224("vit_small_patch14_reg4_dinov2.lvd142m", 384, 14, 0),
        "N_REG_TOKENS", ("found 0", "5 prefix tokens", "use 4")),
    "DINOv3 without its registers": (at_224("vit_small_patch16_dinov3.lvd1689m", 384, 16, 0),
                                     "N_REG_TOKENS", ("use 4",)),
    "the projection's width": ({"FINAL_PROJ_IN_FEATURES": "1024"}, "FINAL_PROJ_IN_FEATURES",
                               ("found 1024", "must be 64, the width of test_vit")),
    "no projection": ({"FINAL_PROJ_IN_FEATURES": "", "FINAL_PROJ_OUT_FEATURES": ""},
                      "JUNCTION_DIM", ("found 48", "width 64", "FINAL_PROJ_* is empty")),
    "the additional block's width": (BLOCK | {"ADDITIONAL_BLOCK_DIM": "48"},
                                     "ADDITIONAL_BLOCK_DIM", ("found 48", "must be 64, the width")),
    "the perceptual model's name": ({"PERCEPTUAL_MODEL_NAME": "vit_lage_patch16_224.mae"},
                                    "PERCEPTUAL_MODEL_NAME", ("vit_large_patch16_224",)),
    "a perceptual CNN": ({"PERCEPTUAL_MODEL_NAME": "resnet50"}, "PERCEPTUAL_MODEL_NAME", ()),
    "a perceptual model whose blocks know the number of patches": (
        {"PERCEPTUAL_MODEL_NAME": "beit_base_patch16_224"},
        "PERCEPTUAL_MODEL_NAME", ("depend on the number of patches",)),
    "the perceptual model's blocks": ({"PERCEPTUAL_HSTATE_VAL": "1, 19"},
                                      "PERCEPTUAL_HSTATE_VAL", ("no block 19", "-6 to 5")),
    "a stage that a ResNet lacks": (
        {"CRITERION_VAL": "PERCEPTUAL_RESNET18", "PERCEPTUAL_HSTATE_VAL": "1, 5"},
        "PERCEPTUAL_HSTATE_VAL", ("PERCEPTUAL_RESNET18 has no stage 5; use numbers from -5 to 4",)),
    "the training criterion's blocks": (
        {"CRITERION_TRAIN": "PERCEPTUAL_VIT_mae", "PERCEPTUAL_HSTATE_TRAIN": "-7"},
        "PERCEPTUAL_HSTATE_TRAIN", ("no block -7",)),
    "one file for two ResNets": (
        RESNET | {"CRITERION_TRAIN": "PERCEPTUAL_RESNET18, PERCEPTUAL_RESNET34",
                  "CRITERION_TRAIN_WEIGHTS": "1, 1", "CRITERION_VAL": "MSE"},
        "PERCEPTUAL_WEIGHTS", ("'a.pth'", "PERCEPTUAL_RESNET18 and PERCEPTUAL_RESNET34")),
    "one file for training's ResNet and validation's ViT": (
        RESNET, "PERCEPTUAL_WEIGHTS", ("test_vit and PERCEPTUAL_RESNET18", "hub")),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "key", "said"), CONTRADICTING.values(), ids=CONTRADICTING)
def test_contradicting_backbones(tmp_path, changes, key, said):
    (problem,) = geometry_problems(tmp_path, changes)
    assert (problem.section, problem.key) == ("TRAINING", key)
    assert str(problem).isprintable()
    for words in said:
        assert words in problem.text


def test_all_contradictions_at_once(tmp_path):
    changes: Changes = {
        "MODEL_NAME": "nonsense, test_vit, test_vit2", "PATCH_SIZE": "16, 16, 16",
        "N_PATCHES": "6, 6, 6", "N_REG_TOKENS": "0, 1, 0", "ADDITIONAL_BLOCK_DIM": "64, 48, 64",
        "ADDITIONAL_BLOCK_NUM_HEADS": "4, 4, 4", "ADDITIONAL_BLOCK_MLP_RATIO": "4, 4, 4",
        "FINAL_PROJ_IN_FEATURES": "64, 48, 32", "FINAL_PROJ_OUT_FEATURES": "48, 48, 48",
        # The second one has six blocks, the third one eight.
        "USE_HIDDEN_STATE": "-1, -8", "PERCEPTUAL_HSTATE_TRAIN": "6",
        "PERCEPTUAL_HSTATE_VAL": "7, -7",
    }  # fmt: skip
    problems = geometry_problems(tmp_path, changes)
    assert [problem.key for problem in problems] == [
        *("MODEL_NAME", "N_REG_TOKENS", "USE_HIDDEN_STATE", "ADDITIONAL_BLOCK_DIM"),
        *["FINAL_PROJ_IN_FEATURES"] * 2,
        *("PERCEPTUAL_HSTATE_TRAIN", "PERCEPTUAL_HSTATE_VAL", "PERCEPTUAL_HSTATE_VAL"),
    ]
    assert len(set(problems)) == len(problems)
