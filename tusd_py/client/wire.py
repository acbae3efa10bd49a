"""HTTP/1.1 as a client that may be rude: it sends a body in pieces, pauses, and hangs up in the middle.

One connection a request. It counts what it sends and how long answers take; every wait has a limit. What is asked, and
what an answer means, is left to others.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.client
import select
import socket
import ssl
import struct
import termios
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tusd_py.client import answers
from tusd_py.client.interruption import Haste
from tusd_py.client.limits import TimelyAnswer, in_time

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 15.0  # from the last byte that was sent to the last that is read
LEAVE_SECONDS = 20.0
EARLY_SECONDS = 0.5
PIECE_BYTES = 64 << 10
MOST_BODY_BYTES = 64 << 10  # samples are smaller


class WireError(Exception):
    """No answer: the text says what happened instead."""


@dataclass(frozen=True, slots=True)
class Answer:
    method: str
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    wall_time: float

    def header(self, name: str) -> str:
        """The value, or "" where there is none."""
        return (self.headers.get(name) or "").strip()

    def headers_named(self, name: str) -> list[str]:
        return [each.strip() for each in self.headers.get_all(name) or []]

    def names(self, name: str) -> set[str]:
        """A list field, in lower case."""
        words = ",".join(self.headers_named(name)).lower().split(",")
        return {word.strip() for word in words} - {""}

    def number(self, name: str) -> int | None:
        return answers.number(self.header(name))

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_from_tus(self) -> bool:
        return "tus-resumable" in self.headers

    def __str__(self) -> str:
        """As a clause: what was answered, and by whom if it was no tus server."""
        said = answers.said(self.body, 80, is_packed="content-encoding" in self.headers)
        if self.is_from_tus or self.is_success:
            return f"{self.method} answered {self.status}{said}"
        by = f"from {server} and " if (server := self.header("server")) else ""
        return f"{self.method} answered {self.status}{said}, {by}not from a tus server"


@dataclass(slots=True)
class Traffic:
    sent_bytes: int = 0
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def requests(self) -> int:
        return sum(map(len, self.seconds.values()))


class Wire:
    """`headers` go with every request to where the `endpoint` is, and to no other host: there may be a login among
    them. But for requests that are `bare`: as a browser asks before it knows anything."""

    def __init__(self, headers: Mapping[str, str], endpoint: str) -> None:
        self.traffic = Traffic()
        self.haste = Haste()
        self._headers = dict(headers)
        self._endpoint = endpoint
        self._tls: ssl.SSLContext | None = None

    def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"", *, is_bare: bool = False
    ) -> Answer:
        """A whole request. Raises WireError if there is no answer."""
        length = len(body) if body or method in ("POST", "PATCH") else None
        with self.begin(method, url, headers, length, is_bare=is_bare) as request:
            request.send(body)
            return request.answer()

    def begin(
        self, method: str, url: str, headers: Mapping[str, str], length: int | None, *, is_bare: bool = False
    ) -> Request:
        """Send the head of a request; its body may follow. `length` None leaves it to `headers` what follows."""
        with translated():
            parts = urlsplit(url)
            connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
            own = self._headers if not is_bare and answers.is_at_home(self._endpoint, url) else {}
        self.haste.renew()
        try:
            with translated():
                in_time(connection.connect, self.haste.countdown(CONNECT_SECONDS), connection.close)
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.putrequest(method, f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
                for name, value in (*own.items(), *headers.items()):
                    connection.putheader(name, value)
                if length is not None:
                    connection.putheader("Content-Length", str(length))
                connection.endheaders()
        except BaseException as error:
            connection.close()
            if isinstance(error, WireError):
                self.haste.give_up()
            raise
        return Request(connection, method, self.traffic, self.haste)

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
        self._tls = self._tls or ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=self._tls)


class Request:
    """One whose head is sent. Leaving the context hangs up."""

    def __init__(self, connection: http.client.HTTPConnection, method: str, traffic: Traffic, haste: Haste) -> None:
        self._connection = connection
        self._method = method
        self._traffic = traffic
        self._haste = haste
        self._began_at = time.monotonic()
        self.is_refused = False  # the other side took no more; an answer may be there
        self.sent = 0

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def send(self, data: bytes, *, is_chunked: bool = False) -> None:
        """Until all is sent, or the other side takes no more (an early answer that closes the connection)."""
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            if self.is_refused:
                return
            try:
                self._connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            except TimeoutError:
                raise WireError(f"no byte was taken for {CONNECT_SECONDS:.0f} s") from None
            except OSError:
                self.is_refused = True
                return
            self.sent += len(piece)
            self._traffic.sent_bytes += len(piece)

    def end_chunks(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(b"0\r\n\r\n")

    def let_go(self) -> None:
        """Return when the kernel has sent all, so that a slow way out does not look like lost bytes."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while self._unsent() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _unsent(self) -> int:
        try:
            counted = fcntl.ioctl(self._connection.sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        except OSError:
            return 0
        return int(struct.unpack("i", counted)[0])

    def answer(self, seconds: float | None = None) -> Answer:
        timely = functools.partial(TimelyAnswer, left=self._haste.countdown(seconds or ANSWER_SECONDS))
        self._connection.response_class = timely  # type: ignore[assignment]
        try:
            with translated("the answer is no HTTP"), self._connection.getresponse() as response:
                body = response.read(MOST_BODY_BYTES)
        except WireError as error:
            self._haste.give_up()
            if self.is_refused:
                raise WireError(f"the connection was closed after {self.sent:,} bytes, with no answer") from error
            raise
        took = time.monotonic() - self._began_at
        self._traffic.seconds[self._method].append(took)
        return Answer(self._method, response.status, response.headers, body, time.time())

    def early_answer(self) -> Answer | None:
        """One that came before the body was whole, if any."""
        if not self.is_refused and not select.select([self._connection.sock], [], [], 0)[0]:
            return None
        try:
            return self.answer(EARLY_SECONDS)
        except WireError:
            if self.is_refused:
                raise
            return None  # what was there to read was TLS's own

    def cut(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def translated(of_values: str = "the address cannot be used") -> Iterator[None]:
    """Every failure of a connection as a WireError; those of its start keep their cause."""
    try:
        yield
    except TimeoutError as error:
        raise WireError("no answer came in time") from error
    except http.client.RemoteDisconnected as error:
        raise WireError("the connection was closed without an answer") from error
    except http.client.HTTPException as error:
        raise WireError(f"the answer is no HTTP: {type(error).__name__}") from error
    except ssl.SSLError as error:
        raise WireError(f"TLS fails: {error.reason or error}") from error
    except OSError as error:
        raise WireError(error.strerror or str(error)) from error
    except ValueError as error:  # of an address that somebody gave us, or of numbers in an answer
        raise WireError(f"{of_values}: {error}") from error
