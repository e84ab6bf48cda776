"""What run_script does for the scripts beside their exit codes."""

from tests.processes import python

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
