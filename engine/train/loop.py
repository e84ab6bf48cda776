"""The training loop, on normal images only."""

import logging
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from datasets.dataset import AnomalyDataset, EpochSampler, derive_seed
from datasets.transforms import normalise
from engine.evaluate.evaluate import evaluate
from engine.evaluate.scorer import Scorer
from engine.metrics.collectors import PixelMetrics
from engine.metrics.curves import image_metrics
from engine.runtime.process import gather
from engine.train.loss_watch import LossWatch, check_weights
from engine.train.screen import HEADER, TESTS_ON_VALIDATION, epoch_line, forecast, plan
from engine.train.state import COLUMNS, VALIDATION_COLUMNS, Progress, Row, load_state, save_state
from engine.train.tensorboard import TensorboardLog
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria
from utils.checkpoints import load_model, save_tensors
from utils.config.load import Config, ini_values
from utils.config.schema import TrainingConfig
from utils.errors import UserError
from utils.files import write_csv
from utils.run_files import TrainingFiles, same_folder

logger = logging.getLogger(__name__)


@dataclass
class Trainer:
    """Everything that a training run is made of."""

    config: Config  # the whole configuration; ``settings`` is its section [TRAINING]
    settings: TrainingConfig
    files: TrainingFiles  # what the run writes
    fabric: Fabric  # device, precision and processes
    model: QFormerAutoencoder  # the autoencoder; ``forward`` is the same, wrapped by Fabric
    forward: Any
    criterion: WeightedCriteria  # the training loss
    optimizer: Any
    scheduler: OneCycleLR
    sampler: EpochSampler  # order of the training images; ``loader`` gives batches of them
    loader: Any
    dataset: AnomalyDataset  # the training images
    # The validation images; ``validation_batches`` are this process's share.
    validation: AnomalyDataset
    validation_batches: Any
    scorer: Scorer
    progress: Progress = field(default_factory=Progress)  # what is done

    def run(self) -> None:
        """Train the epochs that are left; writes all files of the run."""
        first, last = self.progress.epoch + 1, self.settings.n_epochs
        started = time.perf_counter()
        # The first process writes event files, the others have none.
        zero = self.fabric.is_global_zero
        opened = closing(TensorboardLog(self.files.tensorboard, first)) if zero else nullcontext()
        with opened as log:
            num_training, num_validation = len(self.dataset), len(self.validation)
            logger.info(plan(self.settings, num_training, num_validation, len(self.loader)))
            for epoch in range(first, last + 1):
                row = self._train_epoch(epoch, foretold=epoch > first)
                if epoch == last or epoch % self.settings.eval_stepsize == 0:
                    row |= self._validate()
                # Before the state, which ends the epoch: a row written twice is shown once.
                if log is not None:
                    log.add(row)
                self._finish_epoch(row)
                left = (time.perf_counter() - started) / (epoch + 1 - first) * (last - epoch)
                if epoch == first:
                    logger.info(HEADER)
                logger.info(epoch_line(row, last, left, self.progress.best_auroc))
        if self._validates_on_test_split():
            logger.warning(TESTS_ON_VALIDATION, self.settings.val_data_path)

    def _train_epoch(self, epoch: int, *, foretold: bool) -> Row:
        fabric, settings = self.fabric, self.settings
        losses = LossWatch(epoch, self.dataset.split, self.files.last, fabric.device)
        self.sampler.epoch = epoch
        # Seeded again in each epoch, so that resumed and unbroken runs draw the same numbers.
        torch.manual_seed(derive_seed(settings.seed, "epoch", epoch, fabric.global_rank))
        self.forward.train()
        # Drop gradients of batches at the end of an epoch that were too few for a step.
        self.optimizer.zero_grad(set_to_none=True)
        started, looks = time.perf_counter(), list[tuple[int, float]]()
        with tqdm(
            self.loader, f"epoch {epoch}/{settings.n_epochs}", leave=False, unit=" images",
            unit_scale=settings.batch_size_train, disable=None if fabric.is_global_zero else True,
        ) as bar:  # fmt: skip
            for number, batch in enumerate(bar, start=1):
                images = normalise(batch["image"])
                whole = number % settings.accumulate == 0
                with fabric.no_backward_sync(self.forward, enabled=not whole):
                    reconstructions = self.forward(images)
                    with fabric.autocast():
                        loss = self.criterion.loss(images, reconstructions)
                    fabric.backward(loss / settings.accumulate)
                if whole:
                    self.optimizer.step()
                    self.optimizer.zero_grad(set_to_none=True)
                    rate = self.scheduler.get_last_lr()[0]
                    self.scheduler.step()
                losses.add(loss.detach(), batch["index"])
                if losses.look():
                    bar.set_postfix_str(f"loss {losses.latest:.4f}", refresh=False)
                    looks.append((number, time.perf_counter()))
                    if len(looks) == 2 and not foretold:
                        # The first steps start processes and kernels.
                        (before, then), (_, now) = looks
                        left = len(self.loader) * (settings.n_epochs - epoch + 1) - number
                        logger.info(forecast((now - then) / (number - before) * left))
        mean_losses = gather(fabric, losses.mean())
        seconds = time.perf_counter() - started
        check_weights(self.model.trained_state_dict(), epoch, self.files.last)
        return {
            "epoch": epoch,
            "train_loss": sum(mean_losses) / len(mean_losses),
            "lr": float(rate),
            "seconds": round(seconds, 2),
            "images_per_second": round(losses.num_batches * settings.batch_size_train / seconds, 2),
            "query_std": self.model.junction.query_std(),
        }

    def _validate(self) -> Row:
        split = self.validation.split
        pixel = PixelMetrics()
        scores = evaluate(
            self.scorer,
            self.validation,
            self.validation_batches,
            description="validation",
            collectors=[pixel] if split.has_masks else [],
        ).model
        metrics = image_metrics(split.labels, scores)
        if split.has_masks:
            metrics |= pixel.compute()
        return {name: metrics.get(name.removeprefix("val_")) for name in VALIDATION_COLUMNS}

    def _finish_epoch(self, row: Row) -> None:
        best = self.progress.add(row)
        if self.fabric.is_global_zero:
            if self.settings.save_model_ckpt:
                self._save(best=best)
            self._write_table()
        self.fabric.barrier()

    def _write_table(self) -> None:
        # Here, because matplotlib takes as long to import as a small epoch to train.
        from utils.plots import plot_curves

        rows = self.progress.rows
        write_csv(self.files.table, COLUMNS, ([row.get(name) for name in COLUMNS] for row in rows))
        plot_curves(rows, self.files.curves)

    def _save(self, *, best: bool) -> None:
        trained = self.model.trained_state_dict()
        full = self.settings.checkpoint_content == "full"
        weights = self.model.state_dict() if full else trained
        if best and not self._validates_on_test_split():
            save_tensors(self.files.best, weights)
        save_tensors(self.files.last, weights)
        parts = {
            "model": trained,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        save_state(self.files.state, self.progress, self._compared(), parts)

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
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.files.state}: is damaged ({error}); start over with --overwrite"
            ) from error
        done = self.progress.epoch
        if done >= self.settings.n_epochs:
            logger.info("all %d epochs (N_EPOCHS) are already trained; nothing to do", done)
        else:
            logger.info("resuming after epoch %d", done)
        if self.fabric.is_global_zero:
            # A kill after the state was written leaves the table one row behind.
            self._write_table()
