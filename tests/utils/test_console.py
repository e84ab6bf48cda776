"""What the terminal shows of what is logged."""

from tests.processes import python

SAID = """
import logging
from utils.console import setup_logging
setup_logging()
for _ in range(2):
    logging.getLogger("datasets.folders").warning("%s: is not read", "a folder")
    logging.getLogger("datasets.folders").warning("%s: is not read", "another")
    logging.getLogger("timm.models").warning("loading")
logging.getLogger("timm.models").error("no such model")
"""


def test_a_message_is_shown_once_and_of_libraries_errors_alone() -> None:
    run = python("-c", SAID)
    assert (run.stdout + run.stderr).splitlines() == [
        "warning: a folder: is not read",
        "warning: another: is not read",
        "error: no such model",
    ]
