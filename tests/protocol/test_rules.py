"""Every rule of tus 1.0 that binds a server has a test with its id in its name, in each place this table names.

The ids are those of the comments in the code: K core, C creation, W creation-with-upload, E expiration, S checksum,
D termination, N concatenation. A rule without a test, a test without its rule and a rule nobody listed fail here.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
COUNTS = {"K": 23, "C": 11, "W": 3, "E": 4, "S": 9, "D": 3, "N": 12}

CODEC, CORE, WIRE = "protocol", "core", "wire"

# What each rule is about, and the folders that hold it. CODEC: what a header means or says; CORE: what happens to an
# upload; WIRE: what only a running server can show.
RULES = {
    "K1": ("offsets and lengths are non-negative integers", [CODEC, WIRE]),
    "K2": ("Tus-Version is a list", [CODEC]),
    "K3": ("Tus-Resumable on every answer", [WIRE]),
    "K4": ("another version is 412 with Tus-Version", [CODEC, WIRE]),
    "K5": ("Tus-Extension is a list", [CODEC, WIRE]),
    "K6": ("Tus-Max-Size is an integer", [CODEC, WIRE]),
    "K7": ("X-HTTP-Method-Override is the method", [WIRE]),
    "K8": ("HEAD has Upload-Offset", [CODEC, CORE, WIRE]),
    "K9": ("HEAD has Upload-Length if known", [CODEC, WIRE]),
    "K10": ("HEAD of a missing upload is 404 without offset", [CORE, WIRE]),
    "K11": ("HEAD is 200 or 204", [CODEC, WIRE]),
    "K12": ("HEAD is not to be stored", [CODEC, WIRE]),
    "K13": ("PATCH applies the bytes at the offset", [CODEC, CORE, WIRE]),
    "K14": ("another Content-Type is 415", [CODEC, WIRE]),
    "K15": ("another offset is 409 and changes nothing", [CODEC, CORE, WIRE]),
    "K16": ("PATCH is 204", [CODEC, WIRE]),
    "K17": ("204 has the offset of what is stored", [CODEC, CORE, WIRE]),
    "K18": ("PATCH of an unknown upload is 404", [CORE, WIRE]),
    "K19": ("silence ends a request", [CORE]),
    "K20": ("as much as possible is kept", [CORE, WIRE]),
    "K21": ("Content-Length is not required", [CODEC, CORE, WIRE]),
    "K22": ("OPTIONS is 204 or 200 with Tus-Version", [CODEC, WIRE]),
    "K23": ("OPTIONS ignores Tus-Resumable", [CODEC, WIRE]),
    "C1": ("creation is listed", [CODEC]),
    "C2": ("Upload-Defer-Length is 1", [CODEC, WIRE]),
    "C3": ("one of the two lengths is needed", [CODEC, WIRE]),
    "C4": ("a length never changes", [CODEC, CORE, WIRE]),
    "C5": ("HEAD says that the length is deferred", [CODEC, CORE, WIRE]),
    "C6": ("creation-defer-length is listed", [CODEC, CORE]),
    "C7": ("an empty upload is complete at once", [CODEC, CORE, WIRE]),
    "C8": ("the grammar of Upload-Metadata", [CODEC, WIRE]),
    "C9": ("HEAD has Upload-Metadata as sent", [CODEC, WIRE]),
    "C10": ("over the maximum is 413", [CORE, WIRE]),
    "C11": ("POST is 201 with Location", [CODEC, CORE, WIRE]),
    "W1": ("creation-with-upload is listed, not without creation", [CODEC, WIRE]),
    "W2": ("PATCH's rules apply to the body of a POST", [CODEC, CORE, WIRE]),
    "W3": ("POST has Upload-Offset, zero included", [CODEC, CORE, WIRE]),
    "E1": ("expiration is listed; only unfinished uploads go", [CODEC, CORE]),
    "E2": ("Upload-Expires in POST and PATCH", [CODEC, CORE, WIRE]),
    "E3": ("an expired upload is 404 or 410", [CORE]),
    "E4": ("Upload-Expires is an IMF-fixdate", [CODEC, WIRE]),
    "S1": ("checksum is listed", [CODEC]),
    "S2": ("the whole body is verified", [CORE, WIRE]),
    "S3": ("400 for an unknown algorithm, 460 for a mismatch", [CODEC, CORE, WIRE]),
    "S4": ("a wrong body changes nothing", [CORE, WIRE]),
    "S5": ("sha1 is supported; names are lower-case", [CODEC, WIRE]),
    "S6": ("Tus-Checksum-Algorithm in OPTIONS", [CODEC, WIRE]),
    "S7": ("checksum-trailer is listed if trailers are read", [CODEC, CORE, WIRE]),
    "S8": ("the digest is base64 of this body's", [CODEC, CORE, WIRE]),
    "S9": ("a checksummed body cut short changes nothing", [CORE, WIRE]),
    "D1": ("termination is listed", [CODEC, CORE]),
    "D2": ("DELETE is 204, finished or not", [CORE, WIRE]),
    "D3": ("afterwards 404 or 410", [CORE, WIRE]),
    "N1": ("concatenation and concatenation-unfinished are listed", [CODEC, CORE, WIRE]),
    "N2": ("partials are not processed by themselves", [CORE]),
    "N3": ("the sum of the lengths, in the listed order", [CODEC, CORE, WIRE]),
    "N4": ("no metadata of partials in the final", [CODEC, CORE, WIRE]),
    "N5": ("a partial may be used several times", [CODEC, CORE, WIRE]),
    "N6": ("PATCH of a final is 403", [CODEC, CORE, WIRE]),
    "N7": ("HEAD of a final: no offset before it is finished", [CODEC, CORE, WIRE]),
    "N8": ("HEAD of a partial has Upload-Offset", [CODEC, WIRE]),
    "N9": ("HEAD of a final has Upload-Length if computable", [CODEC, CORE, WIRE]),
    "N10": ("HEAD has Upload-Concat as received", [CODEC, CORE, WIRE]),
    "N11": ("URLs are absolute or relative", [CODEC, WIRE]),
    "N12": ("only partials are joined", [CORE, WIRE]),
}

_ID = re.compile(rf"(?<=_)([{''.join(COUNTS)}]\d+)(?=_)")


def ids_of(folder: str) -> dict[str, str]:
    """The ids in the names of a folder's tests, and one test of each."""
    found: dict[str, str] = {}
    for path in sorted((TESTS / folder).glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.update((rule, f"{path.name}::{node.name}") for rule in _ID.findall(node.name))
    return found


def test_every_rule_is_in_the_table() -> None:
    assert list(RULES) == [f"{group}{number}" for group, count in COUNTS.items() for number in range(1, count + 1)]
    assert all(folders for _, folders in RULES.values())


@pytest.mark.parametrize("folder", [CODEC, CORE, WIRE])
def test_every_rule_has_a_test_where_the_table_says(folder: str) -> None:
    tested = ids_of(folder)
    missing = [
        f"{rule}: {about}" for rule, (about, folders) in RULES.items() if folder in folders and rule not in tested
    ]
    assert not missing, f"no test in tests/{folder} has these ids in its name"


@pytest.mark.parametrize("folder", [CODEC, CORE])
def test_every_id_in_a_name_is_a_rule_the_table_gives_that_folder(folder: str) -> None:
    strays = {rule: test for rule, test in ids_of(folder).items() if rule not in RULES or folder not in RULES[rule][1]}
    assert not strays
