"""A schedule in words, a line for each thing that happened; put together only when somebody reads it."""

from __future__ import annotations

from typing import Any

from modelstorage import Request

from tusd_py.stores.s3.client import S3Error
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.wire import Answer

_ID = f"{1:032x}"


class Trace:
    def __init__(self) -> None:
        self._lines: list[str | tuple[Request, Any, bool]] = []
        self._etags: dict[str, str] = {}

    def say(self, line: str) -> None:
        self._lines.append(line)

    def answered(self, request: Request, answer: Any, *, is_late: bool = False) -> None:
        self._lines.append((request, answer, is_late))

    def asked(self, request: Request) -> str:
        """`PutObject id.info (If-Match e3)` and what is in it."""
        words = [request.operation, request.key.replace(_ID, "id")]
        if "partNumber" in request.arguments:
            words[1] = f"{request.arguments['partNumber']} of {request.arguments['uploadId']}"
        elif "UploadId" in request.arguments:
            words.append(f"of {request.arguments['UploadId']}")
        if "MultipartUpload" in request.arguments:
            words.append(f"with {[part['PartNumber'] for part in request.arguments['MultipartUpload']['Parts']]}")
        conditions = [
            f"{name.title()} {self._short(value)}" for name, value in request.headers.items() if name.startswith("if-")
        ]
        if conditions:
            words.append(f"({', '.join(conditions)})")
        if ".info" in request.key and request.body:
            words.append(_state(request.body))
        return " ".join(words)

    def __str__(self) -> str:
        return "\n".join(f"  {line if isinstance(line, str) else self._line(*line)}" for line in self._lines)

    def _line(self, request: Request, answer: Any, is_late: bool) -> str:
        if isinstance(answer, S3Error):
            outcome = f"{answer.status} {answer.code}"
        elif isinstance(answer, Answer):
            etag = answer.headers.get("etag")
            outcome = str(answer.status) + (f" {self._short(etag)}" if etag else "")
            if request.operation == "GetObject" and request.key.endswith(".info"):
                outcome += f" {_state(answer.body)}"
        else:
            outcome = str(answer.get("UploadId", "200")) if isinstance(answer, dict) else str(answer)
        late = " (late: nobody hears of it)" if is_late else ""
        return f"{request.process.name}: {self.asked(request)} -> {outcome}{late}"

    def _short(self, etag: str) -> str:
        return etag if etag == "*" else self._etags.setdefault(etag, f"e{len(self._etags) + 1}")


def _state(body: bytes) -> str:
    """Of a record: what of it matters here."""
    line, _, tail = body.partition(b"\n")
    record = Record.decode(line)
    upload = record.upload
    runs = ",".join(f"{first}-{last}" for first, last in record.parts)
    words = [
        f"{upload.state} {upload.offset}/{upload.length}",
        *([f"parts {runs} of {record.multipart}"] if record.parts else []),
        f"next {record.next_number}+{record.window}",
        *([f"tail {len(tail)}"] if tail else []),
        *(["terminated"] if record.is_terminated else []),
    ]
    return f"[{', '.join(words)}]"
