"""The README's table of speeds, from what ``benchmarks.throughput`` has measured.

    python -m benchmarks.speed_table

Run from the repository's root; the table is written anew in its place.
"""

import json
from pathlib import Path
from statistics import median

from benchmarks.measurement import Measurement
from benchmarks.throughput import OURS, PUBLISHED, table_line

FOLDER = Path(__file__).parent
README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- speed -->\n", "<!-- end -->\n"
# Column → the file of its run, in which this code and the published way took turns.
RUNS = {"bf16": "cpu-bf16.json", "fp32": "cpu-fp32.json"}


def table() -> str:
    """Seconds of a step and memory in both precisions, against the published way in fp32."""
    runs = {name: _read(FOLDER / file) for name, file in RUNS.items()}
    first = runs["bf16"][OURS][0]
    machine = first.machine.rpartition(",")[0]
    head = [f"`configs/brain.ini` (ViT-L), batch {first.batch}; {machine}"]
    lines = [[*head, *runs], ["---"] * (len(runs) + 1)]
    for index, kind in enumerate(("training", "testing")):
        cells = [f"{kind}, seconds per step"]
        for run in runs.values():
            ours, published = (run[variant][index] for variant in (OURS, PUBLISHED))
            ratio = median(published.seconds) / median(ours.seconds)
            cells.append(f"{_seconds(ours)} against {_seconds(published)}: **{ratio:.2f} ×**")
        lines.append(cells)
    cells = ["memory of training; testing, GB"]
    for run in runs.values():
        pairs = zip(run[OURS], run[PUBLISHED], strict=True)
        memory = [[each.peak_bytes / 1e9 for each in pair] for pair in pairs]
        cells.append("; ".join(f"{ours:.1f} against {other:.1f}" for ours, other in memory))
    return "".join(f"{table_line(line)}\n" for line in [*lines, cells])


def _read(path: Path) -> dict[str, list[Measurement]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: [Measurement(**each) for each in found] for name, found in content.items()}


def _seconds(measurement: Measurement) -> str:
    """Median, shortest and longest."""
    seconds = measurement.seconds
    return f"{median(seconds):.2f} ({min(seconds):.2f} – {max(seconds):.2f})"


def with_table(page: str) -> str:
    """The page with the table between its marks written anew."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
