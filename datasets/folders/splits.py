"""Where the splits of a data set are: named by a config, or found in a folder."""

from dataclasses import dataclass
from pathlib import Path

from datasets.folders.layouts import NORMAL_NAMES, subfolders
from datasets.readers.formats import shown
from utils.config.load import Config
from utils.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where a split is."""

    name: str  # ``train``, ``valid`` or ``test``
    folder: Path
    key: str  # what named it, for messages


def places_of_config(config: Config) -> list[Place]:
    """The splits that a config names."""
    places = []
    if config.training is not None:
        places.append(Place("train", config.training.train_data_path, "TRAIN_DATA_PATH"))
        places.append(Place("valid", config.training.val_data_path, "VAL_DATA_PATH"))
    if config.testing is not None:
        places.append(Place("test", config.testing.test_data_path, "TEST_DATA_PATH"))
    return places


def places_of_folder(folder: Path) -> list[Place]:
    """The splits below a folder, or the folder itself if it is one.

    Raises:
        UserError: There are none, or two folders could be the same split.
    """
    named = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
    inner = subfolders(folder) if folder.is_dir() else []
    places = []
    for name, spellings in named.items():
        there = [each for each in inner if each.name.casefold() in spellings]
        if len(there) > 1:
            raise UserError(
                f"--data: {shown(folder)} has both {there[0].name} and {there[-1].name}; keep one "
                "of them, or name the splits in a config"
            )
        places += [Place(name, each, "--data") for each in there[:1]]
    if not places and any(each.name.casefold() in NORMAL_NAMES for each in inner):
        places = [Place("test", folder, "--data")]
    if not places:
        none = "has none of the folders train, valid and test"
        what = none if folder.is_dir() else "is not a folder"
        raise UserError(
            f"--data: {shown(folder)} {what}; pass a data set's folder, such as data/Brain"
        )
    return places
