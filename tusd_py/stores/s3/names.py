"""How the things of uploads are called in a bucket: pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tusd_py.core.upload import Upload, UploadId, is_drawn, parse_id
from tusd_py.stores.s3.template import PLAIN, Template

_INFO = ".info"
_FENCED = re.compile(r"\.[0-9a-f]{16}\.[0-9a-f]{8}")
_FENCED_LENGTH = 26


@dataclass(frozen=True, slots=True)
class Names:
    """`prefix` stands before each key, and before what `template` makes of an upload."""

    prefix: str = ""
    template: Template = Template.parse(PLAIN)

    def object(self, upload: Upload) -> str:
        key = self.prefix + self.template.key(upload)
        # What a client names must not make it the key of a state or of a mark.
        return key + "_" if key == self.info(upload.id) or key.startswith(self.own) else key

    def info(self, upload_id: UploadId) -> str:
        return f"{self.prefix}{upload_id}{_INFO}"

    def id_of_info(self, key: str) -> UploadId | None:
        """Whose state `key` is, or one of whose states; None where it is none."""
        if is_fenced(key):
            key = key[:-_FENCED_LENGTH]
        if not (key.startswith(self.prefix) and key.endswith(_INFO)):
            return None
        return parse_id(key[len(self.prefix) : -len(_INFO)])

    def id_of_object(self, key: str) -> UploadId | None:
        """Whose object `key` is; None where it is none."""
        return parse_id(self.template.id_in(key[len(self.prefix) :]) or "") if key.startswith(self.prefix) else None

    def id_of_plain_object(self, key: str) -> UploadId | None:
        """The same where a key is nothing but an id that we have drawn, so that few others have such a key."""
        found = self.id_of_object(key) if self.template.is_plain else None
        return found if found is not None and is_drawn(found) else None

    @property
    def own(self) -> str:
        """What begins the keys of all that belongs to no single upload."""
        return f"{self.prefix}.tusd-py/"

    def marks(self, partial: UploadId | None = None) -> str:
        """What the marks of finals that wait for this partial, or for any, begin with."""
        return f"{self.own}waiting/" + (f"{partial}/" if partial is not None else "")

    def mark(self, partial: UploadId, final: UploadId) -> str:
        return self.marks(partial) + final

    def of_mark(self, key: str) -> tuple[UploadId, UploadId] | None:
        """The partial and the final of a mark."""
        words = key[len(self.marks()) :].split("/")
        ids = [parse_id(word) for word in words]
        if len(ids) != 2 or ids[0] is None or ids[1] is None:
            return None
        return ids[0], ids[1]


def fenced_key(info: str, fence: int, sequence: int | None = None) -> str:
    """Where a state has a key of its own: its key, or what those under one fence begin with. Sorted as they follow."""
    return f"{info}.{fence:016x}." + (f"{sequence:08x}" if sequence is not None else "")


def is_fenced(key: str) -> bool:
    return _FENCED.fullmatch(key[-_FENCED_LENGTH:]) is not None
