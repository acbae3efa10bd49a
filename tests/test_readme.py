"""The README says what the code does: its tables are made from the settings."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tusd_py.config.reference import differences_table, settings_table

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize(("name", "table"), [("settings", settings_table()), ("differences", differences_table())])
def test_a_table_is_the_one_that_the_code_makes(name: str, table: str) -> None:
    """After a change: `python tests/test_readme.py` writes them anew."""
    assert _section(README.read_text(), name) == table.strip()


def test_the_application_of_the_readme_takes_an_upload(tmp_path: Path) -> None:
    code = next(block for block in _blocks("python") if "create_app" in block)
    (tmp_path / "mine.py").write_text(code)
    command = [sys.executable, "-m", "uvicorn", "mine:app", "--port", "0", "--log-level", "info"]
    environment = os.environ | {"PYTHONPATH": str(README.parent)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            port = next(found[1] for line in process.stderr if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
            _upload(int(port))
        finally:
            process.terminate()
        assert "NoLifespan" not in process.stderr.read()


def _upload(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    version = {"Tus-Resumable": "1.0.0"}
    with contextlib.closing(connection):
        headers = version | {"Upload-Length": "5", "Content-Type": "application/offset+octet-stream"}
        connection.request("POST", "/uploads/files/", b"hello", headers)
        made = connection.getresponse()
        made.read()
        assert made.status == 201
        path = made.headers["Location"].removeprefix(f"http://127.0.0.1:{port}")
        assert path.startswith("/uploads/files/")
        connection.request("GET", path)
        assert connection.getresponse().read() == b"hello"
        connection.request("POST", "/uploads/files/", headers=version | {"Upload-Length": "6000000000"})
        assert connection.getresponse().status == 413


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


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
