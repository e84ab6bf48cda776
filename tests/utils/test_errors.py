"""What run_script does for the scripts beside their exit codes."""

import sys
from subprocess import PIPE, Popen

from tests.processes import ROOT, python

# Where signals share the kernels' stack, an Intel processor with AMX aborts in the first second.
PRODUCTS = """
import signal, time
from utils.errors import run_script

def main():
    import torch
    from torch import nn
    from models import onednn

    onednn._FASTER = True  # whatever the processor
    layers = nn.Sequential(nn.Linear(192, 96), nn.Linear(96, 64))
    onednn.use_onednn(layers)
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    values, end = torch.randn(8, 5, 192), time.monotonic() + 1.5
    with torch.no_grad():
        while time.monotonic() < end:
            layers(values)
    signal.setitimer(signal.ITIMER_REAL, 0)

run_script(main)
"""


def test_signals_in_the_middle_of_products_break_nothing() -> None:
    run = python("-c", PRODUCTS)
    assert (run.returncode, run.stderr) == (0, "")


def test_output_that_nobody_reads_to_its_end_is_no_fault() -> None:
    code = "from utils.errors import run_script; run_script(lambda: print('x' * 2**20))"
    with Popen([sys.executable, "-c", code], stdout=PIPE, stderr=PIPE, cwd=ROOT) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.close()
        assert (run.stderr.read(), run.wait()) == (b"", 1)
