"""The schema of the INI keys: names, types, ranges and defaults, each in one place.

A field's name is its INI key in lower case, its description says what a value must be: error
messages quote it. Defaults reproduce the published behaviour (SPEC of the published configs);
fields without one are required.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Item = TypeVar("Item")


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return ()
    return tuple(part.strip() for part in value.split(","))


def _boolean(value: Any) -> Any:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    # bool("False") is True: an unknown word must not pass for a truth value.
    return words.get(value.strip().lower(), value) if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _not_empty(value: tuple[Item, ...]) -> tuple[Item, ...]:
    if not value or "" in value:
        raise ValueError("empty")
    return value


def _path(value: Any) -> Any:
    if isinstance(value, str):
        if not value.strip() or "\0" in value:
            raise ValueError("empty")
        return Path(value).expanduser()
    return value


def _optional(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _auto_or_int(value: Any) -> Any:
    return "auto" if isinstance(value, str) and value.strip().lower() == "auto" else value


def _pattern(value: str | None) -> str | None:
    if value is not None:
        re.compile(value)
    return value


Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Flag = Annotated[bool, BeforeValidator(_boolean)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Text = Annotated[str, Field(min_length=1)]
List = BeforeValidator(_split)
Filled = AfterValidator(_not_empty)
Names = Annotated[tuple[Text, ...], List, Filled]
Counts = Annotated[tuple[Count, ...], List, Filled]
OptionalCounts = Annotated[tuple[Count, ...], List]
Ratios = Annotated[tuple[Annotated[float, Field(gt=0, lt=64)], ...], List]

Metric = Literal["cosine", "L2", "L1", "L2tot", "cosinetot", "content+style"]
CriterionName = Literal[
    "PERCEPTUAL_VIT_mae_multi",
    "PERCEPTUAL_VIT_mae",
    "PERCEPTUAL_RESNET18",
    "PERCEPTUAL_RESNET34",
    "PERCEPTUAL_RESNET101",
    "EMBED_MSE",
    "MSE",
    "MAE",
    "SSIM",
    "MS_SSIM",
    "COSSIM",
]
Criteria = Annotated[tuple[CriterionName, ...], List, Filled]
Weights = Annotated[tuple[Annotated[float, Field(ge=0, lt=1e9)], ...], List, Filled]
HiddenStates = Annotated[tuple[int, ...], List, Filled]
Reduction = Literal["mean", "max", "pixelwise_mean_max", "pixelwise_max_mean", "downsample_8x8"]
MultiReduction = Literal["mean", "max"]

_CRITERIA = "a comma-separated list of criteria: " + ", ".join(get_args(CriterionName))
_REDUCTION = "one of " + ", ".join(get_args(Reduction))
_METRIC = "one of " + ", ".join(get_args(Metric))
_COUNTS = "a comma-separated list of whole numbers from 1, one for each encoder"
_COUNT = "a whole number from 1"
_FOLDER = "the path of a folder"
_WEIGHTS = "hub, random, or the path of a .safetensors or .pth file in timm's names"
_STATES = "a comma-separated list of block numbers, counted from 0 or, negative, from the end"


class SectionConfig(BaseModel):
    """The keys that both sections share."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    seed: int = Field(42, ge=0, lt=2**31, description="a whole number from 0")
    experiment_name: str = Field("QFAE", description="a name")
    results_path: FilePath = Field(description="the path of the folder that results go to")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, cuda, cuda:N or mps",
    )
    num_workers: int = Field(4, ge=0, le=512, description="a whole number from 0")
    precision: Annotated[Literal["auto", "fp32", "tf32", "bf16"], BeforeValidator(_lower)] = Field(
        "auto", description="auto, fp32, tf32 or bf16"
    )

    model_name: Names = Field(description="a comma-separated list of timm model tags")
    model_weights: Names = Field(("hub",), description=_WEIGHTS)
    cache_dir: Names = Field(("./cache",), description=_FOLDER)
    n_patches: Counts = Field(description=_COUNTS)
    patch_size: Counts = Field(description=_COUNTS)
    n_reg_tokens: Annotated[tuple[CountOrZero, ...], List, Filled] = Field(
        description="a comma-separated list of whole numbers from 0, one for each encoder"
    )
    additional_block_dim: OptionalCounts = Field((), description=f"empty, or {_COUNTS}")
    additional_block_num_heads: OptionalCounts = Field((), description=f"empty, or {_COUNTS}")
    additional_block_mlp_ratio: Ratios = Field((), description="empty, or numbers above 0")
    final_proj_in_features: OptionalCounts = Field((), description=f"empty, or {_COUNTS}")
    final_proj_out_features: OptionalCounts = Field((), description=f"empty, or {_COUNTS}")
    use_hidden_state: HiddenStates = Field(description=_STATES)

    junction_n_blocks: Count = Field(1, description=_COUNT)
    junction_dim: Count = Field(description=_COUNT)
    junction_output_dim: Count = Field(description=_COUNT)
    junction_n_queries: Count = Field(description=_COUNT)
    junction_heads: Count = Field(description=_COUNT)
    junction_mlp_ratio: float = Field(4.0, gt=0, lt=64, description="a number above 0")
    decoder_dim: Count = Field(description=_COUNT)
    decoder_n_patches: Count = Field(description=_COUNT)
    decoder_patch_size: Count = Field(description=_COUNT)
    decoder_n_reg_tokens: CountOrZero = Field(4, description="a whole number from 0")
    decoder_depth: Count = Field(description=_COUNT)
    decoder_num_heads: Count = Field(description=_COUNT)
    decoder_mlp_ratio: float = Field(4.0, gt=0, lt=64, description="a number above 0")
    decoder_out_channels: Annotated[Literal[1, 3], BeforeValidator(int)] = Field(
        3, description="1 or 3"
    )

    criterion_val: Criteria = Field(("PERCEPTUAL_VIT_mae_multi",), description=_CRITERIA)
    criterion_val_weights: Weights = Field((1.0,), description="numbers, one for each criterion")
    perceptual_metric_val: Metric = Field("cosine", description=_METRIC)
    perceptual_hstate_val: HiddenStates = Field((11, 15, 19), description=_STATES)
    perceptual_patch_size_val: Counts = Field(
        (16, 32, 56), description="a comma-separated list of whole numbers from 1"
    )
    perceptual_model_name: Text = Field("vit_large_patch16_224.mae", description="a timm model tag")
    perceptual_weights: Text = Field("hub", description=_WEIGHTS)
    reduction: Reduction = Field("mean", description=_REDUCTION)
    multi_hstate_reduction: MultiReduction = Field("max", description="mean or max")

    resize: int = Field(224, ge=8, le=4096, description="a whole number from 8 to 4096")
    batch_size_test: Count = Field(64, description=_COUNT)

    object: str = Field("", description="anything: the key is ignored")


