"""Downloads: the right bytes, the right status, headers safe with any metadata, and an end when nobody reads."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.lowlevel
import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tusd_py.core.checksum import Buffer
from tusd_py.core.rules import Rules
from tusd_py.core.upload import Metadata, State, Upload, UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, RequestError, upload_not_found
from tusd_py.protocol.headers import Headers
from tusd_py.server.protocol import TusProtocol
from tusd_py.web.downloads import (
    DEFAULT_NAME,
    DEFAULT_TYPE,
    INLINE_TYPES,
    MAX_NAME_CHARACTERS,
    describe_disposition,
    describe_type,
    parse_date,
    parse_range,
    safe_name,
    serve,
)

ID = UploadId("0123456789abcdef")
STORED_AT = 1_700_000_000.75
LAST_MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
EARLIER = "Tue, 14 Nov 2023 22:13:19 GMT"
LATER = "Tue, 14 Nov 2023 22:13:21 GMT"
PAYLOAD = bytes(range(256)) * 3 + b"the end"
NO_HEADERS = Headers([])
ETAG = f'"{ID}-{len(PAYLOAD)}"'


@dataclass
class PatternStore:
    """Serves the bytes that `content` says, in pieces of one buffer that it overwrites each time, as it may."""

    content: Callable[[int, int], bytes]
    piece_bytes: int = 64
    fails_at: int | None = None
    ends_at: int | None = None
    reads: int = 0
    open_readers: int = 0
    closed: anyio.Event = field(default_factory=anyio.Event)

    async def read_range(self, upload_id: UploadId, start: int, end: int) -> AsyncIterator[Buffer]:
        assert upload_id == ID
        self.open_readers += 1
        try:
            async for piece in self._pieces(start, end):
                yield piece
        finally:
            await anyio.lowlevel.checkpoint()  # closing may take a turn of the loop
            self.open_readers -= 1
            self.closed.set()

    async def settle(self) -> None:
        """Until every reader that was opened is closed."""
        with anyio.fail_after(5):
            while self.open_readers:
                await anyio.lowlevel.checkpoint()

    async def _pieces(self, start: int, end: int) -> AsyncIterator[Buffer]:
        buffer = bytearray(self.piece_bytes)
        while start < end:
            if self.fails_at is not None and start >= self.fails_at:
                raise BackendError
            if self.ends_at is not None and start >= self.ends_at:
                return
            data = self.content(start, min(start + self.piece_bytes, end))
            buffer[: len(data)] = data
            self.reads += 1
            yield b""  # an empty piece is no end
            yield memoryview(buffer)[: len(data)]
            buffer[:] = b"\xee" * len(buffer)
            start += len(data)


class KeptIterators(Uploads):
    """Keeps its iterators alive, so that no garbage collector closes what `serve` forgot to close."""

    def __init__(self, store: Any) -> None:
        super().__init__(store, None, Rules())  # type: ignore[arg-type]  # downloads need neither lock nor writing
        self._kept: list[AsyncIterator[Buffer]] = []

    def read_range(self, upload_id: UploadId, start: int, end: int) -> AsyncIterator[Buffer]:  # type: ignore[override]
        self._kept.append(super().read_range(upload_id, start, end))
        return self._kept[-1]


LEFTOVERS: list[KeptIterators] = []  # the iterators of the last few, kept until long after their download


def uploads_over(store: Any) -> Uploads:
    del LEFTOVERS[:-8]
    LEFTOVERS.append(KeptIterators(store))
    return LEFTOVERS[-1]


def store_of(payload: bytes, **settings: Any) -> PatternStore:
    return PatternStore(lambda start, end: payload[start:end], **settings)


@dataclass
class RedirectingStore(PatternStore):
    """Has its bytes elsewhere, too."""

    async def location(self, upload_id: UploadId, content_type: str, disposition: str) -> str | None:
        return f"https://elsewhere.example/{upload_id}?{content_type}&{disposition}"


def finished(length: int = len(PAYLOAD), metadata: Mapping[str, str] | None = None, **changes: Any) -> Upload:
    values: dict[str, Any] = {
        "id": ID,
        "length": length,
        "offset": length,
        "state": State.AVAILABLE,
        "touched_at": STORED_AT,
        "metadata": Metadata("", dict(metadata or {})),
    }
    return Upload(**(values | changes))


@dataclass
class Client:
    """An ASGI client that records what it is sent and holds the server to the rules of ASGI and HTTP framing."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    is_complete: bool = False

    async def send(self, message: Any) -> None:
        assert not self.is_complete
        if message["type"] == "http.response.start":
            assert self.status == 0
            self.status = message["status"]
            pairs = [(name.decode("ascii"), value.decode("ascii")) for name, value in message["headers"]]
            self.headers = dict(pairs)
            assert len(pairs) == len(self.headers)
            assert not any(re.search(r"[^\x20-\x7e]", name + value) for name, value in pairs)
            return
        assert self.status
        assert message["type"] == "http.response.body"
        assert type(message["body"]) is bytes
        self.pieces.append(message["body"])
        self.is_complete = not message.get("more_body", False)
        if self.is_complete and self.status != 304:
            assert int(self.headers["content-length"]) == len(self.body)

    async def receive(self) -> Any:
        """Nothing: the client is there and says no more."""
        await anyio.sleep_forever()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


