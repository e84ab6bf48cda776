"""The authors' released checkpoints on the BMAD sets that are there, beside the published numbers.

python -m benchmarks.reproduce --set DEVICE=cuda:1 --set PERCEPTUAL_WEIGHTS=mae.safetensors
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from engine.benchmark.table import PUBLISHED
from utils.config.load import load_config
from utils.errors import run_script

# Config → what it is called where it was published, and the folder of its checkpoint.
SETS = {
    "brain": ("Brain_AD", "brain"),
    "liver": ("Liver_AD", "liver"),
    "resc": ("RESC_AD", "retina"),
    "chest": ("Chest_AD", "chest"),
}


def main() -> int:
    """Test each set and print one line for it; 1 where a test failed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--configs", type=Path, default=Path("configs"), metavar="DIR")
    parser.add_argument("--output", type=Path, default=Path("results/reproduce"), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    lines = ["set     paper  authors' checkpoint  here (image AUROC, %)"]
    failed = False
    for name, (experiment, folder) in SETS.items():
        config, results = arguments.configs / f"{name}.ini", arguments.output / name
        changes = [
            *arguments.set,
            f"CHECKPOINT_PATH=hf://ebayar/QFAE-checkpoints/{folder}/last_ckpt.pth",
            f"TESTING.RESULTS_PATH={results}",
        ]
        paper, released, *_ = PUBLISHED[experiment]
        data = load_config(config, changes).need_testing().test_data_path
        measured = f"no data: {data} is missing"
        if data.is_dir():
            sets = [part for change in changes for part in ("--set", change)]
            command = [sys.executable, "run_test.py", "--config", str(config), *sets]
            code = subprocess.run([*command, "--overwrite"], check=False).returncode
            failed |= code != 0
            measured = f"failed: run_test.py left with exit code {code}"
            if code == 0:
                metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
                measured = f"{100 * metrics['image_auroc']:.1f}"
        lines.append(f"{name:6}  {paper:5}  {released:19}  {measured}")
    print("\n".join(lines))
    return int(failed)


if __name__ == "__main__":
    run_script(main)
