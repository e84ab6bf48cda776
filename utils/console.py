"""What a run says on the terminal."""

import io
import logging
import os
import sys
import warnings

from tqdm import tqdm

# Chatty libraries: show only their errors. A filter, since some set their own log level when they
# are imported.
_TALKATIVE = (
    *("lightning", "huggingface_hub", "onnxscript", "timm", "highdicom"),
    *("PIL", "pydicom", "nibabel", "tifffile"),
)


class _Handler(logging.Handler):
    """Writes above the progress bar instead of through it, each message once."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self.addFilter(
            lambda record: record.levelno >= logging.ERROR or not record.name.startswith(_TALKATIVE)
        )
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = prefix + self.format(record)
        # The calibration after a training builds and says much of the same again.
        if text not in self._said:
            self._said.add(text)
            tqdm.write(text)


def setup_logging() -> logging.Logger:
    """Send our messages to the terminal; of libraries only errors.

    Of several processes, only the first one shows messages that are not errors.

    Returns:
        A logger for the script's own messages.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[_Handler()], force=True)
    for folder in ("models", "datasets", "engine", "utils", "app"):
        logging.getLogger(folder).setLevel(logging.INFO)
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) != "0":
        logging.disable(logging.WARNING)
    # It has its own handler.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        # For spawned processes.
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Flush each line, even into a file.
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    return logging.getLogger("utils")
