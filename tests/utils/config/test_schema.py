"""A key is added in one place, and counts everywhere by its role."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from pydantic import create_model

from engine.benchmark.runs import Run, _check_same
from engine.benchmark.table import test_files as files_of_test
from engine.evaluate.calibration_file import fingerprint
from engine.run_folder import check_same_test
from engine.snapshot import check_sections
from engine.train.state import Progress, load_state, save_state
from tests.config_helpers import load_text, problems_of, small_ini
from utils.config.docs_tables import PAGE, with_tables
from utils.config.load import ini_text, ini_values
from utils.config.schema import SCHEMAS
from utils.config.shared_keys import Role, key
from utils.config.values import Count
from utils.errors import UserError
from utils.files import write_text

COUNTS = {
    "calibration": {"model", "score"},
    "another's checkpoint": {"model"},
    "resume": {"model", "score", "data"},
    "same test": {"model", "score", "data"},
    "benchmark": {"model", "score", "data"},
}


@pytest.fixture(params=get_args(Role))
def role(request, monkeypatch, tmp_path):
    """Both sections get the key NEW_KEY of this role."""
    monkeypatch.chdir(tmp_path)
    for section, schema in list(SCHEMAS.items()):
        field = (Count, key(request.param, "what a test adds", 1))
        extended = create_model("Extended", __base__=schema, __doc__=schema.__doc__, new_key=field)
        monkeypatch.setitem(SCHEMAS, section, extended)
    return request.param


def refusal(check: Callable[[], object]) -> str:
    try:
        check()
    except UserError as error:
        return str(error)
    return ""


def test_a_new_key_is_read_and_written(tmp_path, role):
    config = load_text(tmp_path, small_ini({"TRAINING.NEW_KEY": "3"}))
    assert "NEW_KEY = 3\n" in ini_text(config)
    assert "NEW_KEY = 1\n" in ini_text(config)
    again = load_text(tmp_path, ini_text(config), ["TESTING.NEW_KEY=2"])
    assert (again.training, ini_values(again.need_testing())["NEW_KEY"]) == (config.training, "2")


def test_a_new_key_is_in_hints_and_errors(tmp_path, role):
    (problem,) = problems_of(tmp_path, small_ini({"TESTING.NEWKEY": "1"}))
    assert problem.text == "unknown key; did you mean NEW_KEY?"
    (problem,) = problems_of(tmp_path, small_ini({"TESTING.NEW_KEY": "x"}))
    assert problem.text == "found 'x'; must be a whole number from 1 to 1000000000"


def test_a_new_key_is_in_the_documentation(role):
    rows = [row for row in with_tables(PAGE.read_text("utf-8")).splitlines() if "`NEW_KEY`" in row]
    expected = f"a whole number from 1 to 1000000000 | `1` | what a test adds | {role}"
    assert rows == [f"| `NEW_KEY` | {expected} |"] * 2


def test_a_new_key_counts_by_its_role(tmp_path, role):
    was = load_text(tmp_path, small_ini())
    now = load_text(tmp_path, small_ini(), ["NEW_KEY=2"])
    testing = now.need_testing()
    write_text(testing.checkpoint_path, "any")
    write_text(testing.results_path / "config.ini", ini_text(was))
    write_text(testing.results_path / "scores.csv", "")
    state = tmp_path / "state.pth"
    save_state(state, Progress(), ini_values(was.need_training()), {})
    run = Run(tmp_path / "benchmark", Path("small.ini"), 0, ())
    write_text(files_of_test(run.files.folder).config, ini_text(was))
    half = load_text(tmp_path, small_ini(), ["TESTING.NEW_KEY=2"])
    moved = f"CHECKPOINT_PATH={run.files.last}"
    of_run = load_text(tmp_path, small_ini(), ["NEW_KEY=2", moved])
    sections = (of_run.need_training(), of_run.need_testing())

    def same_calibration() -> None:
        if fingerprint(testing) != fingerprint(was.need_testing()):
            raise UserError("NEW_KEY")

    checks: dict[str, Callable[[], object]] = {
        "calibration": same_calibration,
        "another's checkpoint": lambda: check_sections(half),
        "resume": lambda: load_state(state, ini_values(now.need_training())),
        "same test": lambda: check_same_test(now),
        "benchmark": lambda: _check_same(run, sections),
    }
    refusals = {name: text for name, check in checks.items() if (text := refusal(check))}
    assert refusals.keys() == {name for name, roles in COUNTS.items() if role in roles}
    assert all("NEW_KEY" in text for text in refusals.values())


@pytest.mark.parametrize(
    ("override", "counts"),
    [
        ("PRECISION=fp32", True),
        ("MODEL_WEIGHTS=other.pth", True),
        ("PERCEPTUAL_WEIGHTS=other.pth", True),
        ("THRESHOLD_QUANTILE=0.5", True),
        ("PIXEL_QUANTILE=0.5", True),
        ("VOLUME_REDUCTION=mean", True),
        ("INTENSITY_WINDOW=0,1", True),
        ("IMAGE_REDUCTION=max", True),
        ("SEED=2", False),
        ("TEST_DATA_PATH=other", False),
        ("BATCH_SIZE_TEST=2", False),
        ("COMPILE=1", False),
        ("CACHE_IMAGES=disk", False),
        ("DEVICE=cuda", False),
        ("RESULTS_PATH=other", False),
    ],
)
def test_a_calibration_holds_for_the_same_scores(tmp_path, monkeypatch, override, counts):
    monkeypatch.chdir(tmp_path)
    was = load_text(tmp_path, small_ini()).need_testing()
    write_text(was.checkpoint_path, "any")
    now = load_text(tmp_path, small_ini(), [f"TESTING.{override}"]).need_testing()
    assert (fingerprint(was) != fingerprint(now)) == counts
