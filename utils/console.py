"""What a run says on the terminal."""

from __future__ import annotations

import logging
import warnings

from tqdm import tqdm

# What libraries say that is no news to a user of this program.
_NOISE = (
    r".*lr_scheduler\.step.*before.*optimizer\.step.*",
    r".*epoch parameter in .*scheduler.*",
)


class _BarHandler(logging.Handler):
    """Writes above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))


def setup_logging() -> None:
    """Send our messages to the terminal; libraries speak up from warnings on."""
    handler = _BarHandler()
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for room in ("models", "datasets", "engine", "utils"):
        logging.getLogger(room).setLevel(logging.INFO)
    for pattern in _NOISE:
        warnings.filterwarnings("ignore", pattern)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return prefix + super().format(record)