async def get(
    headers: Mapping[str, str] | None = None,
    *,
    payload: bytes = PAYLOAD,
    metadata: Mapping[str, str] | None = None,
    store: PatternStore | None = None,
) -> Client:
    """A whole exchange; complete at its end, with every reader closed."""
    store = store or store_of(payload)
    client = Client()
    await serve(
        uploads_over(store),
        finished(len(payload), metadata),
        Headers((headers or {}).items()),
        client.send,
        client.receive,
    )
    assert client.is_complete
    await store.settle()
    return client


# The whole.


@pytest.mark.anyio
async def test_the_whole_upload() -> None:
    client = await get(metadata={"filename": "a.png", "filetype": "image/png"})
    assert (client.status, client.body) == (200, PAYLOAD)
    assert client.headers == {
        "accept-ranges": "bytes",
        "content-disposition": 'inline; filename="a.png"',
        "content-security-policy": "sandbox",
        "content-length": str(len(PAYLOAD)),
        "content-type": "image/png",
        "etag": ETAG,
        "last-modified": LAST_MODIFIED,
    }


@pytest.mark.anyio
async def test_its_digest_is_told() -> None:
    client = Client()
    upload = finished(digest="sha256:" + "00" * 32)
    await serve(uploads_over(store_of(PAYLOAD)), upload, NO_HEADERS, client.send, client.receive)
    assert client.headers["repr-digest"] == "sha-256=:" + "A" * 43 + "=:"


@pytest.mark.anyio
async def test_a_store_may_send_the_client_elsewhere() -> None:
    store = RedirectingStore(lambda start, end: PAYLOAD[start:end])
    client = await get(store=store, metadata={"filename": "a.png", "filetype": "image/png"})
    assert (client.status, client.body, store.reads) == (302, b"", 0)
    assert client.headers == {
        "location": f'https://elsewhere.example/{ID}?image/png&inline; filename="a.png"',
        "cache-control": "no-store",
        "content-length": "0",
    }
    client = await get({"if-none-match": "*"}, store=store)
    assert client.status == 304


@pytest.mark.anyio
@pytest.mark.parametrize("state", [State.RECEIVING, State.ASSEMBLING])
async def test_unfinished_upload_is_400(state: State) -> None:
    client = Client()
    with pytest.raises(RequestError) as caught:
        await serve(uploads_over(store_of(PAYLOAD)), finished(state=state), NO_HEADERS, client.send, client.receive)
    assert (caught.value.status, caught.value.code, client.status) == (400, "ERR_INCOMPLETE_UPLOAD", 0)


@pytest.mark.anyio
@pytest.mark.parametrize("value", ["", "bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=5-", "bytes=0-1,3-4"])
async def test_an_empty_upload_is_sent_whole_whatever_the_range(value: str) -> None:
    client = await get({"range": value}, payload=b"")
    assert (client.status, client.body, client.headers["content-length"]) == (200, b"", "0")
    assert "content-range" not in client.headers


