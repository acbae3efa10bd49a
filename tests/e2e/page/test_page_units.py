"""The page's own unit tests and types, by node and tsc."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_bundle import run_npm


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(("script", "proof"), [("test", r"# pass [1-9]\d*"), ("check", "tsc")])
def test_the_pages_own_checks_pass(script: str, proof: str) -> None:
    assert re.search(proof, run_npm("run", script))


def test_the_bundle_has_the_place_for_what_the_server_says(bundle: Path) -> None:
    html = (bundle / "index.html").read_text()
    assets = sorted(path.name for path in (bundle / "assets").iterdir())

    assert html.splitlines().count('<meta name="tusd-py" content="{}">') == 1
    assert {re.sub(r"-[0-9a-f]{10}\.", ".", name) for name in assets} == {
        "digest.js", "licences.txt", "page.css", "page.js",
    }  # fmt: skip
    assert set(re.findall(r'page-assets/([^"]+)"', html)) == {name for name in assets if "digest" not in name}
    assert "<style" not in html
    assert not re.search(r"<script(?! type=\"module\" src=)", html)
