"""The training loop: normal images in, a reconstruction that knows nothing else out."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from datasets.anomaly_dataset import AnomalyDataset, EpochSampler, derive_seed
from datasets.reading import LoaderDied, loader_deaths_told
from datasets.transforms import normalise
from engine.collectors import PixelCollector
from engine.evaluation import Scorer, evaluate
from engine.interrupts import ProcessLost, lost_processes_told, stop_requests_noted
from engine.loss_watch import LossWatch, check_weights
from engine.metrics import image_metrics
from engine.runtime import gather
from engine.tensorboard_log import TensorboardLog
from engine.training_state import (
    VALIDATION_COLUMNS,
    Progress,
    Row,
    UnfinishedEpoch,
    check_moments,
    describe,
    load_state,
    save_state,
)
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria
from utils.checkpoints import load_model, save_tensors
from utils.config import Config, ini_values
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
        progress: What is done.
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
            Interrupted: SIGTERM or SIGINT arrived; what is done is saved.
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
                if stop_requests:
                    raise Interrupted
            except (Interrupted, LoaderDied, ProcessLost) as stop:
                # Terminals and schedulers signal all processes: others may be faster to stop.
                if stop_requests:
                    raise Interrupted(self._how_to_go_on(stop_requests[0])) from stop
                raise

    @lost_processes_told()
    @loader_deaths_told()
    def _run_epoch(self, epoch: int, stop_requests: list[int]) -> Row:
        losses = LossWatch(
            epoch, self.dataset.split, self.files.last, self.fabric.device, self.progress.unfinished
        )
        try:
            row = self._train_epoch(losses, stop_requests)
            check_weights(self.model.trained_state_dict(), epoch, self.files.last)
            if epoch == self.settings.n_epochs or epoch % self.settings.eval_stepsize == 0:
                row |= self._validate(stop_requests)
        except Interrupted:
            self._save_unfinished(losses)
            raise
        self._finish_epoch(row)
        return row

    def _begin_epoch(self, epoch: int) -> None:
        unfinished, size = self.progress.unfinished, self.settings.batch_size_train
        self.sampler.epoch = epoch
        done = unfinished.num_batches if unfinished else 0
        self.sampler.start = done * size // self.fabric.world_size
        # Anew in each epoch, so that resumed and unbroken runs draw the same numbers.
        torch.manual_seed(derive_seed(self.settings.seed, "epoch", epoch, self.fabric.global_rank))
        if unfinished and self.fabric.world_size == 1:
            unfinished.set_generators()
        self.forward.train()
        # What batches at the end of an epoch left over when they were too few for a step.
        self.optimizer.zero_grad(set_to_none=True)

    def _train_epoch(self, losses: LossWatch, stop_requests: list[int]) -> Row:
        fabric, epoch = self.fabric, losses.epoch
        self._begin_epoch(epoch)
        with tqdm(
            self._until_stopped(self.loader, stop_requests, self.settings.accumulate),
            f"epoch {epoch}/{self.settings.n_epochs}", len(self.loader), unit="batch",
            initial=losses.num_batches, leave=False, disable=not fabric.is_global_zero,
        ) as bar:  # fmt: skip
            for batch in bar:
                images = normalise(batch["image"])
                whole = (losses.num_batches + 1) % self.settings.accumulate == 0
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
                    bar.set_postfix(self._postfix(losses), refresh=False)
        mean_losses = gather(fabric, losses.mean())
        return {
            "epoch": epoch,
            "train_loss": sum(mean_losses) / len(mean_losses),
            "lr": float(self.scheduler.get_last_lr()[0]),
            "seconds": round(losses.seconds, 2),
            "images_per_second": round(self._images_per_second(losses), 2),
        }

    def _until_stopped(
        self, batches: Any, stop_requests: list[int], batches_a_step: int = 1
    ) -> Iterator[Any]:
        """The same batches; a step that is begun is finished before a signal ends the run."""
        for number, batch in enumerate(batches):
            if stop_requests and number % batches_a_step == 0:
                raise Interrupted
            yield batch

    def _postfix(self, losses: LossWatch) -> dict[str, str]:
        return {
            "loss": f"{losses.latest:.4f}",
            "lr": f"{self.scheduler.get_last_lr()[0]:.1e}",
            "img/s": f"{self._images_per_second(losses):.1f}",
        }

    def _images_per_second(self, losses: LossWatch) -> float:
        return losses.num_batches * self.settings.batch_size_train / losses.seconds

    def _how_to_go_on(self, signal_number: int) -> str:
        stopped = f"stopped by {signal.Signals(signal_number).name}"
        finished, unfinished = self.progress.epoch, self.progress.unfinished
        if finished == self.settings.n_epochs:
            return f"{stopped}; the training is finished: go on with run_test.py"
        if not finished and not unfinished:
            return f"{stopped}; no epoch was finished: give the same command again"
        if not self.settings.save_model_ckpt:
            return f"{stopped}; SAVE_MODEL_CKPT = 0, nothing is saved: start anew with --overwrite"
        saved = f"{finished} finished epochs"
        if unfinished:
            saved += f" and {unfinished.num_batches} of {len(self.loader)} batches of the next one"
        return f"{stopped}; {saved} are saved in {self.files.state}: go on with --resume"

    def _validate(self, stop_requests: list[int]) -> Row:
        split = self.validation.split
        pixel = PixelCollector(self.settings.seed, replicates=0)
        scores = evaluate(
            self.scorer,
            self.validation,
            self._until_stopped(self.validation_batches, stop_requests),
            description="validation",
            collectors=[pixel] if split.has_masks else [],
        )
        metrics = image_metrics(split.labels, scores)
        if split.has_masks:
            metrics |= pixel.metrics.compute()
        return {name: metrics.get(name.removeprefix("val_")) for name in VALIDATION_COLUMNS}

    def _finish_epoch(self, row: Row) -> None:
        self.progress.epoch, self.progress.unfinished = int(row["epoch"] or 0), None
        self.progress.rows.append(row)
        auroc = row.get("val_image_auroc")
        best_so_far = self.progress.best_auroc
        best = auroc is not None and (best_so_far is None or auroc > best_so_far)
        if best:
            self.progress.best_auroc = auroc
        if self.fabric.is_global_zero:
            logger.info(describe(row))
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
        if best and not self._validates_on_test_split():
            save_tensors(self.files.best, weights)
        save_tensors(self.files.last, weights)
        self._save_state(self.progress)

    def _save_unfinished(self, losses: LossWatch) -> None:
        # Several processes hear a signal at different steps: theirs is the last finished epoch.
        alone, begun = self.fabric.world_size == 1, losses.num_batches > 0
        if not (alone and begun and self.settings.save_model_ckpt):
            return
        total = losses.total()
        check_weights(self.model.trained_state_dict(), losses.epoch, self.files.last)
        unfinished = UnfinishedEpoch.now(losses.num_batches, total, losses.seconds)
        progress = replace(self.progress, unfinished=unfinished)
        self._save_state(progress)
        self.progress = progress

    def _save_state(self, progress: Progress) -> None:
        parts = {
            "model": self.model.trained_state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        save_state(self.files.state, progress, self._compared(), parts)

    def _compared(self) -> dict[str, str]:
        """What must be equal where the run is resumed: keys, and the images of both splits."""
        images = {
            "TRAIN_IMAGES": self.dataset.split.summary,
            "VAL_IMAGES": self.validation.split.summary,
        }
        return ini_values(self.settings) | images

    def _validates_on_test_split(self) -> bool:
        testing = self.config.testing
        return testing is not None and same_folder(
            self.settings.val_data_path, testing.test_data_path
        )

    def resume(self) -> None:
        """Take up what is done.

        Raises:
            UserError: There is none, or it was written with another config.
        """
        self.progress, parts = load_state(self.files.state, self._compared())
        load_model(self.model, parts.get("model", {}), source=self.files.state)
        try:
            self.optimizer.load_state_dict(parts["optimizer"])
            self.scheduler.load_state_dict(parts["scheduler"])
            check_moments(self.optimizer.optimizer)
            if self.progress.unfinished:
                self.progress.unfinished.check(len(self.loader), self.settings.accumulate)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.files.state}: is damaged ({error}); start anew with --overwrite"
            ) from error
        unfinished = self.progress.unfinished
        batches = f" and {unfinished.num_batches} batches" if unfinished else ""
        logger.info("resuming after epoch %d%s", self.progress.epoch, batches)
        if self.fabric.is_global_zero:
            # A kill after the state was written leaves the table one row behind.
            self._write_table()