@pytest.mark.anyio
async def test_last_modified_is_never_in_the_future() -> None:
    client = Client()
    before = int(time.time())
    upload = finished(touched_at=time.time() + 3600)
    await serve(uploads_over(store_of(PAYLOAD)), upload, NO_HEADERS, client.send, client.receive)
    assert before <= parsedate_to_datetime(client.headers["last-modified"]).timestamp() <= time.time()


# Ranges.


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=63-64", 63, 65),
        ("bytes=700-", 700, 775),
        ("bytes=774-774", 774, 775),
        ("bytes=700-9999", 700, 775),
        ("bytes=0-" + "9" * 5000, 0, 775),
        ("bytes=" + "0" * 5000 + "7-8", 7, 9),
        ("bytes=-1", 774, 775),
        ("bytes=-775", 0, 775),
        ("bytes=-776", 0, 775),
        ("bytes=-" + "9" * 5000, 0, 775),
        ("bytes=0-", 0, 775),
        ("Bytes=1-2", 1, 3),
    ],
)
async def test_a_range_is_206(value: str, start: int, stop: int) -> None:
    client = await get({"range": value})
    assert (client.status, client.body) == (206, PAYLOAD[start:stop])
    assert client.headers["content-range"] == f"bytes {start}-{stop - 1}/775"
    assert (client.headers["etag"], client.headers["content-type"]) == (ETAG, DEFAULT_TYPE)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "value", ["bytes=775-", "bytes=775-775", "bytes=" + "9" * 5000 + "-", "bytes=-0", "bytes=-000", "bytes=9999-99999"]
)
async def test_a_range_with_nothing_in_it_is_416(value: str) -> None:
    client = await get({"range": value})
    assert (client.status, client.body, client.headers["content-range"]) == (416, b"", "bytes */775")
    assert "content-type" not in client.headers


@pytest.mark.anyio
@pytest.mark.parametrize(
    "value",
    [
        "", "bytes", "bytes=", "bytes=-", "bytes=--1", "bytes=5-4", "bytes=0-1,2-3", "bytes=0-1, -1", "bytes=+1-2",
        "bytes=1_0-20", "bytes= 1-2", "bytes=1 -2", "bytes=1-2 ", "bytes=1-2\n", "bytes=a-b", "bytes=0x1-2",
        "bytes=\u00b2-\u00b3", "bytes=\u0661-\u0662", "bytes=\uff11-", "items=0-1", "bytes:0-1", "0-1",
        "bytes=" + "9" * 5000 + "-0", "b\u0131tes=1-2", "bytes=0-1;q=1", "bytes=1-2-3", "bytes=1.0-2",
    ],
)  # fmt: skip
async def test_a_range_that_is_not_one_is_ignored(value: str) -> None:
    client = await get({"range": value})
    assert (client.status, client.body) == (200, PAYLOAD)


RANGES = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"\Abytes=[0-9]{0,20}-[0-9]{0,20}\Z"),
    st.builds(
        "bytes={}-{}".format,
        st.one_of(st.just(""), st.integers(0, 400)),
        st.one_of(st.just(""), st.integers(0, 400)),
    ),
)


@settings(deadline=None)
@given(payload=st.binary(max_size=300), value=RANGES, piece_bytes=st.integers(1, 100))
@example(payload=b"x", value="bytes=0-0", piece_bytes=1)
def test_any_range_gives_the_slice_it_names(payload: bytes, value: str, piece_bytes: int) -> None:
    client = anyio.run(lambda: get({"range": value}, payload=payload, store=store_of(payload, piece_bytes=piece_bytes)))
    if client.status == 206:
        first, last, length = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", client.headers["content-range"]).groups()
        assert client.body == payload[int(first) : int(last) + 1] == _slice(payload, value)
        assert int(length) == len(payload)
    elif client.status == 416:
        assert _slice(payload, value) == b""
        assert client.headers["content-range"] == f"bytes */{len(payload)}"
    else:
        assert (client.status, client.body) == (200, payload)
        assert not payload or _slice(payload, value) is None


