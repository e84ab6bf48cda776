"""The schema of the INI keys: names, types, ranges and defaults, each in one place.

A field's name is its INI key in lower case, its description says what a value must be: error
messages quote it. Defaults reproduce the published behaviour (SPEC of the published configs);
fields without one are required.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

from utils.intensity import IntensityWindow

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


def _plain(value: str) -> str:
    # What could not be written into the results: half a character, as a bad byte in an argument
    # gives, and line breaks and other control characters.
    value.encode("utf-8")
    if any(unicodedata.category(each) == "Cc" for each in value):
        raise ValueError("control character")
    return value


def _path(value: Any) -> Any:
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("empty")
        try:
            path = Path(_plain(value)).expanduser()
        except RuntimeError as error:
            raise ValueError("no such user") from error
        # Longer ones make the system's calls fail, on Linux and elsewhere.
        if max(map(len, map(os.fsencode, path.parts)), default=0) > 255 or len(str(path)) > 1000:
            raise ValueError("too long")
        return path
    return value


def _optional(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _pattern(value: str | None) -> str | None:
    if value is not None:
        try:
            re.compile(_plain(value))
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError("no regular expression") from error
    return value


# The limits keep a slip of the finger from filling the memory.
MOST = 1_000_000_000
WIDEST = 65_536
DEEPEST = 1_000


def _window(value: str) -> str:
    IntensityWindow.parse(value)
    return value


Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=WIDEST)]
Width = Annotated[int, Field(ge=1, le=WIDEST)]
Depth = Annotated[int, Field(ge=1, le=DEEPEST)]
Flag = Annotated[bool, BeforeValidator(_boolean)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Line = Annotated[str, AfterValidator(_plain)]
Text = Annotated[Line, Field(min_length=1)]
List = BeforeValidator(_split)
Filled = AfterValidator(_not_empty)
Names = Annotated[tuple[Text, ...], List, Filled]
Counts = Annotated[tuple[Width, ...], List, Filled]
OptionalCounts = Annotated[tuple[Width, ...], List]
Ratios = Annotated[tuple[Annotated[float, Field(gt=0, lt=64)], ...], List]

Metric = Literal["cosine", "L2", "L1", "L2tot", "cosinetot", "L1tot", "content+style"]
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
_COUNTS = f"a comma-separated list of whole numbers from 1 to {WIDEST}, one for each encoder"
_COUNT = f"a whole number from 1 to {MOST}"
_COUNT_OR_ZERO = f"a whole number from 0 to {WIDEST}"
_WIDTH = f"a whole number from 1 to {WIDEST}"
_DEPTH = f"a whole number from 1 to {DEEPEST}"
_RATIO = "a number above 0 and below 64"
_CRITERION_WEIGHTS = "numbers from 0, one for each criterion"
_FOLDER = "the path of a folder"
_WEIGHTS = "hub, random, or the path of a .safetensors or .pth file in timm's names"
_SIZES = f"a comma-separated list of whole numbers from 1 to {WIDEST}"
_STATES = "a comma-separated list of block numbers, counted from 0 or, negative, from the end"


class SectionConfig(BaseModel):
    """The keys that both sections share."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    seed: int = Field(42, ge=0, lt=2**31, description=f"a whole number from 0 to {2**31 - 1}")
    experiment_name: Line = Field("QFAE", description="a name")
    results_path: FilePath = Field(description="the path of the folder that results go to")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, cuda, cuda:N or mps",
    )
    devices: Count = Field(1, description="a whole number from 1: processes on each machine")
    num_nodes: Count = Field(1, description="a whole number from 1: machines")
    num_workers: int = Field(4, ge=0, le=512, description="a whole number from 0 to 512")
    precision: Annotated[Literal["auto", "fp32", "tf32", "bf16"], BeforeValidator(_lower)] = Field(
        "auto", description="auto, fp32, tf32 or bf16"
    )
    compile: Flag = Field(False, description="0 or 1")

    model_name: Names = Field(description="a comma-separated list of timm model tags")
    model_weights: Names = Field(("hub",), description=_WEIGHTS)
    cache_dir: Names = Field(("./cache",), description=_FOLDER)
    cache_images: Annotated[Literal["none", "ram", "disk"], BeforeValidator(_lower)] = Field(
        "none", description="none, ram or disk"
    )
    n_patches: Counts = Field(description=_COUNTS)
    patch_size: Counts = Field(description=_COUNTS)
    n_reg_tokens: Annotated[tuple[CountOrZero, ...], List, Filled] = Field(
        description=f"a comma-separated list, {_COUNT_OR_ZERO} for each encoder"
    )
    additional_block_dim: OptionalCounts = Field((), description=f"empty, or {_COUNTS}")
    additional_block_num_heads: OptionalCounts = Field((), description=f"empty, or {_COUNTS}")
    additional_block_mlp_ratio: Ratios = Field(
        (), description=f"empty, or a list of {_RATIO} for each encoder"
    )
    final_proj_in_features: OptionalCounts = Field((), description=f"empty, or {_COUNTS}")
    final_proj_out_features: OptionalCounts = Field((), description=f"empty, or {_COUNTS}")
    use_hidden_state: HiddenStates = Field(description=_STATES)

    junction_n_blocks: Depth = Field(1, description=_DEPTH)
    junction_dim: Width = Field(description=_WIDTH)
    junction_output_dim: Width = Field(description=_WIDTH)
    junction_n_queries: Count = Field(description=_COUNT)
    junction_heads: Width = Field(description=_WIDTH)
    junction_mlp_ratio: float = Field(4.0, gt=0, lt=64, description=_RATIO)
    decoder_dim: Width = Field(description=_WIDTH)
    decoder_n_patches: Width = Field(description=_WIDTH)
    decoder_patch_size: Width = Field(description=_WIDTH)
    decoder_n_reg_tokens: CountOrZero = Field(4, description=_COUNT_OR_ZERO)
    decoder_depth: Depth = Field(description=_DEPTH)
    decoder_num_heads: Width = Field(description=_WIDTH)
    decoder_mlp_ratio: float = Field(4.0, gt=0, lt=64, description=_RATIO)
    decoder_out_channels: Annotated[Literal[1, 3], BeforeValidator(int)] = Field(
        3, description="1 or 3"
    )

    criterion_val: Criteria = Field(("PERCEPTUAL_VIT_mae_multi",), description=_CRITERIA)
    criterion_val_weights: Weights = Field((1.0,), description=_CRITERION_WEIGHTS)
    perceptual_metric_val: Metric = Field("cosine", description=_METRIC)
    perceptual_hstate_val: HiddenStates = Field((11, 15, 19), description=_STATES)
    perceptual_patch_size_val: Counts = Field((16, 32, 56), description=_SIZES)
    perceptual_model_name: Text = Field("vit_large_patch16_224.mae", description="a timm model tag")
    perceptual_weights: Text = Field("hub", description=_WEIGHTS)
    reduction: Reduction = Field("mean", description=_REDUCTION)
    multi_hstate_reduction: MultiReduction = Field("max", description="mean or max")

    intensity_window: Annotated[Line, AfterValidator(_window)] = Field(
        "auto", description="auto, percentiles LOW,HIGH or LOW,HIGH with LOW below HIGH"
    )
    slice_axis: Annotated[Literal["axial", "coronal", "sagittal"], BeforeValidator(_lower)] = Field(
        "axial", description="axial, coronal or sagittal"
    )
    volume_index: CountOrZero = Field(0, description=_COUNT_OR_ZERO)
    resize: int = Field(224, ge=8, le=4096, description="a whole number from 8 to 4096")
    batch_size_test: Count = Field(64, description=_COUNT)

    object: Line = Field("", description="one line of anything: the key is not used")

    @property
    def window(self) -> IntensityWindow:
        """INTENSITY_WINDOW, parsed."""
        return IntensityWindow.parse(self.intensity_window)


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
    criterion_train_weights: Weights = Field((1.0,), description=_CRITERION_WEIGHTS)
    perceptual_metric_train: Metric = Field("cosine", description=_METRIC)
    perceptual_hstate_train: HiddenStates = Field((15, 19), description=_STATES)
    perceptual_patch_size_train: Counts = Field((16, 32, 56), description=_SIZES)
    batch_size_train: Count = Field(64, description=_COUNT)
    accumulate: Count = Field(1, description=_COUNT)
    lr: float = Field(8e-5, gt=0, lt=10, description="a number above 0 and below 10, such as 8e-5")
    scheduler_steps: FiniteFloat = Field(9999.0, description="a number: the key is not used")
    scheduler_gamma: FiniteFloat = Field(0.0, description="a number: the key is not used")
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
    report_images: CountOrZero = Field(200, description=_COUNT_OR_ZERO)
    patient_pattern: Annotated[str | None, BeforeValidator(_optional), AfterValidator(_pattern)] = (
        Field(None, description="empty, or a regular expression whose first group is the patient")
    )
