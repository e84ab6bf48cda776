"""A training run from a config: checked, built, started, resumed."""

import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from datasets.cache import checked_dataset
from datasets.dataset import AnomalyDataset, EpochSampler, TrainDataset, train_loader
from datasets.folders.find import find_normal_images, find_split
from datasets.folders.samples import Split
from datasets.folders.slicing import Slicing
from datasets.foreground import without_background
from engine.build import build_autoencoder, build_criteria
from engine.evaluate.evaluate import create_batches
from engine.evaluate.scorer import Reductions, Scorer
from engine.run_folder import check_results_folder, one_trainer_in
from engine.runtime.fabric import create_fabric
from engine.runtime.process import place
from engine.snapshot import check_sections, check_snapshot
from engine.train.loop import Trainer
from engine.train.optimizer import create_optimizer
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria
from utils.config.criteria import CriterionSpec
from utils.config.load import Config, ini_text
from utils.config.schema import TrainingConfig
from utils.errors import UserError, each_told
from utils.files import write_text
from utils.hub import HubFile, fetch
from utils.run_files import TrainingFiles

logger = logging.getLogger(__name__)


def create_trainer(config: Config, *, resume: bool = False) -> Trainer:
    """Check everything that can be checked, then build a run.

    Args:
        config: A config with a section [TRAINING].
        resume: The run will take up its own state.

    Raises:
        UserError: Config, data or weights are not as they should be.
    """
    settings = config.need_training()
    check_sections(config)
    start = _encoders_to_resume(settings) if resume else settings.model_ckpt_path
    if isinstance(start, HubFile):
        start = fetch(start, key="MODEL_CKPT_PATH", cache_dir=settings.cache_dir[0])
    if start and not resume:
        check_snapshot(settings, start, file=config.file, section="TRAINING")
    training, validating = _find_splits(settings)
    fabric = create_fabric(settings)
    # Before the weights, so that problems with the images are reported sooner.
    dataset = checked_dataset(training, settings)
    # All processes search for background at once, now that they are running.
    validation = checked_dataset(without_background(validating, settings), settings)
    sampler, loader = _train_batches(settings, fabric, dataset)
    model, train_criterion, val_criterion = _build(settings, fabric, start)
    total_steps = settings.n_epochs * (len(loader) // settings.accumulate)
    optimizer, scheduler = create_optimizer(
        model.trained_parameters(), lr=settings.lr, total_steps=total_steps
    )
    forward, wrapped_optimizer = fabric.setup(model, optimizer)
    return Trainer(
        config=config,
        settings=settings,
        files=TrainingFiles(settings.results_path),
        fabric=fabric,
        model=model,
        forward=forward,
        criterion=train_criterion,
        optimizer=wrapped_optimizer,
        scheduler=scheduler,
        sampler=sampler,
        loader=fabric.setup_dataloaders(loader, use_distributed_sampler=False),
        dataset=dataset,
        validation=validation,
        validation_batches=create_batches(fabric, validation, settings, persistent=True),
        scorer=Scorer(
            fabric,
            (model,),
            val_criterion,
            Reductions.of(settings),
            static_batch=settings.batch_size_test if settings.compile else None,
        ),
    )


def _encoders_to_resume(settings: TrainingConfig) -> Path | HubFile | None:
    """A checkpoint that may contain the frozen encoders; what was trained is in the state."""
    start, last = settings.model_ckpt_path, TrainingFiles(settings.results_path).last
    if settings.checkpoint_content == "full" and last.is_file():
        return last
    if isinstance(start, Path) and not start.is_file():
        logger.warning(
            "MODEL_CKPT_PATH: %s: no such file; the encoders use the weights of MODEL_WEIGHTS",
            start,
        )
        return None
    return start


def _find_splits(settings: TrainingConfig) -> tuple[Split, Split]:
    """The training and the validation images, as many as MAX_SAMPLES_* allow."""
    slicing, seed = Slicing.of(settings), settings.seed
    train_path, val_path = settings.train_data_path, settings.val_data_path
    training, validation = each_told(
        partial(find_normal_images, train_path, key="TRAIN_DATA_PATH", slicing=slicing),
        partial(find_split, val_path, key="VAL_DATA_PATH", slicing=slicing),
    )
    inner, outer = training.folder.resolve(), validation.folder.resolve()
    if inner.is_relative_to(outer):
        logger.warning(
            "TRAIN_DATA_PATH is inside VAL_DATA_PATH, %s: metrics and threshold would come from "
            "images that the model was trained on; set VAL_DATA_PATH to images of other patients",
            outer,
        )
    return (
        training.cut(settings.max_samples_train, seed),
        validation.cut(settings.max_samples_val, seed, whole_volumes=True),
    )


def _build(
    settings: TrainingConfig, fabric: Fabric, start: Path | None
) -> tuple[QFormerAutoencoder, WeightedCriteria, WeightedCriteria]:
    """Model, loss and validation criterion on the device, from the run's seed."""
    torch.manual_seed(settings.seed)
    specs = [CriterionSpec.of(settings, kind) for kind in ("TRAIN", "VAL")]
    model, (loss, validation) = each_told(
        partial(build_autoencoder, settings, start), partial(build_criteria, settings, specs)
    )
    saves_encoder = settings.checkpoint_content == "full"
    if not saves_encoder:
        model.drop_unused_blocks()
    place(fabric, model, keep_frozen=saves_encoder)
    for criterion in (loss, validation):
        place(fabric, criterion)
    return model, loss, validation


def _train_batches(
    settings: TrainingConfig, fabric: Fabric, dataset: AnomalyDataset
) -> tuple[EpochSampler, Any]:
    # Shared by all processes, so that their number changes no result.
    batch_size, rest = divmod(settings.batch_size_train, fabric.world_size)
    if rest:
        raise UserError(
            f"BATCH_SIZE_TRAIN = {settings.batch_size_train}: is not divisible by the "
            f"{fabric.world_size} processes; set a multiple of {fabric.world_size}"
        )
    sampler = EpochSampler(
        len(dataset), settings.seed, rank=fabric.global_rank, world_size=fabric.world_size
    )
    loader = train_loader(
        TrainDataset(dataset, settings.seed),
        sampler,
        batch_size=batch_size,
        num_workers=settings.num_workers,
        pin=fabric.device.type == "cuda",
    )
    if len(loader) < settings.accumulate:
        raise UserError(
            f"ACCUMULATE = {settings.accumulate}: an epoch has only {len(loader)} batches; set it "
            f"to {len(loader)} or less"
        )
    return sampler, loader


def train(config: Config, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train as the config says; returns the folder of the results.

    Args:
        config: A config with a section [TRAINING].
        resume: Continue where the run was stopped.
        overwrite: Delete the run in the folder and start over.

    Raises:
        UserError: Something the user can fix.
    """
    settings = config.need_training()
    files = TrainingFiles(settings.results_path)
    check_results_folder(config, files.folder)
    if not (resume or overwrite):
        _refuse_a_run_in(files)
    if overwrite and settings.model_ckpt_path and files.holds(settings.model_ckpt_path):
        raise UserError(
            f"MODEL_CKPT_PATH: --overwrite would delete {settings.model_ckpt_path} before training "
            "starts from it; set another RESULTS_PATH"
        )
    trainer = create_trainer(config, resume=resume)
    first = trainer.fabric.is_global_zero
    with one_trainer_in(files.folder) if first else nullcontext():
        if first and overwrite:
            files.remove_run()
        elif first and not resume:
            # Another process may have finished one while this one was building its model.
            _refuse_a_run_in(files)
        if resume:
            trainer.resume()
        if first:
            write_text(files.config, ini_text(trainer.config))
        trainer.run()
    return files.folder


def _refuse_a_run_in(files: TrainingFiles) -> None:
    if files.run_exists():
        raise UserError(
            f"RESULTS_PATH: {files.folder} already contains a training run; continue it with "
            "--resume, start over with --overwrite, or set another folder"
        )
