"""Several configs, several seeds: each trained and tested, all metrics in one table.

Each run is a separate process: a crash or a full memory ends only that run, and the device's
memory is free for the next one.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.benchmark.table import run_folder, test_files, write_tables
from engine.hub_files import pinned
from utils.config.load import ini_values, load_config
from utils.config.schema import NUMBERS, SectionConfig, differences
from utils.errors import UserError, printable
from utils.run_files import TrainingFiles

SCRIPTS = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """One config with one seed."""

    output: Path  # folder of all runs
    config: Path  # the INI file
    seed: int  # instead of its SEED
    overrides: tuple[str, ...]  # ``KEY=VALUE``, before those that say where the run goes

    @property
    def name(self) -> str:
        """What the run is called on the terminal."""
        return f"{self.config.stem}, seed {self.seed}"

    @property
    def files(self) -> TrainingFiles:
        """The files of the training."""
        return TrainingFiles(run_folder(self.output, self.config.stem, self.seed))

    @property
    def log(self) -> Path:
        """What training and test print."""
        return self.files.folder / "log.txt"

    @property
    def changes(self) -> list[str]:
        """All that is not as in the INI file."""
        return [
            *self.overrides,
            f"SEED={self.seed}",
            "SAVE_MODEL_CKPT=1",
            f"TRAINING.RESULTS_PATH={self.files.folder}",
            f"TESTING.RESULTS_PATH={test_files(self.files.folder).folder}",
            f"CHECKPOINT_PATH={self.files.last}",
        ]

    def command(self, script: str, *arguments: str) -> list[str]:
        """The command line of one of the scripts."""
        settings = [part for change in self.changes for part in ("--set", change)]
        path = str(SCRIPTS / script)
        return [sys.executable, path, "--config", str(self.config), *settings, *arguments]


def benchmark(
    configs: Sequence[Path], seeds: Sequence[int], *, output: Path, overrides: Sequence[str] = ()
) -> dict[str, str]:
    """Make all runs that are not done, and write ``benchmark.csv`` and ``benchmark.md``.

    Args:
        configs: INI files; their names without suffix name the folders under ``output``.
        seeds: Each config is trained once with each.
        output: Run folders are ``<output>/<config>/seed<seed>``.
        overrides: ``KEY=VALUE`` for all configs.

    Returns:
        Name of a failed run → reason.

    Raises:
        UserError: Two configs share a name, or the table cannot be written.
    """
    stems = [config.stem for config in dict.fromkeys(configs)]
    shared = {stem for stem in stems if stems.count(stem) > 1}
    if shared:
        raise UserError(
            f"--configs: several files are named {', '.join(sorted(shared))}; rename them"
        )
    runs = [
        Run(output, config, seed, tuple(overrides))
        for config in dict.fromkeys(configs)
        for seed in dict.fromkeys(seeds)
    ]
    failures: dict[str, str] = {}
    planned = {(run.config.stem, run.seed): "" for run in runs}
    for run in runs:
        try:
            _make(run)
        except UserError as error:
            reason = "; ".join(printable(line) for line in str(error).splitlines())
            failures[run.name] = planned[run.config.stem, run.seed] = reason
            print(f"{run.name}: failed: {reason}", flush=True)
        write_tables(output, planned)
    print((output / "benchmark.md").read_text(encoding="utf-8"))
    for name, reason in failures.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return failures


def _make(run: Run) -> None:
    """Train and test a run, unless that is done.

    Raises:
        UserError: The config is wrong, or not the one that the finished run was made with; or a
            script failed.
    """
    # Without our own changes first, so that what is wrong in the file is reported only once.
    given = load_config(run.config, run.overrides)
    given.need_training()
    given.need_testing()
    config = load_config(run.config, run.changes)
    if test_files(run.files.folder).metrics.is_file():
        # As run_test.py did before it wrote its config.ini.
        config = pinned(config, "TESTING")
        _check_same(run, (config.need_training(), config.need_testing()))
        print(f"{run.name}: already done", flush=True)
        return
    has_state = run.files.state.is_file()
    # Without a state, the run in this folder, which is ours, was cut short in its first epoch.
    resume = ["--resume"] if has_state else ["--overwrite"]
    verb = "continues" if has_state else "starts"
    print(f"{run.name}: training {verb}, see {run.log}", flush=True)
    _call(run, run.command("run_training.py", *resume))
    print(f"{run.name}: testing", flush=True)
    _call(run, run.command("run_test.py"))
    if not test_files(run.files.folder).metrics.is_file():
        raise UserError(f"run_test.py wrote no {test_files(run.files.folder).metrics}")


def _check_same(run: Run, sections: Sequence[SectionConfig]) -> None:
    """Raise a UserError if a finished run was made with another config."""
    # Of a folder that was moved, the checkpoint is the same.
    moved = f"CHECKPOINT_PATH={run.files.last}"
    made = load_config(test_files(run.files.folder).config, [moved])
    differing: dict[str, None] = {}
    for old, new in zip((made.need_training(), made.need_testing()), sections, strict=True):
        for key, change in differences(ini_values(old), ini_values(new), NUMBERS).items():
            differing[f"{key}: {change}"] = None
    if differing:
        raise UserError(
            f"{run.files.folder} contains a run with another config ({'; '.join(differing)}); "
            "set another --output, or delete it"
        )


def _call(run: Run, command: Sequence[str]) -> None:
    """Run a script to its end; a UserError with its last line if it fails."""
    code = run_child(command, run.log)
    if code:
        raise UserError(f"{Path(command[1]).name} {_ending(code)}: {_last_line(run.log)}")


def run_child(command: Sequence[str], log: Path) -> int:
    """Run a command, what it prints appended to ``log``; returns its exit code."""
    # A progress bar that is drawn ten times a second would fill the log.
    environment = os.environ | {"TQDM_MININTERVAL": "30", "PYTHONUNBUFFERED": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.run(
            command, stdout=file, stderr=file, env=environment, check=False
        ).returncode


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"exited with code {code}"


def _last_line(log: Path) -> str:
    """The last line that a script printed."""
    text = log.read_bytes()[-4096:].decode("utf-8", "replace")
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no output")
