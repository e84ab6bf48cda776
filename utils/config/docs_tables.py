"""Write the tables of docs/config.md from the schema: ``python -m utils.config.docs_tables``."""

import re
from inspect import get_annotations
from pathlib import Path

from utils.config.derive import RULES
from utils.config.load import as_text
from utils.config.schema import SCHEMAS, SectionConfig
from utils.config.shared_keys import Keys, about

PAGE = Path(__file__).parents[2] / "docs" / "config.md"
HEAD = "| key | value | if left out | meaning | role |\n|---|---|---|---|---|\n"


def tables() -> dict[str, str]:
    """Heading → rows of its keys.

    The heading of a key is the docstring of the class that defines it.
    """
    found: dict[str, dict[str, str]] = {}
    for schema in SCHEMAS.values():
        rows = _rows(schema)
        for owner in schema.__mro__:
            names = get_annotations(owner).keys() & rows.keys() if issubclass(owner, Keys) else ()
            heading = (owner.__doc__ or "").rstrip(".")
            for name in [name for name in rows if name in names]:
                found.setdefault(heading, {})[name] = rows[name]
    return {heading: "".join(rows.values()) for heading, rows in found.items()}


def _rows(schema: type[SectionConfig]) -> dict[str, str]:
    """Name of a field → its row."""
    rows = {}
    for name, field in schema.model_fields.items():
        if name in RULES:
            default = RULES[name].words
        elif field.is_required():
            default = "*required*"
        else:
            default = f"`{as_text(field.default)}`" if as_text(field.default) else "empty"
        role, meaning = about(field)
        cells = [f"`{name.upper()}`", field.description, default, meaning, role]
        rows[name] = f"| {' | '.join(map(str, cells))} |\n"
    return rows


def with_tables(page: str) -> str:
    """The page with the tables under its headings replaced.

    Raises:
        ValueError: A heading of the schema has no table.
    """
    for heading, rows in tables().items():
        # The heading, text that is neither heading nor table, and the table.
        pattern = rf"^#+ {re.escape(heading)}\n(?:(?![#|]).*\n)*((?:\|.*\n)+)"
        table = re.search(pattern, page, flags=re.MULTILINE)
        if table is None:
            raise ValueError(f"{PAGE}: no table under the heading '{heading}'")
        page = page[: table.start(1)] + HEAD + rows + page[table.end(1) :]
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