def _slice(payload: bytes, value: str) -> bytes | None:
    """The bytes meant, by Python's own slicing; None for a Range that means nothing."""
    found = re.fullmatch(r"(?i:bytes)=([0-9]*)-([0-9]*)", value)
    if not found or found[1] == found[2] == "":
        return None
    first, last = (int(each) if each else None for each in found.groups())
    if first is None:
        return payload[-last:] if last else b""
    if last is not None and last < first:
        return None
    return payload[first : None if last is None else last + 1]


def test_ranges_of_the_longest_upload() -> None:
    longest = 2**63 - 1
    assert parse_range("bytes=-1", longest) == range(longest - 1, longest)
    assert parse_range(f"bytes={longest - 1}-", longest) == range(longest - 1, longest)
    assert parse_range("bytes=0-" + "9" * 20, longest) == range(longest)
    assert parse_range(f"bytes={longest}-", longest) == range(0)


# Preconditions.

WEAK = f"W/{ETAG}"
OTHER = '"other"'


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": ETAG}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": f"{OTHER}, {ETAG}"}, 200),
        ({"if-match": f'"a,b",{ETAG},"c"'}, 200),
        ({"if-match": WEAK}, 412),
        ({"if-match": OTHER}, 412),
        ({"if-match": ""}, 412),
        ({"if-match": ETAG[1:-1]}, 412),
        ({"if-match": f"w/{ETAG}"}, 412),
        ({"if-match": f"x{ETAG}"}, 412),
        ({"if-match": '"' * 9999}, 412),
        ({"if-none-match": ETAG}, 304),
        ({"if-none-match": WEAK}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": f"{OTHER} , {WEAK}"}, 304),
        ({"if-none-match": OTHER}, 200),
        ({"if-none-match": ""}, 200),
        ({"if-none-match": '"*"'}, 200),
        ({"if-modified-since": LAST_MODIFIED}, 304),
        ({"if-modified-since": LATER}, 304),
        ({"if-modified-since": EARLIER}, 200),
        ({"if-modified-since": "Tuesday, 14-Nov-23 22:13:20 GMT"}, 304),
        ({"if-modified-since": "Tue Nov 14 22:13:20 2023"}, 304),
        ({"if-modified-since": "Tuesday, 14-Nov-23 22:13:19 GMT"}, 200),
        ({"if-modified-since": f"{LATER}, {LATER}"}, 200),
        ({"if-modified-since": "tomorrow"}, 200),
        ({"if-unmodified-since": LAST_MODIFIED}, 200),
        ({"if-unmodified-since": EARLIER}, 412),
        ({"if-unmodified-since": "long ago"}, 200),
        # RFC 9110 13.2.2: which goes first
        ({"if-match": ETAG, "if-unmodified-since": EARLIER}, 200),
        ({"if-match": OTHER, "if-unmodified-since": LATER}, 412),
        ({"if-match": OTHER, "if-none-match": ETAG}, 412),
        ({"if-match": ETAG, "if-none-match": ETAG}, 304),
        ({"if-none-match": OTHER, "if-modified-since": LATER}, 200),
        ({"if-none-match": ETAG, "if-modified-since": EARLIER}, 304),
        ({"if-unmodified-since": EARLIER, "if-none-match": ETAG}, 412),
        ({"if-unmodified-since": LATER, "if-modified-since": LATER}, 304),
        ({"if-none-match": ETAG, "range": "bytes=0-0"}, 304),
        ({"if-match": OTHER, "range": "bytes=999-"}, 412),
        ({"if-match": ETAG, "range": "bytes=0-0"}, 206),
        ({"if-match": ETAG, "range": "bytes=999-"}, 416),
        # RFC 9110 13.1.5
        ({"range": "bytes=0-0", "if-range": ETAG}, 206),
        ({"range": "bytes=0-0", "if-range": WEAK}, 200),
        ({"range": "bytes=0-0", "if-range": OTHER}, 200),
        ({"range": "bytes=0-0", "if-range": "*"}, 200),
        ({"range": "bytes=0-0", "if-range": LAST_MODIFIED}, 206),
        ({"range": "bytes=0-0", "if-range": EARLIER}, 200),
        ({"range": "bytes=0-0", "if-range": LATER}, 200),
        ({"range": "bytes=0-0", "if-range": ""}, 200),
        ({"range": "bytes=999-", "if-range": OTHER}, 200),
        ({"range": "bytes=999-", "if-range": ETAG}, 416),
        ({"if-range": OTHER}, 200),
    ],
)
async def test_preconditions(headers: dict[str, str], status: int) -> None:
    store = store_of(PAYLOAD)
    client = await get(headers, store=store)
    assert client.status == status
    assert client.body == {200: PAYLOAD, 206: PAYLOAD[:1]}.get(status, b"")
    assert (client.headers["etag"], client.headers["last-modified"]) == (ETAG, LAST_MODIFIED)
    if status not in (200, 206):
        assert store.reads == 0
    if status == 304:
        assert "content-length" not in client.headers


CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range")


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(CONDITIONS),
        st.one_of(
            st.text(st.characters(max_codepoint=255), max_size=60),
            st.sampled_from([ETAG, WEAK, "*", LAST_MODIFIED, "bytes=1-", f'{OTHER},"']),
        ),
    )
)
def test_no_condition_breaks_the_answer(headers: dict[str, str]) -> None:
    client = anyio.run(lambda: get(headers))
    assert client.status in (200, 206, 304, 412, 416)
    assert client.body in (PAYLOAD, PAYLOAD[1:], b"") or client.status == 206


@pytest.mark.parametrize("pattern", ['"', ' "', ',"', 'W/"', '"x" ', "W/", "\x80", '"\x80,'])
def test_long_lists_of_tags_cost_little(pattern: str) -> None:
    """Quadratic matching of a header of 64 KiB would take many seconds."""
    headers = {"if-match": pattern * (65536 // len(pattern))}
    started = time.process_time()
    assert anyio.run(lambda: get(headers)).status == 412
    assert time.process_time() - started < 1


@given(st.integers(0, 4_000_000_000))
def test_dates_parse_back(at: int) -> None:
    assert parse_date(formatdate(at, usegmt=True)) == at


@pytest.mark.parametrize(
    "text",
    ["", "0", "Tue, 14 Nov 2023 22:13:20", "Tue, 14 Nov 2023 22:13:20 CET", "Tue, 31 Feb 2023 22:13:20 GMT", "9" * 9999,
     "Tue, 14 Nov 2023 24:13:20 GMT", "Tue, 14 Nov 2023 22:13:20 GMT ;", "Tue, 14 Nov 99999 22:13:20 GMT"],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    assert parse_date(text) is None


# Types and names.


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, DEFAULT_TYPE),
        ({"filetype": "image/png"}, "image/png"),
        ({"type": "image/png"}, "image/png"),
        ({"filetype": "text/plain", "type": "image/png"}, "text/plain"),
        ({"filetype": "", "type": "image/png"}, "image/png"),
        ({"filetype": "nonsense", "type": "image/png"}, DEFAULT_TYPE),
        ({"filetype": "text/plain; charset=utf-8"}, "text/plain; charset=utf-8"),
        ({"filetype": "text/plain;charset=UTF-8"}, "text/plain;charset=UTF-8"),
        ({"filetype": 'video/webm; codecs="vp8.0 opus"'}, 'video/webm; codecs="vp8.0 opus"'),
        ({"filetype": "Image/PNG"}, "Image/PNG"),
        ({"filetype": "application/vnd.x.macroEnabled.12"}, "application/vnd.x.macroEnabled.12"),
        ({"filetype": "text/html"}, "text/html"),
        ({"filetype": "text/plain;a=b,text/html"}, DEFAULT_TYPE),
        ({"filetype": 'text/plain;a="b,text/html"'}, DEFAULT_TYPE),
        ({"filetype": "text/plain,text/html"}, DEFAULT_TYPE),
        ({"filetype": "text/plain\r\nSet-Cookie: a=b"}, DEFAULT_TYPE),
        ({"filetype": "text/plain\n"}, DEFAULT_TYPE),
        ({"filetype": "text/plain;a=b\x00"}, DEFAULT_TYPE),
        ({"filetype": 'text/plain;a="b\\""'}, DEFAULT_TYPE),
        ({"filetype": "text/plain;"}, DEFAULT_TYPE),
        ({"filetype": "text"}, DEFAULT_TYPE),
        ({"filetype": "/plain"}, DEFAULT_TYPE),
        ({"filetype": " text/plain"}, DEFAULT_TYPE),
        ({"filetype": "te\u212at/plain"}, DEFAULT_TYPE),
        ({"filetype": "text/pla\u0131n"}, DEFAULT_TYPE),
        ({"filetype": "text/" + "a" * 250}, "text/" + "a" * 250),
        ({"filetype": "text/" + "a" * 251}, DEFAULT_TYPE),
    ],
)  # fmt: skip
def test_content_type(metadata: dict[str, str], expected: str) -> None:
    assert describe_type(metadata) == expected


