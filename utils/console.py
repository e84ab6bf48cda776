"""What a run says on the terminal."""

import io
import logging
import os
import sys
import warnings

from tqdm import tqdm

# Libraries that tell what is no news to our users: of them, errors only. Some set their level
# where they are imported, whatever it was before.
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
        # A training is followed by a calibration, which builds and says much once more.
        if text not in self._said:
            self._said.add(text)
            tqdm.write(text)


def setup_logging() -> logging.Logger:
    """Send our messages to the terminal; libraries speak up in errors only.

    Of several processes the first one speaks, the others in errors only too.

    Returns:
        For what a script itself has to say.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[_Handler()], force=True)
    for folder in ("models", "datasets", "engine", "utils", "app"):
        logging.getLogger(folder).setLevel(logging.INFO)
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) != "0":
        logging.disable(logging.WARNING)
    # It has a handler of its own.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        # For processes that are not forked.
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # In a file, too, a line is there when it is said.
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    return logging.getLogger("utils")
