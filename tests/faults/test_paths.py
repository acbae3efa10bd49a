"""Ids that are paths, and the files that they must not reach (failures F35)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from faultclient import BASE_PATH, patch_headers
from faultserver import Server

from tests.faults.conftest import Launch

DATA = os.urandom(100_000)
SECRET = b"nobody's business"

TRICKS = [
    "../secret",
    "..%2fsecret",
    "%2e%2e/secret",
    "%2e%2e%2fsecret",
    "..%5csecret",
    "....//secret",
    "./{id}",
    "x/../{id}",
    "x%2f..%2f{id}",
    "{id}/../../secret",
    "{id}.info",
    "{id}%00",
    "{id}%00.info",
    "{id}%0a",
    "{id}%20",
    "%7b{id}",
    "{id};",
    ".tusd-py",
    ".tusd-py/unfinished",
    ".tusd-py%2funfinished%2f{id}",
    ".",
    "..",
    "~",
    "%ff%fe",
    "{directory}/secret",
    "%2f{directory}%2fsecret",
    "a" * 129,
    "\u0661",
]


@pytest.fixture
def server(launch: Launch, tmp_path: Path) -> Server:
    """With something to find one level up, and inside under a name that is no id."""
    server = launch(directory=tmp_path / "uploads")
    for place in (tmp_path / "secret", server.directory / "secret.txt"):
        place.write_bytes(SECRET)
    record = {"ID": "secret", "Size": len(SECRET), "Offset": len(SECRET), "MetaData": {}, "IsPartial": True}
    (tmp_path / "secret.info").write_text(json.dumps(record))
    return server


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def _tricks(server: Server, upload_id: str) -> list[str]:
    return [trick.format(id=upload_id, directory=server.directory.parent) for trick in TRICKS]


def test_F35_no_request_leaves_the_directory(server: Server, tmp_path: Path) -> None:
    client = server.client
    path = client.create(len(DATA))
    assert client.patch(path, 0, DATA[:1000]).status == 204
    before = _tree(tmp_path)
    for trick in _tricks(server, path.rpartition("/")[2]):
        target = BASE_PATH + trick.encode().decode("latin-1")
        for method, headers in (
            ("HEAD", {}),
            ("GET", {}),
            ("PATCH", patch_headers(0, 5)),
            ("PATCH", patch_headers(len(SECRET), 5)),
            ("PATCH", patch_headers(1000, 5)),
            ("DELETE", {}),
        ):
            answer = client.ask(method, target, headers, b"stray" if method == "PATCH" else b"")
            assert answer.status in (400, 404, 405), (method, trick, answer)
            assert SECRET not in answer.body
    after = _tree(tmp_path)
    assert {name: content for name, content in after.items() if not name.endswith(".log")} == {
        name: content for name, content in before.items() if not name.endswith(".log")
    }
    client.finish(path, DATA)


def test_F35_no_list_of_partials_leaves_the_directory(server: Server, tmp_path: Path) -> None:
    client = server.client
    partial = client.create(len(DATA), {"Upload-Concat": "partial"})
    assert client.patch(partial, 0, DATA).status == 204
    whole = client.upload(DATA)
    before = sorted(_tree(tmp_path))
    tricks = _tricks(server, partial.rpartition("/")[2])
    urls = [BASE_PATH + trick for trick in tricks if trick.strip("./")]
    urls += ["http://127.0.0.1/secret", "file:///etc/passwd", "/etc/passwd", "//secret", whole, "http://[", "%"]
    for url in urls:
        for concat in (f"final;{url}", f"final;{partial} {url}"):
            headers = {"Upload-Concat": concat.encode().decode("latin-1")}
            answer = client.ask("POST", BASE_PATH, headers)
            assert 400 <= answer.status < 500, (concat, answer)
            assert SECRET not in answer.body
    assert sorted(_tree(tmp_path)) == before
    final = client.ask("POST", BASE_PATH, {"Upload-Concat": f"final;{partial} http://127.0.0.1:1{partial}"})
    assert final.status == 201
    joined = BASE_PATH + final.headers["location"].rpartition("/")[2]
    assert client.content(joined) == DATA + DATA


def test_F35_a_record_cannot_point_outside(server: Server, tmp_path: Path) -> None:
    """A record as tusd writes it says where its bytes are; nobody's record may say "elsewhere"."""
    upload_id = "0123456789abcdef0123456789abcdef"
    record = {
        "ID": upload_id,
        "Size": 100,
        "Offset": 0,
        "MetaData": {},
        "Storage": {"Type": "filestore", "Path": str(tmp_path / "secret"), "InfoPath": ""},
    }
    (server.directory / f"{upload_id}.info").write_text(json.dumps(record))
    client, path = server.client, BASE_PATH + upload_id
    assert client.head(path).status == 404
    assert client.ask("GET", path).status == 404
    assert client.patch(path, len(SECRET), b"stray").status == 404
    client.delete(path)
    assert (tmp_path / "secret").read_bytes() == SECRET
