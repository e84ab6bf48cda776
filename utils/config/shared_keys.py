"""The INI keys that [TRAINING] and [TESTING] share: type, role, meaning and default of each.

A field's name is its INI key in lower case. Defaults reproduce the published behaviour; keys
without one are derived or required. The docstring of a class is the heading of its table in
docs/config.md.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from utils.config import values
from utils.intensity import IntensityWindow

# What a key decides:
# model: what is computed. Whatever uses a checkpoint shares these keys with the run that wrote it.
# score: what else a map, a score, the threshold or the colour scale depends on.
# data: which files are read, in what order, and of which patients.
# run: where results go and how the machine is used. No number depends on it, except by rounding.
Role = Literal["model", "score", "data", "run"]


class About(NamedTuple):
    """What the schema says about a key, besides its type and default."""

    role: Role
    meaning: str


def key(role: Role, meaning: str, default: Any = ...) -> Any:
    """A field of the schema.

    Args:
        role: What the key decides.
        meaning: One line for docs/config.md and for the error if the key is missing.
        default: The value if the INI file has none. Without it, the key has a rule in
            ``utils.config.derive``, or is required.
    """
    return Field(default, json_schema_extra={"role": role, "meaning": meaning})


def about(field: FieldInfo) -> About:
    """Role and meaning of a field."""
    return About(**cast(dict[str, Any], field.json_schema_extra))


class Keys(BaseModel):
    """Keys of an INI section."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class RunKeys(Keys):
    """Run."""

    seed: values.Seed = key(
        "data",
        "seed of initial weights, order, augmentation, the images that `MAX_SAMPLES_*` keys "
        "choose, and the bootstrap of the intervals",
        42,
    )
    experiment_name: values.Name = key(
        "run",
        "title of reports; from the name of a BMAD set, such as `Brain_AD`, `check_dataset.py` "
        "knows what counts to expect",
    )
    results_path: values.Folder = key(
        "run", "where results go; created if missing; must not be a folder of images"
    )
    device: values.Device = key(
        "run",
        "`auto`: a CUDA device if there is one, else MPS (Apple, in fp32), else the CPU",
        "auto",
    )
    devices: values.Count = key(
        "run", "processes on each machine, one per GPU; images are divided among them", 1
    )
    num_nodes: values.Count = key("run", "machines", 1)
    precision: values.Precision = key(
        "score",
        "`auto`: bf16 on a CUDA device that supports it, else fp32. In bf16, distances of features "
        "stay in fp32 ([performance.md](performance.md))",
        "auto",
    )
    compile: values.Flag = key(
        "run",
        "`torch.compile` of encoder, decoder and perceptual network, for one batch size: the last "
        "batch of a test is padded. The first steps take minutes. Needs a C++ compiler, and on a "
        "GPU also Triton",
        False,
    )
    num_workers: values.Workers = key(
        "run", "processes that read images; 0 reads in the main process"
    )
    object: values.UnusedText = key(
        "run",
        "accepted for older files; only `check_dataset.py` reads it, as the name of a data set",
        "",
    )


class ImageKeys(Keys):
    """Images."""

    resize: values.ImageSide = key("model", "images become RESIZE × RESIZE pixels")
    batch_size_test: values.Count = key(
        "run",
        "images per step in validation, test and prediction; the last, smaller batch is used too",
    )
    intensity_window: values.Window = key(
        "model",
        "which intensities become black and white. `auto`: 8-bit images stay as they are; others "
        "use the file's own window, else their 0.5th to 99.5th percentile",
        "auto",
    )
    slice_axis: values.SliceAxis = key("model", "how volumes are cut into slices", "axial")
    volume_index: values.CountOrZero = key(
        "model",
        "which volume of a 4-D NIfTI file is read; a warning says that the others are not",
        0,
    )
    min_foreground: values.Share = key(
        "score",
        "in validation, test and prediction, slices of volumes with a smaller share of pixels "
        "brighter than 5 % of white get score 0 and an empty map and are not counted; validation "
        "and test read each slice twice for this",
        0.0,
    )
    cache_images: values.ImageCache = key(
        "run",
        "where decoded, windowed and resized images are kept, so that an epoch reads no files: in "
        "memory (for each process of `DEVICES`), or in one file per split under `images/` in the "
        "first `CACHE_DIR`. Results do not change. See below",
        "none",
    )

    @property
    def window(self) -> IntensityWindow:
        """INTENSITY_WINDOW, parsed."""
        return IntensityWindow.parse(self.intensity_window)


