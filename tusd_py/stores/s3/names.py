"""How the things of uploads are called in a bucket: pure."""

from __future__ import annotations

from dataclasses import dataclass

from tusd_py.core.upload import Upload, UploadId, parse_id
from tusd_py.stores.s3.template import PLAIN, Template

_INFO = ".info"


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
        """Whose state `key` is; None where it is none."""
        if not (key.startswith(self.prefix) and key.endswith(_INFO)):
            return None
        return parse_id(key[len(self.prefix) : -len(_INFO)])

    def id_of_object(self, key: str) -> UploadId | None:
        """Whose object `key` is; None where it is none."""
        return parse_id(self.template.id_in(key[len(self.prefix) :]) or "") if key.startswith(self.prefix) else None

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
