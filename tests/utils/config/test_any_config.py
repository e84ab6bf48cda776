"""Any value of any key, any file and any override: a config, or printable problems."""

import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config_helpers import load_text, problems_of, small_ini
from tests.utils.config.test_broken_configs import assert_one_problem
from utils.config.load import ini_text
from utils.config.schema import SCHEMAS, keys_of

PLACES = sorted(f"{section}.{key}" for section in SCHEMAS for key in keys_of(section))
WORDS = {
    place: str(SCHEMAS[section].model_fields[key.lower()].description)
    for place in PLACES
    for section, _, key in [place.partition(".")]
}
NUMBERS = [place for place, words in WORDS.items() if "number" in words and "list" not in words]
LISTS = [place for place, words in WORDS.items() if "list of" in words and "tags" not in words]
RANGES = [place for place in NUMBERS if re.search(r"from \d+ to \d+$", WORDS[place])]
PROPERTY = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@PROPERTY
@given(
    place=st.sampled_from(NUMBERS + LISTS),
    value=st.sampled_from(["x", "1,", "nan", "inf", "%(HOME)s", "96x96", "1.5.2", "95%"]),
)
def test_no_number(tmp_path, place, value):
    (problem,) = problems_of(tmp_path, small_ini({place: value}))
    assert f"{problem.section}.{problem.key}" == place
    assert problem.text == f"found {value!r}; must be {WORDS[place]}"


@PROPERTY
@given(place=st.sampled_from(RANGES), beyond=st.integers(1, 10**30))
def test_ranges_are_what_messages_say(tmp_path, place, beyond):
    low, high = map(int, re.findall(r"\d+", WORDS[place]))
    for value in (low - beyond, high + beyond):
        assert_one_problem(tmp_path, small_ini({place: str(value)}), place, (WORDS[place],))
    for value in (low, high):
        found = problems_of(tmp_path, small_ini({place: str(value)}))
        assert all(WORDS[place] not in problem.text for problem in found)


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
NAMES = sorted({"X"}.union(*map(keys_of, SCHEMAS)))
VALUE = st.one_of(
    TEXT,
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", ",", "1,", "nan", "1e400", "~x", "~", "a\n b", "\\", "(?P<", "True"]),
    st.lists(st.integers(-3, 99), max_size=4).map(lambda items: ", ".join(map(str, items))),
)


def assert_config_or_problems(folder: Path, text: str | bytes, *overrides: str) -> None:
    """Loads to a config that says itself again, or gives printable problems."""
    problems = problems_of(folder, text, overrides)
    assert all(str(problem).isprintable() for problem in problems)
    if not problems:
        config = load_text(folder, text, overrides)
        again = load_text(folder, ini_text(config))
        assert (again.training, again.testing) == (config.training, config.testing)


LINE = st.one_of(
    TEXT,
    st.builds("{} {} {}".format, st.sampled_from(NAMES), st.sampled_from("=: "), VALUE),
    st.sampled_from(
        ["[DEFAULT]", "[TRAINING]", "[TESTING]", "[X]", "[]", " [TESTING]", "[TRAINING", "=", ":"]
    ),
)
MUTATION = st.tuples(
    st.integers(0, len(small_ini()) - 1), st.integers(0, 40),
    st.text(string.printable + "\x00\x85ſ²٣", max_size=5),
)  # fmt: skip


def mutated(mutations: list[tuple[int, int, str]]) -> str:
    text = small_ini()
    for start, length, put in mutations:
        text = text[:start] + put + text[start + length :]
    return text


ANYTHING = {
    "bytes": st.binary(max_size=200),
    "lines": st.lists(LINE, max_size=12).map("\n".join),
    "values": st.dictionaries(st.sampled_from(PLACES), VALUE | st.none(), max_size=4).map(
        small_ini
    ),
    "mutations": st.lists(MUTATION, min_size=1, max_size=4).map(mutated),
}


@PROPERTY
@given(data=st.data())
@pytest.mark.parametrize("content", ANYTHING.values(), ids=ANYTHING)
def test_no_content_crashes(tmp_path, content, data):
    assert_config_or_problems(tmp_path, data.draw(content))


@PROPERTY
@given(override=st.one_of(st.text(), st.builds("{}={}".format, st.sampled_from(NAMES), VALUE)))
def test_no_override_crashes(tmp_path, override):
    assert_config_or_problems(tmp_path, small_ini(), override)
