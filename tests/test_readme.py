"""The README says what the code does: its tables are made from the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tusd_py.config.reference import differences_table, settings_table

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize(("name", "table"), [("settings", settings_table()), ("differences", differences_table())])
def test_a_table_is_the_one_that_the_code_makes(name: str, table: str) -> None:
    """After a change: `python tests/test_readme.py` writes them anew."""
    assert _section(README.read_text(), name) == table.strip()


def _section(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*)<!-- /{name} -->", text, re.DOTALL)
    assert found is not None
    return found[1].strip()


def _write() -> None:
    text = README.read_text()
    for name, table in (("settings", settings_table()), ("differences", differences_table())):
        pattern = re.compile(rf"(<!-- {name} -->\n).*(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda match, table=table: match[1] + table.strip() + "\n" + match[2], text)
    README.write_text(text)


if __name__ == "__main__":
    _write()
