"""How the things of uploads are called in a bucket: pure."""

from __future__ import annotations

from dataclasses import dataclass

from tusd_py.core.upload import Upload, UploadId, parse_id

_INFO = ".info"


@dataclass(frozen=True, slots=True)
class Names:
    """`prefix` stands before each key. Objects have the id as key."""

    prefix: str = ""

    def object(self, upload: Upload) -> str:
        return f"{self.prefix}{upload.id}"

    def info(self, upload_id: UploadId) -> str:
        return f"{self.prefix}{upload_id}{_INFO}"

    def id_of_info(self, key: str) -> UploadId | None:
        """Whose state `key` is; None where it is none."""
        if not (key.startswith(self.prefix) and key.endswith(_INFO)):
            return None
        return parse_id(key[len(self.prefix) : -len(_INFO)])

    def id_of_object(self, key: str) -> UploadId | None:
        """Whose object `key` is; None where it is none."""
        return parse_id(key[len(self.prefix) :]) if key.startswith(self.prefix) else None

    def marks(self, partial: UploadId | None = None) -> str:
        """What the marks of finals that wait for this partial, or for any, begin with."""
        return f"{self.prefix}.tusd-py/waiting/" + (f"{partial}/" if partial is not None else "")

    def mark(self, partial: UploadId, final: UploadId) -> str:
        return self.marks(partial) + final

    def of_mark(self, key: str) -> tuple[UploadId, UploadId] | None:
        """The partial and the final of a mark."""
        words = key[len(self.marks()) :].split("/")
        ids = [parse_id(word) for word in words]
        if len(ids) != 2 or ids[0] is None or ids[1] is None:
            return None
        return ids[0], ids[1]