@pytest.mark.parametrize(
    ("content_type", "is_inline"),
    [
        *((each, True) for each in sorted(INLINE_TYPES)),
        ("text/plain; charset=utf-8", True),
        ("Image/PNG ;a=b", True),
        *(
            (each, False)
            for each in (
                "text/html", "TEXT/HTML", "text/html;a=image/png", "image/svg+xml", "application/xml", "text/xml",
                "application/xhtml+xml", "application/pdf", "text/javascript", "application/javascript", "text/css",
                "application/json", "application/zip", "image/png+xml", "text/plainx", DEFAULT_TYPE,
            )
        ),
    ],
)  # fmt: skip
def test_only_harmless_types_are_shown_inline(content_type: str, is_inline: bool) -> None:
    disposition = describe_disposition({"filename": "a"}, content_type)
    assert disposition == f'{"inline" if is_inline else "attachment"}; filename="a"'
    assert describe_disposition({}, content_type) == disposition.partition(";")[0]


@pytest.mark.parametrize(
    ("given_name", "parameters"),
    [
        ("a.txt", 'filename="a.txt"'),
        ("a b.txt", 'filename="a b.txt"'),
        ('a"b.txt', r'filename="a\"b.txt"'),
        ("a;b=c,d.txt", 'filename="a;b=c,d.txt"'),
        ("50%.txt", 'filename="50%.txt"'),
        ("a%41.txt", "filename=\"a_41.txt\"; filename*=UTF-8''a%2541.txt"),
        ("n\u00e4\u00efve.txt", "filename=\"n__ve.txt\"; filename*=UTF-8''n%C3%A4%C3%AFve.txt"),
        ("\u65e5\u672c.txt", "filename=\"__.txt\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt"),
        ("\U0001f600", "filename=\"_\"; filename*=UTF-8''%F0%9F%98%80"),
        ("../../etc/passwd", 'filename=".._.._etc_passwd"'),
        ("C:\\x\\y.txt", 'filename="C:_x_y.txt"'),
        ("a\r\nSet-Cookie: b=c", 'filename="aSet-Cookie: b=c"'),
        ("a\x00b\x7fc\x85d", 'filename="abcd"'),
        ("gpj.\u202efdp.exe", 'filename="gpj.fdp.exe"'),
        ("a\ud800b", 'filename="ab"'),
        ("\r\n", f'filename="{DEFAULT_NAME}"'),
        ("  ", f'filename="{DEFAULT_NAME}"'),
        ("..", f'filename="{DEFAULT_NAME}"'),
        (".profile", 'filename=".profile"'),
        (" a ", 'filename="a"'),
        ("x" * 300 + ".png", f'filename="{"x" * 251}.png"'),
    ],
)
def test_file_names(given_name: str, parameters: str) -> None:
    assert describe_disposition({"filename": given_name}, DEFAULT_TYPE) == f"attachment; {parameters}"


def test_which_name_counts() -> None:
    assert describe_disposition({"name": "n"}, DEFAULT_TYPE) == 'attachment; filename="n"'
    assert describe_disposition({"name": "n", "filename": "f"}, DEFAULT_TYPE) == 'attachment; filename="f"'
    assert describe_disposition({"name": "n", "filename": ""}, DEFAULT_TYPE) == 'attachment; filename="n"'
    assert describe_disposition({"name": ""}, DEFAULT_TYPE) == "attachment"


