"""Files of the hub that a config names: the commits of ``hf://`` addresses, the checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from utils.config.load import Config
from utils.config.rules import of_encoder
from utils.config.schema import SectionConfig, TestingConfig
from utils.hub import HubFile, fetch, pin

_KEYS = ("model_weights", "perceptual_weights", "model_ckpt_path", "checkpoint_path")


def pinned(config: Config, section: str) -> Config:
    """A config that names files of the hub by their commits, so that its record says which.

    Args:
        config: Read from an INI file.
        section: TRAINING or TESTING, the one that will run; in the other one, only addresses that
            both share are pinned.
    """
    used = config.need_training() if section == "TRAINING" else config.need_testing()
    pins = {
        source: pin(source, key=name.upper(), cache_dir=_cache_dir(used, name, index))
        for name in _KEYS
        for index, source in enumerate(_as_tuple(getattr(used, name, None)))
        if isinstance(source, HubFile)
    }

    def swapped(value: Any) -> Any:
        return tuple(map(swapped, value)) if isinstance(value, tuple) else pins.get(value, value)

    def changed(settings: Any) -> Any:
        names = [name for name in _KEYS if hasattr(settings, name)]
        update = {name: swapped(getattr(settings, name)) for name in names}
        return settings and settings.model_copy(update=update)

    return replace(config, training=changed(config.training), testing=changed(config.testing))


def _cache_dir(config: SectionConfig, name: str, index: int) -> Path:
    return of_encoder(config.cache_dir, index if name == "model_weights" else 0)


def _as_tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def checkpoint_files(config: TestingConfig) -> list[Path]:
    """The files of CHECKPOINT_PATH, downloaded where need be; they may be missing."""
    return [
        fetch(source, key="CHECKPOINT_PATH", cache_dir=config.cache_dir[0])
        if isinstance(source, HubFile)
        else source
        for source in config.checkpoints
    ]


def beside_checkpoint(config: TestingConfig, suffix: str) -> Path:
    """Where what belongs to the checkpoint is kept: beside it, with another suffix.

    Of one from the hub, in RESULTS_PATH: its cache may be shared, read-only or emptied. Of several
    too: it belongs to none of them.
    """
    checkpoint, *others = config.checkpoints
    if others:
        checkpoint = config.results_path / "ensemble.pth"
    if isinstance(checkpoint, HubFile):
        # Two of an ensemble may differ in their folders only.
        name = f"{checkpoint.repo}/{checkpoint.path}".replace("/", "-")
        checkpoint = config.results_path / name
    return checkpoint.with_suffix(suffix)
