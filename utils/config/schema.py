"""The INI keys of [TRAINING] and [TESTING], and how two configs are compared by the keys' roles.

Each key is defined once, with type, role, meaning and default: those of both sections in
shared_keys.py, the types of their values in values.py. Everything that needs the keys and their
roles reads them here.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from utils.config import values
from utils.config.shared_keys import Role, SectionConfig, about, key
from utils.hub import HubFile


class TrainingConfig(SectionConfig):
    """Only in [TRAINING]."""

    train_data_path: values.Folder = key("data", "normal images, in `good/` or flat")
    val_data_path: values.Folder = key(
        "data",
        "`good/` and `Ungood/`; they choose `best_ckpt.pth`, the threshold and the colour scale. "
        "If it is the test set, `best_ckpt.pth` is not written and the test applies no threshold",
    )
    model_ckpt_path: values.OptionalCheckpoint = key(
        "data", "the weights that training starts from; empty: start from scratch", None
    )
    eval_stepsize: values.Count = key(
        "model", "epochs between validations; the last epoch is always validated", 10
    )
    save_model_ckpt: values.Flag = key(
        "run", "whether checkpoints and training state are written, after each epoch", True
    )
    checkpoint_content: values.CheckpointContent = key(
        "run",
        "`trained`: only what is trained (0.2 GB in the published setting); `full`: the frozen "
        "encoder too (1.4 GB)",
        "trained",
    )
    max_samples_train: values.Count = key(
        "data", "use at most this many training images, chosen by a seeded shuffle", 999_999
    )
    max_samples_val: values.Count = key(
        "data", "the same for validation images; volumes are kept whole", 999_999
    )
    criterion_train: values.Criteria = key("model", "the loss", ("PERCEPTUAL_VIT_mae_multi",))
    criterion_train_weights: values.CriterionWeights = key(
        "model", "their weights in the sum", (1.0,)
    )
    perceptual_metric_train: values.MetricName = key(
        "model", "distance of features in the loss", "cosine"
    )
    perceptual_hstate_train: values.HiddenStates = key(
        "model", "blocks of the perceptual ViT in the loss"
    )
    perceptual_patch_size_train: values.Sizes = key("model", "patch sizes in the loss")
    batch_size_train: values.Count = key(
        "model",
        "images per batch, divided evenly among all processes; the last, smaller batch of an epoch "
        "is dropped",
    )
    accumulate: values.Count = key(
        "model",
        "batches whose gradients are averaged for one step; left-over batches of an epoch make no "
        "step",
        1,
    )
    junction_query_std: values.Positive = key(
        "model",
        "standard deviation of the learned queries at the start: 0.001 as published; for the "
        "effect of 1, see [metrics.md](metrics.md#what-was-tried-against-the-luck)",
        0.001,
    )
    lr: values.LearningRate = key("model", "peak of the one-cycle schedule (Adam, no weight decay)")
    n_epochs: values.Count = key("model", "epochs", 300)
    scheduler_steps: values.UnusedNumber = key("run", "accepted for older files", 9999.0)
    scheduler_gamma: values.UnusedNumber = key("run", "accepted for older files", 0.0)


class TestingConfig(SectionConfig):
    """Only in [TESTING]."""

    __test__ = False

    checkpoint_path: values.Checkpoints = key(
        "data",
        "the trained model: our own file or a published one. Several checkpoints of one config, "
        "trained with different seeds, form an ensemble "
        "([metrics.md](metrics.md#several-seeds-as-one-model))",
    )
    test_data_path: values.Folder = key("data", "`good/` and `Ungood/`, with masks or without")
    max_samples_test: values.Count = key(
        "data",
        "use at most this many test images; a warning and `num_left_out` say how many are left "
        "out; volumes are kept whole",
        999_999,
    )
    image_reduction: values.OptionalReduction = key(
        "score", "for image scores; empty: REDUCTION", None
    )
    image_multi_hstate_reduction: values.OptionalStatesReduction = key(
        "score", "for image scores; empty: MULTI_HSTATE_REDUCTION", None
    )
    pixel_reduction: values.OptionalReduction = key(
        "score",
        "for pixel scores, where only what it does over hidden states is used; empty: REDUCTION",
        None,
    )
    pixel_multi_hstate_reduction: values.OptionalStatesReduction = key(
        "score", "for pixel scores; empty: MULTI_HSTATE_REDUCTION", None
    )
    threshold_quantile: values.Fraction = key(
        "score",
        "the quantile of normal validation scores that becomes the threshold if validation has no "
        "anomalous images; otherwise the threshold is the one of best F1",
        0.95,
    )
    pixel_quantile: values.Fraction = key(
        "score",
        "the quantile of normal validation pixels that becomes the pixel threshold if validation "
        "has no masks; otherwise it is the one of best Dice",
        0.999,
    )
    volume_reduction: values.VolumeReductionName = key(
        "score",
        "from the scores of slices to one score per volume: `max`, `mean`, or `top_k_mean`, the "
        "mean of the five highest",
        "max",
    )
    report_images: values.CountOrZero = key(
        "run",
        "images in the gallery of `report.html`; with 0, volumes get no pictures either",
        200,
    )
    patient_pattern: values.PatientPattern = key(
        "data",
        "searched in the file name; its first group is the patient. Confidence intervals then "
        "resample patients; empty: they resample images",
        None,
    )
    baseline: values.BaselineName = key(
        "data",
        "`nearest_neighbour`: a test also scores its images by their distance to the training "
        "images, on the same frozen encoders ([metrics.md](metrics.md))",
        "none",
    )
    baseline_size: values.Count = key(
        "data", "patches of training images kept for the baseline, drawn at random", 12_000
    )
    baseline_hstate: values.HiddenStates = key(
        "data",
        "blocks of the encoders whose outputs, concatenated, describe a patch for the baseline",
    )

    @property
    def checkpoints(self) -> tuple[HubFile | Path, ...]:
        """CHECKPOINT_PATH, one or several."""
        path = self.checkpoint_path
        return path if isinstance(path, tuple) else (path,)


SCHEMAS: dict[str, type[SectionConfig]] = {"TRAINING": TrainingConfig, "TESTING": TestingConfig}
# Roles of the keys that a run's numbers depend on, besides the images and the code.
NUMBERS: tuple[Role, ...] = ("model", "score", "data")


def keys_of(section: str) -> dict[str, Role]:
    """INI key → its role, for the keys of [TRAINING] or [TESTING]."""
    return {
        name.upper(): about(field).role for name, field in SCHEMAS[section].model_fields.items()
    }


def differences(
    was: Mapping[str, str], now: Mapping[str, str], roles: Collection[Role]
) -> dict[str, str]:
    """Compare two configs.

    Args:
        was: INI key → value as text; an absent key counts as empty.
        now: The same of the config that continues from the results of the first.
        roles: Keys with these roles count, and those that no section knows.

    Returns:
        INI key → ``was 'a', is 'b'`` for keys that differ, sorted by name.
    """
    role_of = keys_of("TRAINING") | keys_of("TESTING")
    return {
        name: f"was {was.get(name, '')!r}, is {now.get(name, '')!r}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name, "") != now.get(name, "")
        and (name not in role_of or role_of[name] in roles)
    }