class EncoderKeys(Keys):
    """Frozen encoder."""

    model_name: values.Tags = key("model", "the frozen ViTs; tokens of several are concatenated")
    model_weights: values.WeightsSources = key(
        "score",
        "one, or one per encoder. `hub` downloads into `CACHE_DIR`; a path names a .safetensors or "
        ".pth file with timm's names, or as its authors publish it (DINO, DINOv2, DINOv3, MAE, "
        "CLIP; a TorchScript archive is refused); `random` is seeded and for tests: results are "
        "meaningless. Not read if the checkpoint contains the encoder",
        ("hub",),
    )
    cache_dir: values.Folders = key(
        "run",
        "one, or one per encoder: where downloaded weights are kept; the first one is also used "
        "for the perceptual network and `CACHE_IMAGES = disk`",
        (Path("cache"),),
    )
    n_patches: values.EncoderCounts = key(
        "model", "patches along a side; N_PATCHES × PATCH_SIZE must be RESIZE"
    )
    patch_size: values.EncoderCounts = key(
        "model",
        "pixels along a side of a patch; where the weights have a different one, embeddings are "
        "resampled",
    )
    n_reg_tokens: values.EncoderCountsOrZero = key(
        "model", "register tokens of the ViT: its prefix tokens without the class token"
    )
    use_hidden_state: values.HiddenStates = key(
        "model", "blocks whose outputs become tokens, in this order (`-1`: the last block)"
    )
    additional_block_dim: values.OptionalEncoderCounts = key(
        "model",
        "width of an extra trained transformer block after each encoder; set all three or none",
        (),
    )
    additional_block_num_heads: values.OptionalEncoderCounts = key("model", "its heads", ())
    additional_block_mlp_ratio: values.OptionalEncoderRatios = key(
        "model", "width of its MLP, divided by the block's width", ()
    )
    final_proj_in_features: values.OptionalEncoderCounts = key(
        "model",
        "width of the encoder, input of the trained projection; leave both keys empty for none",
    )
    final_proj_out_features: values.OptionalEncoderCounts = key(
        "model", "output width of the projection, equal to JUNCTION_DIM"
    )


class QFormerKeys(Keys):
    """Q-Former."""

    junction_n_blocks: values.Depth = key(
        "model",
        "blocks; those with an even number, counted from 0, attend to the encoder's tokens",
        1,
    )
    junction_dim: values.Width = key("model", "width of queries and tokens")
    junction_output_dim: values.Width = key("model", "output width of the last block")
    junction_n_queries: values.Count = key("model", "learned queries: DECODER_N_PATCHES²")
    junction_heads: values.Width = key("model", "attention heads, a divisor of JUNCTION_DIM")
    junction_mlp_ratio: values.Ratio = key("model", "MLP width, divided by JUNCTION_DIM", 4.0)


class DecoderKeys(Keys):
    """Decoder."""

    decoder_dim: values.Width = key("model", "width; a multiple of 4 and of DECODER_NUM_HEADS")
    decoder_n_patches: values.Width = key(
        "model", "patches along a side; DECODER_N_PATCHES × DECODER_PATCH_SIZE must be RESIZE"
    )
    decoder_patch_size: values.Width = key("model", "pixels along a side of a patch")
    decoder_n_reg_tokens: values.CountOrZero = key("model", "register tokens", 4)
    decoder_depth: values.Depth = key("model", "transformer blocks")
    decoder_num_heads: values.Width = key("model", "attention heads")
    decoder_mlp_ratio: values.Ratio = key("model", "MLP width, divided by DECODER_DIM", 4.0)
    decoder_out_channels: values.Channels = key(
        "model", "1: a grey prediction, repeated to three channels", 3
    )


class ScoreKeys(Keys):
    """Criterion and score."""

    criterion_val: values.Criteria = key(
        "score", "what compares image and reconstruction, see below", ("PERCEPTUAL_VIT_mae_multi",)
    )
    criterion_val_weights: values.CriterionWeights = key(
        "score", "their weights in the sum", (1.0,)
    )
    perceptual_metric_val: values.MetricName = key(
        "score",
        "distance of features; `…tot` and `content+style` give one number per image; `L1tot` and "
        "`content+style` are for `PERCEPTUAL_RESNET*`",
        "cosine",
    )
    perceptual_hstate_val: values.HiddenStates = key("score", "blocks of the perceptual ViT")
    perceptual_patch_size_val: values.Sizes = key(
        "score",
        "patch sizes at which the perceptual ViT runs, divisors of RESIZE; for "
        "`PERCEPTUAL_VIT_mae_multi`",
    )
    perceptual_model_name: values.Tag = key(
        "score", "the frozen perceptual ViT", "vit_large_patch16_224.mae"
    )
    perceptual_weights: values.WeightsSource = key("score", "its weights, see MODEL_WEIGHTS", "hub")
    reduction: values.ReductionName = key(
        "score", "from maps to one image score, see below", "mean"
    )
    multi_hstate_reduction: values.StatesReduction = key(
        "score", "the same over hidden states", "max"
    )


# Bases from last to first: pydantic takes fields in that order.
class SectionConfig(ScoreKeys, DecoderKeys, QFormerKeys, EncoderKeys, ImageKeys, RunKeys):
    """The keys that both sections share."""
