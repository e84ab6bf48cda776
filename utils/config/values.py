"""The types of INI values with their ranges, and their descriptions in error messages."""

import os
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat

from utils.hub import SCHEME, HubFile
from utils.intensity import IntensityWindow

Item = TypeVar("Item")


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return ()
    return tuple(part.strip() for part in value.split(","))


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _not_empty(value: tuple[Item, ...]) -> tuple[Item, ...]:
    if not value or "" in value:
        raise ValueError("empty")
    return value


def _plain(value: str) -> str:
    # Refuses what cannot be written into the results: surrogates, which come from bad bytes in an
    # argument, and line breaks and other control characters.
    value.encode("utf-8")
    if any(unicodedata.category(each) == "Cc" for each in value):
        raise ValueError("control character")
    return value


def is_quoted(value: str) -> bool:
    """Whether a value is in quotes, which INI files take literally."""
    return len(value) > 1 and value[0] in "\"'“”" and value[-1] in "\"'“”"


def _bare(value: str) -> str:
    # Results would go to a folder with quotes in its name.
    if is_quoted(value):
        raise ValueError("quotes")
    return value


def _uncommented(value: str) -> str:
    if re.search(r"\s[;#]", value):
        raise ValueError("a comment")
    return value


def _path(value: Any) -> Any:
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("empty")
        try:
            path = Path(_bare(_plain(value))).expanduser()
        except RuntimeError as error:
            raise ValueError("no such user") from error
        # System calls fail on longer ones, on Linux and elsewhere.
        if max(map(len, map(os.fsencode, path.parts)), default=0) > 255 or len(str(path)) > 1000:
            raise ValueError("too long")
        return path
    return value


def _hub_file(value: Any) -> Any:
    if isinstance(value, str) and value.strip().startswith(SCHEME):
        return HubFile.parse(_plain(value.strip()))
    return value