DISPOSITION = re.compile(
    r'(inline|attachment); filename="((?:[^"\\\x00-\x1f\x7f-\U0010ffff]|\\["\\])+)"'
    r"(?:; filename\*=UTF-8''((?:%[0-9A-F]{2}|[A-Za-z0-9!#$&+.^_`|~-])+))?"
)


@settings(max_examples=500)
@given(st.text(st.characters(exclude_categories=()), min_size=1))  # lone surrogates, too
@example("\"\\\"; filename*=UTF-8''evil.exe")
@example("%0d%0aSet-Cookie: a=b")
def test_any_name_gives_a_field_that_parses_back(given_name: str) -> None:
    found = DISPOSITION.fullmatch(describe_disposition({"filename": given_name}, "text/plain"))  # RFC 6266, RFC 8187
    assert found
    plain = re.sub(r"\\(.)", r"\1", found[2])
    name = unquote(found[3], errors="strict") if found[3] else plain
    assert name == safe_name(given_name)
    assert re.sub("[^ -~]", "_", name).replace("%", "_") == plain.replace("%", "_")
    assert 0 < len(name) <= MAX_NAME_CHARACTERS
    assert not re.search("[\x00-\x1f\x7f-\x9f/\\\\\u2028\u2029\u202a-\u202e\u2066-\u2069]", name)
    assert name.strip(". ")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["filename", "name", "filetype", "type"]), st.text(max_size=50)))
def test_no_metadata_smuggles_a_header(metadata: dict[str, str]) -> None:
    client = anyio.run(lambda: get(metadata=metadata))  # the client refuses what is no visible ASCII
    assert client.status == 200
    assert len(client.headers) == 7


# Stores that fail and clients that leave.


@pytest.mark.anyio
@pytest.mark.parametrize("damage", [{"fails_at": 0}, {"ends_at": 0}])
async def test_a_store_that_fails_at_once_gets_an_honest_status(damage: dict[str, int]) -> None:
    store, client = store_of(PAYLOAD, **damage), Client()
    with pytest.raises(BackendError) as caught:
        await serve(uploads_over(store), finished(), NO_HEADERS, client.send, client.receive)
    await store.settle()
    assert (caught.value.status, client.status) == (500, 0)