class TrainingConfig(SectionConfig):
    """The section [TRAINING]."""

    train_data_path: FilePath = Field(description=_FOLDER)
    val_data_path: FilePath = Field(description=_FOLDER)
    model_ckpt_path: Annotated[FilePath | None, BeforeValidator(_optional)] = Field(
        None, description="empty, or the path of a checkpoint to start from"
    )
    eval_stepsize: Count = Field(10, description=_COUNT)
    save_model_ckpt: Flag = Field(True, description="0 or 1")
    checkpoint_content: Annotated[Literal["trained", "full"], BeforeValidator(_lower)] = Field(
        "trained", description="trained or full"
    )
    max_samples_train: Count = Field(999_999, description=_COUNT)
    max_samples_val: Count = Field(999_999, description=_COUNT)
    criterion_train: Criteria = Field(("PERCEPTUAL_VIT_mae_multi",), description=_CRITERIA)
    criterion_train_weights: Weights = Field((1.0,), description="numbers, one for each criterion")
    perceptual_metric_train: Metric = Field("cosine", description=_METRIC)
    perceptual_hstate_train: HiddenStates = Field((15, 19), description=_STATES)
    perceptual_patch_size_train: Counts = Field(
        (16, 32, 56), description="a comma-separated list of whole numbers from 1"
    )
    batch_size_train: Count = Field(64, description=_COUNT)
    lr: float = Field(8e-5, gt=0, lt=10, description="a number above 0, such as 8e-5")
    scheduler_steps: float = Field(9999, description="a number: the key is read and unused")
    scheduler_gamma: float = Field(0.0, description="a number: the key is read and unused")
    n_epochs: Count = Field(300, description=_COUNT)


class TestingConfig(SectionConfig):
    """The section [TESTING]."""

    __test__ = False

    checkpoint_path: FilePath = Field(description="the path of a checkpoint")
    test_data_path: FilePath = Field(description=_FOLDER)
    max_samples_test: Count = Field(999_999, description=_COUNT)
    image_reduction: Annotated[Reduction | None, BeforeValidator(_optional)] = Field(
        None, description=f"empty, or {_REDUCTION}"
    )
    image_multi_hstate_reduction: Annotated[MultiReduction | None, BeforeValidator(_optional)] = (
        Field(None, description="empty, mean or max")
    )
    pixel_reduction: Annotated[Reduction | None, BeforeValidator(_optional)] = Field(
        None, description=f"empty, or {_REDUCTION}"
    )
    pixel_multi_hstate_reduction: Annotated[MultiReduction | None, BeforeValidator(_optional)] = (
        Field(None, description="empty, mean or max")
    )
    threshold_quantile: float = Field(0.95, gt=0, lt=1, description="a number between 0 and 1")
    report_images: CountOrZero = Field(200, description="a whole number from 0")
    patient_pattern: Annotated[str | None, BeforeValidator(_optional), AfterValidator(_pattern)] = (
        Field(None, description="empty, or a regular expression whose first group is the patient")
    )