def _checkpoints(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    files = tuple(_path(_hub_file(part.strip())) for part in value.split(","))
    if len(set(files)) < len(files):
        raise ValueError("names one more than once")
    return files if len(files) > 1 else files[0]


def _optional(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _pattern(value: str | None) -> str | None:
    if value is not None:
        try:
            re.compile(_plain(value))
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError("no regular expression") from error
    return value


def _window(value: str) -> str:
    IntensityWindow.parse(value)
    return value


# A typo must not exhaust memory.
MOST = 1_000_000_000
WIDEST = 65_536
DEEPEST = 1_000

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
Reduction = Literal["mean", "max", "pixelwise_mean_max", "pixelwise_max_mean", "downsample_8x8"]
MultiReduction = Literal["mean", "max"]
VolumeReduction = Literal["max", "mean", "top_k_mean"]

_REDUCTION = "one of " + ", ".join(get_args(Reduction))
_CRITERIA = "a comma-separated list of criteria: " + ", ".join(get_args(CriterionName))
_NUMBERS = f"a comma-separated list of whole numbers from 1 to {WIDEST}"
_STATES = "a comma-separated list of block numbers, counted from 0, or from -1 backwards"
_ADDRESS = "hf://owner/repo/path[@revision]"
_WEIGHTS = f"hub, random, {_ADDRESS}, or the path of a .safetensors or .pth file in timm's names"

_List = BeforeValidator(_split)
_Filled = AfterValidator(_not_empty)
_Lower = BeforeValidator(_lower)
_Optional = BeforeValidator(_optional)
_Path = Annotated[Path, BeforeValidator(_path)]
_Line = Annotated[str, AfterValidator(_plain)]
_Text = Annotated[_Line, Field(min_length=1), AfterValidator(_bare)]
_HubFile = BeforeValidator(_hub_file)
_Source = Annotated[HubFile | _Text, _HubFile]
_CheckpointFile = Annotated[HubFile | _Path, _HubFile]


def _says(text: str) -> Any:
    return Field(description=text)


Seed = Annotated[int, Field(ge=0, lt=2**31), _says(f"a whole number from 0 to {2**31 - 1}")]
Count = Annotated[int, Field(ge=1, le=MOST), _says(f"a whole number from 1 to {MOST}")]
CountOrZero = Annotated[int, Field(ge=0, le=WIDEST), _says(f"a whole number from 0 to {WIDEST}")]
Width = Annotated[int, Field(ge=1, le=WIDEST), _says(f"a whole number from 1 to {WIDEST}")]
Depth = Annotated[int, Field(ge=1, le=DEEPEST), _says(f"a whole number from 1 to {DEEPEST}")]
Workers = Annotated[int, Field(ge=0, le=512), _says("a whole number from 0 to 512")]
ImageSide = Annotated[int, Field(ge=8, le=4096), _says("a whole number from 8 to 4096")]
Channels = Annotated[Literal[1, 3], BeforeValidator(int), _says("1 or 3")]
Flag = Annotated[bool, _says("0 or 1")]
UnusedNumber = Annotated[FiniteFloat, _says("a number (the key is not used)")]
Ratio = Annotated[float, Field(gt=0, lt=64), _says("a number above 0 and below 64")]
Fraction = Annotated[float, Field(gt=0, lt=1), _says("a number between 0 and 1")]
Share = Annotated[float, Field(ge=0, lt=1), _says("a number of at least 0 and below 1")]
Positive = Annotated[float, Field(gt=0, lt=1000), _says("a number above 0 and below 1000")]
LearningRate = Annotated[
    float, Field(gt=0, lt=10), _says("a number above 0 and below 10, such as 8e-5")
]

Name = Annotated[_Line, _says("a name")]
UnusedText = Annotated[_Line, _says("any one line (the key is not used)")]
_Tag = Annotated[_Text, AfterValidator(_uncommented)]
Tag = Annotated[_Tag, _says("a timm model tag")]
Tags = Annotated[
    tuple[_Tag, ...], _List, _Filled, _says("a comma-separated list of timm model tags")
]
WeightsSource = Annotated[_Source, _says(_WEIGHTS)]
WeightsSources = Annotated[tuple[_Source, ...], _List, _Filled, _says(_WEIGHTS)]
Folder = Annotated[_Path, _says("the path of a folder")]
Folders = Annotated[
    tuple[Annotated[_Path, BeforeValidator(_uncommented)], ...],
    *(_List, _Filled, _says("the path of a folder")),
]
Checkpoints = Annotated[
    HubFile | Path | tuple[HubFile | Path, ...],
    BeforeValidator(_checkpoints),
    _says(f"the path of a checkpoint, or {_ADDRESS}; or a comma-separated list without duplicates"),
]
OptionalCheckpoint = Annotated[
    _CheckpointFile | None,
    _Optional,
    _says(f"empty, or the path of a checkpoint to start from, or {_ADDRESS}"),
]
PatientPattern = Annotated[
    str | None,
    _Optional,
    AfterValidator(_pattern),
    _says("empty, or a regular expression whose first group is the patient"),
]
Window = Annotated[
    _Line,
    AfterValidator(_window),
    _says("auto, percentiles LOW,HIGH or LOW,HIGH with LOW below HIGH"),
]

Device = Annotated[
    str,
    _Lower,
    Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"),
    _says("auto, cpu, cuda, cuda:N or mps"),
]
Precision = Annotated[
    Literal["auto", "fp32", "tf32", "bf16"], _Lower, _says("auto, fp32, tf32 or bf16")
]
ImageCache = Annotated[Literal["none", "ram", "disk"], _Lower, _says("none, ram or disk")]
SliceAxis = Annotated[
    Literal["axial", "coronal", "sagittal"], _Lower, _says("axial, coronal or sagittal")
]
BaselineName = Annotated[
    Literal["none", "nearest_neighbour"], _Lower, _says("none or nearest_neighbour")
]
CheckpointContent = Annotated[Literal["trained", "full"], _Lower, _says("trained or full")]

_Widths = Annotated[tuple[Width, ...], _List]
Sizes = Annotated[_Widths, _Filled, _says(_NUMBERS)]
EncoderCounts = Annotated[_Widths, _Filled, _says(f"{_NUMBERS}, one per encoder")]
OptionalEncoderCounts = Annotated[_Widths, _says(f"empty, or {_NUMBERS}, one per encoder")]
EncoderCountsOrZero = Annotated[
    tuple[CountOrZero, ...],
    _List,
    _Filled,
    _says(f"a comma-separated list of whole numbers from 0 to {WIDEST}, one per encoder"),
]
OptionalEncoderRatios = Annotated[
    tuple[Ratio, ...],
    _List,
    _says("empty, or a comma-separated list of numbers above 0 and below 64, one per encoder"),
]
HiddenStates = Annotated[tuple[int, ...], _List, _Filled, _says(_STATES)]
Criteria = Annotated[tuple[CriterionName, ...], _List, _Filled, _says(_CRITERIA)]
CriterionWeights = Annotated[
    tuple[Annotated[float, Field(ge=0, lt=1e9)], ...],
    _List,
    _Filled,
    _says("a comma-separated list of numbers of 0 or more, one per criterion"),
]
MetricName = Annotated[Metric, _says("one of " + ", ".join(get_args(Metric)))]
ReductionName = Annotated[Reduction, _says(_REDUCTION)]
OptionalReduction = Annotated[Reduction | None, _Optional, _says(f"empty, or {_REDUCTION}")]
StatesReduction = Annotated[MultiReduction, _says("mean or max")]
VolumeReductionName = Annotated[VolumeReduction, _Lower, _says("max, mean or top_k_mean")]
OptionalStatesReduction = Annotated[MultiReduction | None, _Optional, _says("empty, mean or max")]
