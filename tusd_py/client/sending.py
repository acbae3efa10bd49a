"""Sends a file until it is there: attempt after attempt from the offset that the server has; then compares digests."""

from __future__ import annotations

import hashlib
import os
import re
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from urllib.parse import urlsplit

from tusclient.client import TusClient

from tusd_py.client.answers import is_at_home
from tusd_py.client.bookmark import Bookmark, Identity
from tusd_py.client.progress import Progress
from tusd_py.client.session import Session
from tusd_py.client.transfer import Transfer, Trouble, ask, private

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
VERSION = {"Tus-Resumable": "1.0.0"}
DIGESTS = {"sha-256": "sha256", "sha-512": "sha512"}
_DIGEST = re.compile(r"(?:^|[,\s])(sha-256|sha-512)=:([A-Za-z0-9+/=]+):")


@dataclass(frozen=True, slots=True)
class Order:
    """Where files go, and how."""

    endpoint: str
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    chunk_bytes: int
    retry_seconds: float
    has_checksums: bool
    state_folder: str


@dataclass(slots=True)
class Sender:
    """Sends files one after the other over one session."""

    order: Order
    progress: Progress
    session: Session = field(default_factory=Session)
    has_heard: bool = False  # from the server; before that, it is rather the address that is wrong
    is_kept: bool = True  # so that the same command goes on with it
    _said: set[str] = field(default_factory=set)

    def check_checksums(self) -> None:
        answer = ask(self.session, "OPTIONS", self.order.endpoint, self.order.headers)
        if "checksum" not in answer.headers.get("Tus-Extension", "").replace(" ", "").split(","):
            raise Trouble("this server verifies no checksums: leave out --checksum")

    def send(self, path: str, file: BufferedReader, metadata: Mapping[str, str]) -> str:
        """Returns the upload's URL. Raises Trouble, or Taken."""
        identity = Identity.of(path, file.fileno())
        with Bookmark(self.order.state_folder, identity, self.order.endpoint) as bookmark:
            if bookmark.url:
                self.progress.say("going on with what was begun before")
            try:
                url = self._persist(file, metadata, bookmark)
            except Trouble as trouble:
                self._check_unchanged(path, file, identity, bookmark, trouble)
                raise
            self._check_unchanged(path, file, identity, bookmark)
            self._compare(url, file, bookmark)
            bookmark.remove()
            return url

    def _check_unchanged(
        self, path: str, file: BufferedReader, before: Identity, bookmark: Bookmark, cause: Trouble | None = None
    ) -> None:
        """Of trouble, too, a change is the likely cause."""
        if Identity.of(path, file.fileno()) != before:
            bookmark.forget()
            raise Trouble("the file changed while it was sent, and what arrived is a mixture: send it again") from cause

    def _persist(self, file: BufferedReader, metadata: Mapping[str, str], bookmark: Bookmark) -> str:
        patience = Patience(self.order.retry_seconds)
        while True:
            try:
                return self._attempt(file, metadata, bookmark, patience)
            except Trouble as trouble:
                self.has_heard = self.has_heard or trouble.has_answer
                wait = patience.next_delay() if trouble.is_passing else None
                if trouble.is_gone and wait is None and bookmark.url and not patience.is_renewed:
                    patience = Patience(self.order.retry_seconds, is_renewed=True)
                    bookmark.forget()
                    self.progress.say(f"the server has this upload no more, so it is sent anew ({trouble})")
                    continue
                if wait is None or not (self.has_heard or bookmark.url):
                    raise
                self.progress.say(f"{trouble}; trying again in {wait:.3g} s")
                time.sleep(wait)

    def _attempt(
        self, file: BufferedReader, metadata: Mapping[str, str], bookmark: Bookmark, patience: Patience
    ) -> str:
        def hear(offset: int) -> None:
            self.has_heard = True
            self.progress.at(offset)

        def keep(url: str) -> None:
            bookmark.keep(url)
            if bookmark.why_unkept:
                self.is_kept = False
                self._say_once(f"not remembered, so that it starts anew if interrupted ({bookmark.why_unkept})")
            if self.order.headers and not is_at_home(self.order.endpoint, url):
                self._say_once(f"it goes to another host, {urlsplit(url).netloc}, and --header does not go there")

        length = os.fstat(file.fileno()).st_size
        transfer = Transfer(
            self.session,
            TusClient(self.order.endpoint, dict(self.order.headers)),
            file,
            on_url=keep,
            on_bytes=hear,
            url=bookmark.url or None,
            chunk_size=self.order.chunk_bytes,
            metadata=dict(metadata),
            upload_checksum=self.order.has_checksums,
        )
        if transfer.offset > length:
            raise Trouble(f"the upload has {transfer.offset:,} bytes, and the file {length:,}", is_gone=True)
        patience.note(transfer.offset)
        self.progress.resume(transfer.offset)
        try:
            transfer.upload()
        finally:
            patience.note(transfer.offset)
        return str(transfer.url)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.progress.say(text)

    def _compare(self, url: str, file: BufferedReader, bookmark: Bookmark) -> None:
        """With the digest that the server computed, if it tells one (RFC 9530)."""
        try:
            headers = {**VERSION, **private(self.order.headers, self.order.endpoint, url)}
            told = ask(self.session, "HEAD", url, headers).headers.get("Repr-Digest", "")
        except Trouble:
            return  # all bytes are there, and only this is not known
        found = _DIGEST.search(told)
        if found is None:
            return
        name, value = found.groups()
        file.seek(0)
        digest = hashlib.file_digest(file, DIGESTS[name]).digest()
        if value != b64encode(digest).decode():
            bookmark.forget()
            raise Trouble("the server has other bytes than the file (its digest differs): send it again")


class Patience:
    """How long trouble may last: it starts again with each byte that arrives."""

    def __init__(self, seconds: float, *, is_renewed: bool = False) -> None:
        self._seconds = seconds
        self._offset = -1
        self._delay = FIRST_DELAY_SECONDS
        self._since: float | None = None
        self.is_renewed = is_renewed

    def note(self, offset: int) -> None:
        if offset > self._offset:
            if self._offset >= 0:
                self._delay = FIRST_DELAY_SECONDS
                self._since = None
            self._offset = offset

    def next_delay(self) -> float | None:
        """None when it is used up."""
        now = time.monotonic()
        self._since = self._since if self._since is not None else now
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY_SECONDS)
        left = self._seconds - (now - self._since)
        return min(delay, left) if left > 0 else None
