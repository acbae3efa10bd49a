"""The documentation says what the code does: its tables are made from the settings, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tusd_py.config.reference import differences_table, settings_table

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("tests/*/README.md")]
)
TABLES = {
    "settings": ("docs/configuration.md", settings_table()),
    "differences": ("docs/from-tusd.md", differences_table()),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_the_one_that_the_code_makes(name: str) -> None:
    """After a change: `python tests/test_docs.py` writes them anew."""
    page, table = TABLES[name]
    found = re.search(rf"<!-- {name} -->\n(.*)<!-- /{name} -->", (ROOT / page).read_text(), re.DOTALL)
    assert found is not None
    assert found[1].strip() == table.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"(?:\]\(|src=\")([^)\s\"]+)", _without_code(page.read_text())):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = page.parent / path if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in _anchors(found.read_text()), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        assert f"(docs/{page.name})" in readme


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def _anchors(text: str) -> set[str]:
    """As the usual places that show Markdown make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _write() -> None:
    for name, (page, table) in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*(<!-- /{name} -->)", re.DOTALL)
        path = ROOT / page
        path.write_text(
            pattern.sub(lambda match, table=table: match[1] + table.strip() + "\n" + match[2], path.read_text())
        )


if __name__ == "__main__":
    _write()
