"""The training loop: normal images in, a reconstruction that knows nothing else out."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from datasets.anomaly_dataset import (
    AnomalyDataset,
    EpochSampler,
    TrainDataset,
    derive_seed,
    train_loader,
)
from datasets.image_cache import verified_dataset
from datasets.layout import find_normal_images, find_split
from datasets.reading import LoaderDied, loader_deaths_told
from datasets.transforms import normalise
from engine.batch_size import find_batch_size
from engine.build import build_autoencoder, build_criteria
from engine.collectors import PixelCollector
from engine.criterion_spec import CriterionSpec
from engine.evaluation import Reductions, Scorer, create_batches, evaluate
from engine.geometry import check_geometry
from engine.interrupts import ProcessLost, lost_processes_told, stop_requests_noted
from engine.loss_watch import LossWatch
from engine.metrics import image_metrics
from engine.results_folder import check_results_folder, one_trainer_in
from engine.runtime import create_fabric, gather, place
from engine.snapshot import check_snapshot
from engine.tensorboard_log import TensorboardLog
from engine.training_state import (
    VALIDATION_COLUMNS,
    Progress,
    Row,
    load_state,
    save_state,
    saved_batch_size,
)
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria
from utils.checkpoints import load_model, save_tensors, write_text
from utils.config import Config, ini_text, ini_values
from utils.errors import Interrupted, UserError
from utils.plots import plot_curves
from utils.run_files import TrainingFiles, same_folder
from utils.schema import TrainingConfig

logger = logging.getLogger(__name__)


@dataclass
class Trainer:
    """Everything that a training run is made of.

    Attributes:
        config: The whole configuration.
        settings: Its section [TRAINING].
        files: What the run writes.
        fabric: Device, precision and processes.
        model: The autoencoder.
        forward: The same, wrapped by Fabric.
        criterion: The training loss.
        optimizer: Adam on the trained parameters.
        scheduler: One cycle over all steps.
        sampler: Order of the training images.
        loader: Batches of training images.
        dataset: The training images.
        validation: The validation images.
        validation_batches: Batches of them.
        scorer: What scores them.
        progress: Finished epochs.
    """

    config: Config
    settings: TrainingConfig
    files: TrainingFiles
    fabric: Fabric
    model: QFormerAutoencoder
    forward: Any
    criterion: WeightedCriteria
    optimizer: Any
    scheduler: OneCycleLR
    sampler: EpochSampler
    loader: Any
    dataset: AnomalyDataset
    validation: AnomalyDataset
    validation_batches: Any
    scorer: Scorer
    progress: Progress

    def run(self) -> None:
        """Train the epochs that are left; writes all files of the run.

        Raises:
            UserError: The loss is not finite, a file cannot be read or written.
            Interrupted: SIGTERM or SIGINT arrived; the last finished epoch is saved.
        """
        with stop_requests_noted() as stop_requests, ExitStack() as stack:
            log = None
            if self.fabric.is_global_zero:
                log = TensorboardLog(self.files.tensorboard, self.progress.rows)
                stack.callback(log.close)
            try:
                while self.progress.epoch < self.settings.n_epochs:
                    row = self._run_epoch(self.progress.epoch + 1, stop_requests)
                    if log is not None:
                        log.add(row)
            except (LoaderDied, ProcessLost) as death:
                # Terminals and schedulers signal all processes: others may be faster to stop.
                if stop_requests:
                    raise Interrupted(self._how_to_go_on(stop_requests[0])) from death
                raise

    @lost_processes_told()
    @loader_deaths_told()
    def _run_epoch(self, epoch: int, stop_requests: list[int]) -> Row:
        row = self._train_epoch(epoch, stop_requests)
        if epoch == self.settings.n_epochs or epoch % self.settings.eval_stepsize == 0:
            row |= self._validate()
        self._finish_epoch(row)
        return row

    def _train_epoch(self, epoch: int, stop_requests: list[int]) -> Row:
        fabric, started = self.fabric, time.perf_counter()
        losses = LossWatch(epoch, self.dataset.split, self.files.last, fabric.device)
        self.sampler.epoch = epoch
        # Anew in each epoch, so that resumed and unbroken runs draw the same numbers.
        torch.manual_seed(derive_seed(self.settings.seed, "epoch", epoch, fabric.global_rank))
        self.forward.train()
        # What batches at the end of an epoch left over when they were too few for a step.
        self.optimizer.zero_grad(set_to_none=True)
        with tqdm(
            self.loader, f"epoch {epoch}/{self.settings.n_epochs}", len(self.loader), unit="batch",
            leave=False, disable=not fabric.is_global_zero,
        ) as bar:  # fmt: skip
            for number, batch in enumerate(bar, start=1):
                images = normalise(batch["image"])
                whole = number % self.settings.accumulate == 0
                with fabric.no_backward_sync(self.forward, enabled=not whole):
                    reconstructions = self.forward(images)
                    with fabric.autocast():
                        loss = self.criterion.loss(images, reconstructions)
                    fabric.backward(loss / self.settings.accumulate)
                if whole:
                    self.optimizer.step()
                    self.optimizer.zero_grad(set_to_none=True)
                    self.scheduler.step()
                losses.add(loss.detach(), batch["index"])
                if losses.look():
                    bar.set_postfix(self._postfix(losses, started), refresh=False)
                if stop_requests:
                    raise Interrupted(self._how_to_go_on(stop_requests[0]))
        mean_losses = gather(fabric, losses.mean())
        seconds = time.perf_counter() - started
        return {
            "epoch": epoch,
            "train_loss": sum(mean_losses) / len(mean_losses),
            "lr": float(self.scheduler.get_last_lr()[0]),
            "seconds": round(seconds, 2),
            "images_per_second": round(losses.num_images * fabric.world_size / seconds, 2),
        }

    def _postfix(self, losses: LossWatch, started: float) -> dict[str, str]:
        images = losses.num_images * self.fabric.world_size
        return {
            "loss": f"{losses.latest:.4f}",
            "lr": f"{self.scheduler.get_last_lr()[0]:.1e}",
            "img/s": f"{images / (time.perf_counter() - started):.1f}",
        }

    def _how_to_go_on(self, signal_number: int) -> str:
        stopped = f"stopped by {signal.Signals(signal_number).name}"
        if not self.progress.epoch:
            return f"{stopped}; no epoch was finished: give the same command again"
        if not self.settings.save_model_ckpt:
            return f"{stopped}; SAVE_MODEL_CKPT = 0, nothing is saved: start anew with --overwrite"
        saved = f"{self.progress.epoch} finished epochs are saved in {self.files.state}"
        return f"{stopped}; {saved}: go on with --resume"

    def _validate(self) -> Row:
        split = self.validation.split
        pixel = PixelCollector(self.settings.seed, replicates=0)
        scores = evaluate(
            self.scorer,
            self.validation,
            self.validation_batches,
            description="validation",
            collectors=[pixel] if split.has_masks else [],
        )
        metrics = image_metrics(split.labels, scores)
        if split.has_masks:
            metrics |= pixel.metrics.compute()
        return {name: metrics.get(name.removeprefix("val_")) for name in VALIDATION_COLUMNS}

    def _finish_epoch(self, row: Row) -> None:
        self.progress.epoch = int(row["epoch"] or 0)
        self.progress.rows.append(row)
        auroc = row.get("val_image_auroc")
        best = auroc is not None and auroc > (self.progress.best_auroc or -1.0)
        if best:
            self.progress.best_auroc = auroc
        if self.fabric.is_global_zero:
            logger.info(_describe(row))
            if self.settings.save_model_ckpt:
                self._save(best=best)
            self._write_table()
        self.fabric.barrier()

    def _write_table(self) -> None:
        self.progress.write_table(self.files.table)
        plot_curves(self.progress.rows, self.files.curves)

    def _save(self, *, best: bool) -> None:
        full = self.settings.checkpoint_content == "full"
        weights = self.model.state_dict() if full else self.model.trained_state_dict()
        parts = {
            "model": self.model.trained_state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        if best and not self._validates_on_test_split():
            save_tensors(self.files.best, weights)
        save_tensors(self.files.last, weights)
        save_state(self.files.state, self.progress, ini_values(self.settings), parts)

    def _validates_on_test_split(self) -> bool:
        testing = self.config.testing
        return testing is not None and same_folder(
            self.settings.val_data_path, testing.test_data_path
        )

    def resume(self) -> None:
        """Take up the last finished epoch.

        Raises:
            UserError: There is none, or it was written with another config.
        """
        self.progress, parts = load_state(self.files.state, ini_values(self.settings))
        load_model(self.model, parts.get("model", {}), source=self.files.state)
        try:
            self.optimizer.load_state_dict(parts["optimizer"])
            self.scheduler.load_state_dict(parts["scheduler"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.files.state}: is damaged ({error}); start anew with --overwrite"
            ) from error
        logger.info("resuming after epoch %d", self.progress.epoch)
        if self.fabric.is_global_zero:
            # A kill after the state was written leaves the table one row behind.
            self._write_table()


def _describe(row: Row) -> str:
    parts = [f"epoch {row['epoch']}: loss {row['train_loss']:.4f}", f"{row['seconds']:.1f} s"]
    for key, name in (("val_image_auroc", "image AUROC"), ("val_pixel_auroc", "pixel AUROC")):
        if row.get(key) is not None:
            parts.append(f"validation {name} {row[key]:.4f}")
    return ", ".join(parts)


def create_trainer(config: Config) -> Trainer:
    """Check everything that can be checked, then build a run.

    Raises:
        UserError: Config, data or weights are not as they should be.
    """
    settings = config.need_training()
    check_geometry(settings, ("TRAIN", "VAL"), file=config.file, section="TRAINING")
    if settings.model_ckpt_path:
        check_snapshot(settings, settings.model_ckpt_path, file=config.file, section="TRAINING")
    train_split = find_normal_images(
        settings.train_data_path, key="TRAIN_DATA_PATH", axis=settings.slice_axis
    )
    val_split = find_split(settings.val_data_path, key="VAL_DATA_PATH", axis=settings.slice_axis)
    train_split = train_split.cut(settings.max_samples_train, settings.seed)
    val_split = val_split.cut(settings.max_samples_val, settings.seed)
    fabric = create_fabric(settings)
    # Before the weights: what is wrong with the images is told sooner.
    dataset, validation = (verified_dataset(each, settings) for each in (train_split, val_split))
    torch.manual_seed(settings.seed)
    model = build_autoencoder(settings, settings.model_ckpt_path)
    specs = [CriterionSpec.of(settings, kind) for kind in ("TRAIN", "VAL")]
    train_criterion, val_criterion = build_criteria(settings, specs)
    place(fabric, model, keep_frozen=settings.checkpoint_content == "full")
    for criterion in (train_criterion, val_criterion):
        place(fabric, criterion)
    if settings.batch_size_train == "auto":
        batch_size = find_batch_size(
            fabric, model, train_criterion, img_size=settings.resize, num_images=len(dataset)
        )
        config = config.with_batch_size(batch_size)
        settings = config.need_training()
    sampler, loader = _train_batches(settings, fabric, dataset)
    optimizer = torch.optim.Adam(
        model.trained_parameters(), lr=settings.lr, fused=fabric.device.type == "cuda"
    )
    scheduler = OneCycleLR(
        optimizer,
        max_lr=settings.lr,
        pct_start=0.15,
        total_steps=settings.n_epochs * (len(loader) // settings.accumulate),
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
            forward,
            val_criterion,
            Reductions.of(settings),
            static_batch=settings.batch_size_test if settings.compile else None,
        ),
        progress=Progress(),
    )


def _train_batches(
    settings: TrainingConfig, fabric: Fabric, dataset: AnomalyDataset
) -> tuple[EpochSampler, Any]:
    sampler = EpochSampler(
        len(dataset), settings.seed, rank=fabric.global_rank, world_size=fabric.world_size
    )
    loader = train_loader(
        TrainDataset(dataset, settings.seed),
        sampler,
        batch_size=_batch_size_of_a_process(settings, fabric),
        num_workers=settings.num_workers,
        pin=fabric.device.type == "cuda",
    )
    if len(loader) < settings.accumulate:
        raise UserError(
            f"ACCUMULATE = {settings.accumulate}: an epoch has {len(loader)} batches; lower it"
        )
    return sampler, loader


def _batch_size_of_a_process(settings: TrainingConfig, fabric: Fabric) -> int:
    """BATCH_SIZE_TRAIN is shared by all processes, so that their number changes no result."""
    size, rest = divmod(int(settings.batch_size_train), fabric.world_size)
    if rest:
        raise UserError(
            f"BATCH_SIZE_TRAIN = {settings.batch_size_train}: cannot be shared evenly by "
            f"{fabric.world_size} processes; give a multiple"
        )
    return size


def train(config: Config, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train as the config says; returns the folder of the results.

    Args:
        config: A config with a section [TRAINING].
        resume: Go on from the last finished epoch.
        overwrite: Start anew although the folder holds a run.

    Raises:
        UserError: Something the user can mend.
        Interrupted: SIGTERM or SIGINT arrived.
    """
    settings = config.need_training()
    files = TrainingFiles(settings.results_path)
    check_results_folder(config, files.folder)
    if files.run_exists() and not (resume or overwrite):
        raise UserError(
            f"RESULTS_PATH: {files.folder} holds a training run already; go on with --resume, "
            "start anew with --overwrite, or give another folder"
        )
    if overwrite and settings.model_ckpt_path and files.holds(settings.model_ckpt_path):
        raise UserError(
            f"MODEL_CKPT_PATH: {settings.model_ckpt_path} is what --overwrite replaces; give "
            "another RESULTS_PATH"
        )
    if resume and settings.batch_size_train == "auto":
        config = config.with_batch_size(saved_batch_size(files.state))
    trainer = create_trainer(config)
    with ExitStack() as stack:
        if trainer.fabric.is_global_zero:
            stack.enter_context(one_trainer_in(files.folder))
            if overwrite:
                files.remove_run()
        if resume:
            trainer.resume()
        if trainer.fabric.is_global_zero:
            write_text(files.config, ini_text(trainer.config))
        trainer.run()
    return files.folder
