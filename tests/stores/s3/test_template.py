"""What keys a template makes, and which templates are refused."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3scene import new_upload

from tusd_py.core.upload import Metadata, Upload
from tusd_py.stores.s3.names import Names
from tusd_py.stores.s3.template import MAX_KEY_BYTES, MAX_VALUE_BYTES, Template, harmless

AT = datetime(2026, 3, 9, 23, 59, 59, tzinfo=UTC).timestamp()


def upload_with(**metadata: str) -> Upload:
    return replace(new_upload(1), created_at=AT, metadata=Metadata.of(metadata))


def key_of(template: str, upload: Upload, prefix: str = "") -> str:
    return Names(prefix, Template.parse(template)).object(upload)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{id}", "ID"),
        ("{date}/{id}", "2026/03/09/ID"),
        ("{date:%Y-%m}/{id}/{metadata[filename]}", "2026-03/ID/mice_2.csv"),
        ("{metadata[Größe]}-{id}.bin", "groß-ID.bin"),
        ("data/{{raw}}/{id}", "data/{raw}/ID"),
        ("{metadata[project]}/{id}", "unnamed/ID"),
    ],
)
def test_keys(template: str, expected: str) -> None:
    upload = upload_with(filename="mice 2.csv", Größe="groß")
    assert key_of(template, upload, "in/") == "in/" + expected.replace("ID", upload.id)


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        ("../../etc/passwd", "_._.._etc_passwd"),
        (".hidden", "_hidden"),
        ("..", "_."),
        ("", "unnamed"),
        ("a\\b\x00c\nd%2Fe", "a_b_c_d_2Fe"),
        ("Gro\u0308\u00dfe", "Größe"),
        ("データ.parquet", "データ.parquet"),
        ("\ud800", "_"),
        ("x" * 300 + ".csv", "x" * 196 + ".csv"),
    ],
)
def test_what_clients_name_is_made_harmless(given_value: str, expected: str) -> None:
    assert harmless(given_value) == expected


@given(st.text(max_size=400))
def test_any_value_makes_one_segment(value: str) -> None:
    segment = harmless(value)
    assert segment
    assert len(segment.encode()) <= MAX_VALUE_BYTES
    assert re.fullmatch(r"[\w.-]+", segment)
    assert not segment.startswith(".")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "needs {id} once"),
        ("{metadata[filename]}", "needs {id} once"),
        ("{id}{id}", "needs {id} once"),
        ("{id", "braces"),
        ("{name}/{id}", "{name} is not known; there are {id}, {date} and {metadata[filename]}"),
        ("{id!r}", "takes no !r"),
        ("{id:>9}", "no :>9"),
        ("{date:%c}{id}", "no form of a date"),
        ("{metadata[]}{id}", "not known"),
        ("/{id}", "no empty folders"),
        ("a//{id}", "no empty folders"),
        ("ä/{id}", "ASCII"),
        ("x" * 900 + "{id}", "1028 bytes"),
        ("{metadata[a]}" * 5 + "{id}", f"S3 takes {MAX_KEY_BYTES}"),
    ],
)
def test_what_is_refused_is_said(template: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        Template.parse(template)


@pytest.mark.parametrize("prefix", ["", "in/"])
def test_no_name_makes_an_object_a_state_or_a_mark(prefix: str) -> None:
    upload = upload_with(extension="info", folder="tusd-py")
    names = Names(prefix, Template.parse("{id}.{metadata[extension]}"))
    assert names.object(upload) == f"{prefix}{upload.id}.info_"
    names = Names(prefix, Template.parse(".{metadata[folder]}/{id}"))
    assert names.object(upload).endswith("_")
    assert names.id_of_info(names.object(upload)) is None


@given(st.text(max_size=20))
def test_an_id_is_found_in_its_key(name: str) -> None:
    upload = upload_with(filename=name)
    for template in ("{id}", "{date}/{id}/{metadata[filename]}", "{metadata[filename]}/{id}.bin"):
        names = Names("in/", Template.parse(template))
        assert names.id_of_object(names.object(upload)) == upload.id


def test_what_is_of_nobody_has_no_id() -> None:
    names = Names("in/", Template.parse("{date}/{id}"))
    assert names.id_of_object("in/readme.txt") is None
    assert names.id_of_object("other/2026/01/02/abc") is None
