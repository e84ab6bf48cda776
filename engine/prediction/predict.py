"""The work of run_predict.py: files without labels to tables, maps, overlays and a report."""

import logging
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from datasets.dataset import create_loader
from datasets.folders.inputs import common_folder, find_inputs
from datasets.folders.samples import Sample
from datasets.folders.slicing import Slicing
from datasets.prediction_dataset import PredictionDataset, Unreadable
from datasets.readers.base import optional_package
from datasets.readers.formats import shown
from engine.evaluate.cases import Case
from engine.prediction.results import PredictionFiles
from engine.prediction.volume_files import VolumeFiles
from engine.predictor import Predictor
from engine.report.pages import write_prediction_report
from engine.report.runs import PredictionRun
from engine.run_folder import check_results_folder
from utils.config.load import Config
from utils.errors import UserError
from utils.run_files import TestFiles

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """What a prediction writes, and where."""

    folder: Path | None = None  # None for ``predictions`` under RESULTS_PATH
    overwrite: bool = False  # replace the results of another prediction
    maps: bool = True  # write maps
    overlays: bool = True  # write overlays, where there is a colour scale
    # Write DICOM SEG objects of DICOM series, where there is a pixel threshold.
    dicom_seg: bool = False


def predict(
    config: Config,
    sources: Sequence[Path],
    output: Output,
    recursive: bool = False,
    threshold: float | None = None,
) -> int:
    """Score images without labels; a file that cannot be read does not stop the others.

    Args:
        config: A config with a section [TESTING].
        sources: Image files, volumes, and folders of them.
        output: What to write.
        recursive: Whether subfolders are searched too.
        threshold: Instead of the one learnt on validation images.

    Returns:
        How many files could not be read, or their maps not written.
    """
    settings = config.need_testing()
    if output.dicom_seg:
        optional_package("highdicom", use="writes DICOM SEG")
    files = _result_files(config, sources, output, recursive)
    problems: list[tuple[Path, str]] = []
    samples = find_inputs(sources, recursive, slicing=Slicing.of(settings), problems=problems)
    files.errors += [(str(path), problem) for path, problem in problems]
    predictor = Predictor.from_config(config, threshold=threshold)
    # Now that there will be new ones.
    files.remove()
    # An output that cannot be written is reported before the work.
    files.write_errors()
    if predictor.colours is None:
        logger.warning(
            "nothing was learnt from validation images, so there are no overlays and no report"
        )
    highest: list[Case] = []
    volumes = VolumeFiles(files, predictor, maps=output.maps, dicom_seg=output.dicom_seg)
    _score(predictor, samples, files, volumes, highest)
    files.write_tables(predictor.colours)
    _write_report(config, predictor, files, volumes, highest)
    print(volumes.summary() + files.summary(predictor.threshold))
    return len(files.errors)


def _score(
    predictor: Predictor,
    samples: Sequence[Sample],
    files: PredictionFiles,
    volumes: VolumeFiles,
    highest: list[Case],
) -> None:
    """Score all samples, and write what belongs to each image and each volume."""
    settings = predictor.settings
    loader = create_loader(
        PredictionDataset(samples, settings.resize, settings.window),
        batch_size=settings.batch_size_test,
        num_workers=settings.num_workers,
        collate_fn=list,
    )
    with tqdm(total=len(samples), desc="prediction", unit="img", leave=False, disable=None) as bar:
        for inputs in loader:
            for each, prediction in predictor.score_readable(inputs):
                volumes.turn_to(each.sample)
                if name := each.sample.volume_name:
                    bar.set_postfix_str(name.name, refresh=False)
                if isinstance(each, Unreadable):
                    volumes.miss()
                    files.note_error(each.sample, each.error)
                    continue
                volumes.add(each.sample, prediction)
                if prediction is None:
                    files.write_background(each.sample)
                    continue
                files.write_image(each.sample, prediction, predictor)
                insort(highest, prediction.case, key=lambda case: -case.score)
                del highest[settings.report_images :]
            bar.update(len(inputs))
    volumes.write_table()


def _write_report(
    config: Config,
    predictor: Predictor,
    files: PredictionFiles,
    volumes: VolumeFiles,
    highest: Sequence[Case],
) -> None:
    """Write report.html, where there is a calibration."""
    if predictor.calibration is None or predictor.threshold is None:
        return
    run = PredictionRun(
        config,
        predictor.calibration,
        predictor.threshold,
        predictor.volume_threshold,
        scores=files.scores,
        images=highest,
        volumes=volumes.report.entries,
        errors=files.errors,
    )
    write_prediction_report(run, files.folder / "report.html")


def _result_files(
    config: Config, sources: Sequence[Path], output: Output, recursive: bool
) -> PredictionFiles:
    """Where results go; it has those of another prediction only if they may be replaced."""
    folder = output.folder or config.need_testing().results_path / "predictions"
    key = "--output" if output.folder else "RESULTS_PATH"
    check_results_folder(config, folder, key=key)
    inside = (folder.resolve(), *(folder.resolve().parents if recursive else ()))
    if any(source.is_dir() and source.resolve() in inside for source in sources):
        raise UserError(
            f"{key}: {shown(folder)} is inside --input, so its pictures would become inputs; "
            "choose another folder"
        )
    of_test = TestFiles(folder)
    # An interrupted test has no metrics yet.
    if of_test.metrics.exists() or of_test.histogram.exists():
        raise UserError(
            f"{key}: {shown(folder)} contains the results of a test; choose another folder"
        )
    files = PredictionFiles(folder, common_folder(sources), output.maps, output.overlays)
    if files.exist() and not output.overwrite:
        raise UserError(
            f"{shown(folder)} contains the results of another prediction; replace them with "
            "--overwrite, or choose another folder with --output"
        )
    return files
