"""The table of a benchmark: one row per run as CSV, means over seeds as Markdown."""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import hypot, sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t

from utils.config.load import load_config
from utils.errors import UserError, printable
from utils.files import write_csv, write_text
from utils.run_files import TestFiles

METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_aupro")
COUNTS = ("num_images", "num_left_out")
COLUMNS = ("config", "experiment", "seed", "state", *METRICS, *COUNTS, "note")
HEADS = (
    *("config", "runs", "image AUROC", "pooled 95 % interval", "image AP", "pixel AUROC", "AUPRO"),
    *("QFAE, paper", "QFAE, released"),
    *("PatchCore", "PatchCore, pixel AUROC", "PatchCore, AUPRO"),
)
# By EXPERIMENT_NAME, in percent: the last five columns. None if nothing is published.
PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "Brain_AD": (94.3, 94.1, 91.65, 96.97, 85.68),
    "Liver_AD": (65.5, 68.4, 60.28, 96.43, 87.75),
    "RESC_AD": (91.8, 91.9, 91.55, 96.48, 85.84),
    "Chest_AD": (83.8, 84.2, 76.14, None, None),
    "OCT2017_AD": (None, None, 98.57, None, None),
    "Camelyon16_AD": (None, None, 69.34, None, None),
}
_NUM_QUOTED = 5
_NOTE = (
    "Percent, mean ± standard deviation over seeds; the pooled interval is for the mean image "
    "AUROC and covers both seeds and test images."
)
_SOURCES = (
    "Quoted, not measured here: "
    "QFAE, paper: arXiv 2507.18481 v1, image AUROC. "
    "QFAE, released: README of the published code, with its released checkpoints; its test "
    "configs drop the last partial batch, and cut Chest_AD to 9,984 of 17,194 images. "
    "PatchCore: BMAD's result table, arXiv 2306.11876."
)
Row = dict[str, Any]


def run_folder(output: Path, config: str, seed: int) -> Path:
    """Where a run is."""
    return output / config / f"seed{seed}"


def test_files(run: Path) -> TestFiles:
    """Those of a run's test; its metrics make it a finished one."""
    return TestFiles(run / "test")


def write_tables(output: Path, planned: Mapping[tuple[str, int], str]) -> None:
    """Write ``benchmark.csv`` and ``benchmark.md``, atomically.

    Args:
        output: Folder of all runs. Finished ones of earlier calls are in the table too.
        planned: (config, seed) → why the run failed, "" if it did not.
    """
    rows = _rows(output, planned)
    table = ([row.get(name) for name in COLUMNS] for row in rows)
    write_csv(output / "benchmark.csv", COLUMNS, table)
    write_text(output / "benchmark.md", _markdown(rows))


def _rows(output: Path, planned: Mapping[tuple[str, int], str]) -> list[Row]:
    rows = {
        run_folder(output, *run): _row(*run, state="failed" if reason else "not done", note=reason)
        for run, reason in planned.items()
    }
    for file in output.glob("*/seed*/test/metrics.json"):
        folder = file.parent.parent
        seed = folder.name.removeprefix("seed")
        if seed.isdecimal() and rows.get(folder, {}).get("state") != "failed":
            rows[folder] = _finished(folder, int(seed))
    return sorted(rows.values(), key=lambda row: (row["config"], row["seed"]))


def _row(config: str, seed: int, **values: Any) -> Row:
    return dict.fromkeys(COLUMNS, "") | {"config": config, "seed": seed} | values


def _finished(folder: Path, seed: int) -> Row:
    config, files = folder.parent.name, test_files(folder)
    try:
        settings = load_config(files.config).need_testing()
        metrics = json.loads(files.metrics.read_text(encoding="utf-8"))
        values = {name: metrics[name] for name in (*METRICS, *COUNTS)}
        values["interval"] = metrics["intervals_95"]["image_auroc"]
    except (UserError, OSError, ValueError, KeyError, TypeError) as error:
        return _row(config, seed, state="unreadable", note=printable(str(error)))
    return _row(config, seed, state="done", experiment=settings.experiment_name, **values)


def _markdown(rows: Sequence[Row]) -> str:
    """Mean ± standard deviation over seeds, in percent, beside what others report if they do."""
    quotes = any(row["experiment"] in PUBLISHED for row in rows)
    heads = HEADS if quotes else HEADS[:-_NUM_QUOTED]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for config in dict.fromkeys(row["config"] for row in rows):
        cells = _summary([row for row in rows if row["config"] == config])
        lines.append(_line(cells[: len(heads)]))
    lines += ["", _NOTE, *([_SOURCES] if quotes else [])]
    cut = dict.fromkeys(row["config"] for row in rows if row["num_left_out"])
    if cut:
        lines.append(f"MAX_SAMPLES_TEST leaves out test images of: {', '.join(cut)}.")
    done = [row["config"] for row in rows if row["state"] == "done"]
    single = [config for config in dict.fromkeys(done) if done.count(config) == 1]
    if single:
        lines.append(f"One seed gives no spread; pass at least three --seeds: {', '.join(single)}.")
    unfinished = [_line_of(row) for row in rows if row["state"] != "done"]
    return "\n".join([*lines, "", *unfinished]).rstrip() + "\n"


def _summary(rows: Sequence[Row]) -> list[str]:
    done = [row for row in rows if row["state"] == "done"]
    experiment = done[0]["experiment"] if done else ""
    quoted = PUBLISHED.get(experiment, (None,) * _NUM_QUOTED)
    cells = [rows[0]["config"], f"{len(done)} of {len(rows)}"]
    spreads = [_spread(row[metric] for row in done) for metric in METRICS]
    cells += [spreads[0], _pooled(done), *spreads[1:]]
    return [*cells, *("–" if value is None else f"{value:g}" for value in quoted)]


def _spread(values: Iterable[float | None]) -> str:
    """Fractions as percent; a dash if a class or the masks are missing."""
    percents = [100 * value for value in values if value is not None]
    if not percents:
        return "–"
    spread = f" ± {stdev(percents):.2f}" if len(percents) > 1 else ""
    return f"{mean(percents):.2f}{spread}"


def _pooled(rows: Sequence[Row]) -> str:
    """95 % interval of the mean image AUROC, in percent; a dash of less than two runs.

    Seeds are few, so their part follows Student's t, and shrinks with their number. The test
    images are the same in all runs: their part, half a bootstrap interval, does not.
    """
    runs = [row for row in rows if row["interval"] is not None]
    if len(runs) < 2:
        return "–"
    aurocs = [row["image_auroc"] for row in runs]
    of_images = mean((high - low) / 2 for low, high in (row["interval"] for row in runs))
    of_seeds = float(t.ppf(0.975, len(runs) - 1)) * stdev(aurocs) / sqrt(len(runs))
    centre, half = mean(aurocs), hypot(of_images, of_seeds)
    return f"{100 * max(centre - half, 0):.1f} to {100 * min(centre + half, 1):.1f}"


def _line_of(row: Row) -> str:
    reason = f": {row['note']}" if row["note"] else ""
    return f"- {row['config']}, seed {row['seed']}: {row['state']}{reason}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