@pytest.mark.anyio
async def test_what_the_store_has_lost_is_404() -> None:
    class LostStore:
        async def read_range(self, *_: Any) -> AsyncIterator[Buffer]:
            raise upload_not_found()
            yield b""

    client = Client()
    with pytest.raises(RequestError) as caught:
        await serve(uploads_over(LostStore()), finished(), NO_HEADERS, client.send, client.receive)
    assert (caught.value.status, client.status) == (404, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("damage", [{"fails_at": 128}, {"ends_at": 128}, {"ends_at": 774, "piece_bytes": 129}])
async def test_a_short_body_is_never_completed(damage: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    store, client = store_of(PAYLOAD, **damage), Client()
    with pytest.raises(BackendError):
        await serve(uploads_over(store), finished(), NO_HEADERS, client.send, client.receive)
    assert client.status == 200
    assert not client.is_complete
    assert client.body == PAYLOAD[: len(client.body)]
    assert len(client.body) < len(PAYLOAD)
    await store.settle()
    assert [record.message.split()[:2] for record in caplog.records] == [["DownloadFailed", f"id={ID}"]]


@pytest.mark.anyio
async def test_a_long_piece_never_leaves() -> None:
    store, client = PatternStore(lambda start, end: PAYLOAD[start : end + 1], piece_bytes=64), Client()
    with pytest.raises(BackendError):
        await serve(uploads_over(store), finished(), Headers([("range", "bytes=0-63")]), client.send, client.receive)
    assert client.status == 0


@pytest.mark.anyio
@pytest.mark.parametrize("message_number", [0, 1, 3])
async def test_reading_ends_when_send_says_that_the_client_left(message_number: int) -> None:
    store, sent = store_of(PAYLOAD), []

    async def send(message: Any) -> None:
        if len(sent) == message_number:
            raise BrokenPipeError
        sent.append(message)

    await serve(uploads_over(store), finished(), NO_HEADERS, send, anyio.sleep_forever)
    await store.settle()
    assert len(sent) == message_number
    assert store.reads == max(1, message_number)


@pytest.mark.anyio
async def test_reading_ends_when_receive_says_that_the_client_left() -> None:
    """Servers such as uvicorn drop what is sent to nobody, without a word."""
    store, client = store_of(PAYLOAD), Client()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if len(client.pieces) >= 3:
            return {"type": "http.disconnect"}
        if not messages:
            await anyio.sleep_forever()
        return messages.pop()

    await serve(uploads_over(store), finished(), NO_HEADERS, client.send, receive)
    await store.settle()
    assert (len(client.pieces), store.reads) == (3, 3)
    assert not client.is_complete


@pytest.mark.anyio
async def test_a_download_that_never_waits_leaves_turns_to_others() -> None:
    """Neither its store nor its server ever waits, and asking whether the client left does not wait for an answer."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    client = Client()
    async with anyio.create_task_group() as group:
        group.start_soon(count_turns)
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(5):
            await serve(uploads_over(store_of(PAYLOAD)), finished(), NO_HEADERS, client.send, client.receive)
        assert turns >= len(client.pieces) > 10
        group.cancel_scope.cancel()
    assert client.body == PAYLOAD


@pytest.mark.anyio
async def test_a_cancelled_download_closes_its_reader() -> None:
    store = store_of(PAYLOAD)
    is_stuck = anyio.Event()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            is_stuck.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(serve, uploads_over(store), finished(), NO_HEADERS, send, anyio.sleep_forever)
        await is_stuck.wait()
        assert store.open_readers == 1
        group.cancel_scope.cancel()
    await store.settle()


# Over sockets.

MEBIBYTE = 1 << 20


@asynccontextmanager
async def serving(store: PatternStore, upload: Upload, http: Any) -> AsyncIterator[int]:
    """The port of a real server that answers every request with the download."""

    async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        await serve(uploads_over(store), upload, Headers.of_raw(scope["headers"]), send, receive)

    config = uvicorn.Config(app, http=http, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True


async def read_response(stream: anyio.abc.SocketStream) -> tuple[bytes, bytes]:
    """Head, and as much of the body as comes."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    received = bytearray(body)
    try:
        while len(received) < length:
            received += await stream.receive()
    except anyio.EndOfStream:
        pass
    return head, bytes(received)


SERVERS = pytest.mark.parametrize("http", ["httptools", "h11", TusProtocol])


@pytest.mark.anyio
@SERVERS
async def test_two_downloads_on_one_connection(http: Any) -> None:
    payload = bytes(range(251)) * 20_000
    store = store_of(payload, piece_bytes=256 * 1024)
    with anyio.fail_after(10):
        async with (
            serving(store, finished(len(payload)), http) as port,
            await anyio.connect_tcp("127.0.0.1", port) as stream,
        ):
            await stream.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            head, body = await read_response(stream)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert body == payload
            await stream.send(b"GET /x HTTP/1.1\r\nHost: a\r\nRange: bytes=300000-600000\r\n\r\n")
            head, body = await read_response(stream)
            assert head.startswith(b"HTTP/1.1 206 ")
            assert body == payload[300_000:600_001]
    await store.settle()


@pytest.mark.anyio
@SERVERS
async def test_a_failing_store_cuts_the_connection(http: Any) -> None:
    payload = bytes(4 * MEBIBYTE)
    store = store_of(payload, piece_bytes=256 * 1024, fails_at=2 * MEBIBYTE)
    with anyio.fail_after(10):
        async with (
            serving(store, finished(len(payload)), http) as port,
            await anyio.connect_tcp("127.0.0.1", port) as stream,
        ):
            await stream.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            head, body = await read_response(stream)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) <= 2 * MEBIBYTE


@pytest.mark.anyio
@SERVERS
async def test_a_client_that_leaves_ends_the_reading(http: Any) -> None:
    piece = bytes(256 * 1024)
    store = PatternStore(lambda start, end: piece[: end - start], piece_bytes=len(piece))
    length = 1 << 50  # if reading went on, it would take years
    with anyio.fail_after(10):
        async with serving(store, finished(length), http) as port:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
            await store.closed.wait()
