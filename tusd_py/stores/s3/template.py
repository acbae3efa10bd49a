"""The keys of objects as the operator wants them, such as `{date:%Y/%m}/{id}/{metadata[filename]}`: pure.

Each key has the upload's id in it, so no two uploads ever want one key. What clients name is made harmless: letters
and digits of any script, dots, dashes and underscores are kept, anything else becomes an underscore.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from tusd_py.core.upload import Upload

PLAIN = "{id}"
DATE = "%Y/%m/%d"
ABSENT = "unnamed"

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 200
"""Of one value from metadata. Storages on file systems take 255 for each segment of a key."""

_KEPT = "-_."
_METADATA = re.compile(r"metadata\[([^\[\]{}, ]+)\]")
_DIRECTIVES = re.compile(r"(?:%[YymdHMSjGVu]|[A-Za-z0-9/_.=-])+")
_ID = r"(?P<id>[A-Za-z0-9_-]{1,128})"


@dataclass(frozen=True, slots=True)
class _Part:
    """Of a template: text that stands as it is, then a value, if `field` is not empty."""

    text: str
    field: str = ""
    option: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """`parts` in order; `text` as it was given."""

    text: str
    parts: tuple[_Part, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError saying what is wrong."""
        try:
            found = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"braces do not match: {error}") from error
        template = cls(text, tuple(_parts(found)))
        fields = [part.field for part in template.parts]
        if fields.count("id") != 1:
            raise ValueError("it needs {id} once: without it, files of one name would replace each other")
        least = sum(len(part.text.encode()) + _most_bytes(part) for part in template.parts)
        if least > MAX_KEY_BYTES:
            raise ValueError(f"keys could have {least} bytes, and S3 takes {MAX_KEY_BYTES}")
        if text.startswith("/") or "//" in text:
            raise ValueError("no empty folders: a key does not begin with / and has no //")
        return template

    @property
    def is_plain(self) -> bool:
        """Whether the key is the id."""
        return self.text == PLAIN

    def key(self, upload: Upload) -> str:
        values = upload.metadata.values
        key = ""
        for part in self.parts:
            key += part.text
            if part.field == "id":
                key += upload.id
            elif part.field == "date":
                key += datetime.fromtimestamp(upload.created_at, UTC).strftime(part.option)
            elif part.field:
                key += harmless(values.get(part.option, ""))
        return key

    def id_in(self, key: str) -> str | None:
        """The id that `key` was made with, as far as the key tells."""
        pattern = "".join(
            re.escape(part.text) + (_ID if part.field == "id" else ".+" if part.field else "") for part in self.parts
        )
        found = re.fullmatch(pattern, key, re.DOTALL)
        return found["id"] if found is not None else None


def harmless(value: str) -> str:
    """`value` as a piece of a key: no folder, nothing hidden, nothing that shells or URLs take for something else. Of
    what is too long, the end is kept, where names have their type."""
    text = unicodedata.normalize("NFC", value)
    text = "".join(each if each.isalnum() or each in _KEPT else "_" for each in text)
    text = text.encode()[-MAX_VALUE_BYTES:].decode(errors="ignore")
    if text.startswith("."):
        text = "_" + text[1:]
    return text or ABSENT


def _parts(found: list[tuple[str, str | None, str | None, str | None]]) -> Iterator[_Part]:
    for text, field, option, conversion in found:
        if text and not (text.isprintable() and text.isascii()):
            raise ValueError(f"{text!r} has other characters than printable ASCII")
        if field is None:
            yield _Part(text)
            continue
        named = _METADATA.fullmatch(field)
        if conversion or (option and field != "date"):
            raise ValueError(f"{{{field}}} takes no !{conversion} and no :{option}")
        if field == "id":
            yield _Part(text, "id")
        elif field == "date":
            if option and not _DIRECTIVES.fullmatch(option):
                raise ValueError(f"{option!r} is no form of a date; one is {DATE}, in UTC")
            yield _Part(text, "date", option or DATE)
        elif named is not None:
            yield _Part(text, "metadata", named[1])
        else:
            raise ValueError(f"{{{field}}} is not known; there are {{id}}, {{date}} and {{metadata[filename]}}")


def _most_bytes(part: _Part) -> int:
    lengths = {"id": 128, "metadata": MAX_VALUE_BYTES, "date": 2 * len(part.option)}
    return lengths.get(part.field, 0)
