"""How processes ask each other to let go of an upload, by way of Redis: a channel for each process, a word or two.

Who follows another's turn sends `ask ID ASKER HOLDER WISHES` to the holder's process and hears `answer ID HOLDER WISH
yes|no` and, when the turn is over, `free ID HOLDER`; who is no longer interested says `leave ID ASKER`. Who listens
again after a while tells everybody `hello PROCESS` and is asked again; `listening PROCESS` is for `relay`. Messages
may be lost and nothing hangs on one: when the lease has run out, or should have been renewed, one asks again. Who has
the lock is not decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tusd_py.core.body import Wish
from tusd_py.core.upload import UploadId
from tusd_py.lockers.redis.connection import Connection
from tusd_py.lockers.redis.lease import Leases, process_of
from tusd_py.lockers.redis.subscription import Subscription
from tusd_py.lockers.turns import Turns

_GRACE_SECONDS = 0.005  # Redis has forgotten the lease by then

# KEYS lock. ARGV beginning of channels, id, asker, wishes. Tells the holder; its value and what is left of its lease
# in ms, or nil: there is none.
_ASK = """
local holder = redis.call('GET', KEYS[1])
if not holder then return nil end
local process = string.match(holder, '^(.*):') or ''
redis.call('PUBLISH', ARGV[1] .. process, table.concat({'ask', ARGV[2], ARGV[3], holder, ARGV[4]}, ' '))
return {holder, redis.call('PTTL', KEYS[1])}
"""

# The key is not touched: in a Cluster it leads to where the lock was let go, so that this is heard after that.
_TELL = "return redis.call('PUBLISH', ARGV[1], ARGV[2])"


class Requests:
    """What goes to and from the other processes."""

    def __init__(self, connection: Connection, leases: Leases, turns: Turns) -> None:
        self.turns = turns
        self.follows: dict[str, Follow] = {}
        self.askers: dict[tuple[UploadId, str], _Asker] = {}
        self.is_listening = asyncio.Event()
        self.listening_since: float | None = None
        self._connection = connection
        self._leases = leases
        self._channels = f"{leases.prefix}process:"
        self._everybody = f"{leases.prefix}everybody"
        self._subscription = Subscription(
            connection,
            (self._channels + leases.process, self._everybody),
            began=self._began,
            received=self._received,
            ended=self._ended,
        )
        self.listeners: Callable[[str], None] = _nobody

    def open(self) -> None:
        self._subscription.open()

    async def aclose(self) -> None:
        """Those who asked hear that what they waited for is free: it is let go before this is called."""
        await self._subscription.aclose()
        self.is_listening.clear()
        for follow in list(self.follows.values()):
            follow.close()
        for asker in list(self.askers.values()):
            asker.ended()
            asker.leave()

    def ask(self, upload_id: UploadId, wishes: str, heard: Callable[[Any], None]) -> asyncio.Future[None]:
        key, process = self._leases.lock_key(upload_id), self._leases.process
        return self._connection.call("EVAL", _ASK, 1, key, self._channels, upload_id, process, wishes, convert=heard)

    def leave(self, upload_id: UploadId, holder: str) -> None:
        self.tell(process_of(holder), f"leave {upload_id} {self._leases.process}", upload_id)

    def tell(self, process: str, message: str, about: str) -> None:
        self.publish(self._channels + process, message, about)

    def tell_everybody(self, message: str) -> None:
        self.publish(self._everybody, message, self._leases.process)

    def publish(self, channel: str, message: str, about: str) -> None:
        self._connection.tell("EVAL", _TELL, 1, self._leases.lock_key(about), channel, message)

    # Listening.

    def _began(self) -> None:
        self.is_listening.set()
        self.listening_since = asyncio.get_running_loop().time()
        process = self._leases.process
        self.tell_everybody(f"hello {process}")
        self._ask_again(lambda _follow: True)

    def _ended(self) -> None:
        self.is_listening.clear()
        self.listening_since = None
        # Those who wait learn now whether Redis is gone.
        self._ask_again(lambda _follow: True)

    def _received(self, message: str) -> None:
        with suppress(ValueError):  # nothing that we ever say
            self._understood(*message.split(" "))

    def _understood(self, verb: str, *words: str) -> None:
        if verb == "hello":
            (process,) = words
            self._ask_again(lambda follow: process_of(follow.holder or "") == process)
        elif verb == "listening":
            (process,) = words
            self.listeners(process)
        elif verb == "ask":
            upload_id, process, holder, wishes = words
            self._asked(UploadId(upload_id), process, holder, [Wish(wish) for wish in wishes.split(",") if wish])
        elif verb == "leave":
            upload_id, process = words
            if (asker := self.askers.pop((UploadId(upload_id), process), None)) is not None:
                asker.leave()
        elif verb == "answer":
            upload_id, holder, wish, word = words
            if (follow := self._following(upload_id, holder)) is not None:
                follow.answered(Wish(wish), word == "yes")
        elif verb == "free":
            upload_id, holder = words
            if (follow := self._following(upload_id, holder)) is not None:
                follow.end()

    def _following(self, upload_id: str, holder: str) -> Follow | None:
        follow = self.follows.get(upload_id)
        return follow if follow is not None and follow.holder in (None, holder) else None

    def _ask_again(self, is_meant: Callable[[Follow], bool]) -> None:
        for follow in list(self.follows.values()):
            if is_meant(follow):
                follow.ask()

    # As the holder.

    def _asked(self, upload_id: UploadId, process: str, holder: str, wishes: list[Wish]) -> None:
        key = (upload_id, process)
        asker = self.askers.get(key)
        if asker is None:
            asker = _Asker(self, upload_id, process, holder, 3 * self._leases.lease_seconds)
            if not self.turns.watch(upload_id, asker):
                # It was let go, but Redis did not hear of it, or it was granted after nobody waited for it any more.
                asker.close()
                self._leases.release(upload_id, holder)
                self.tell(process, f"free {upload_id} {holder}", upload_id)
                return
            self.askers[key] = asker
        asker.ask(holder, wishes)


class _Asker:
    """Another process that follows a turn of ours (a `turns.Watcher`). One that is not heard of again is forgotten."""

    def __init__(
        self, requests: Requests, upload_id: UploadId, process: str, holder: str, patience_seconds: float
    ) -> None:
        self._requests = requests
        self._upload_id = upload_id
        self._process = process
        self._holder = holder
        self._asked: set[Wish] = set()
        self._patience_seconds = patience_seconds
        self._patience = asyncio.get_running_loop().call_later(patience_seconds, self.leave)

    def ask(self, holder: str, wishes: list[Wish]) -> None:
        self._holder = holder
        self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(self._patience_seconds, self.leave)
        for wish in wishes:
            if wish not in self._asked:
                self._asked.add(wish)
                self._requests.turns.question(self._upload_id, wish, self)

    def answered(self, wish: Wish, is_letting_go: bool) -> None:
        self._asked.discard(wish)
        word = "yes" if is_letting_go else "no"
        message = f"answer {self._upload_id} {self._holder} {wish.value} {word}"
        self._requests.tell(self._process, message, self._upload_id)

    def ended(self) -> None:
        self.close()
        self._requests.tell(self._process, f"free {self._upload_id} {self._holder}", self._upload_id)

    def leave(self) -> None:
        self.close()
        self._requests.turns.unwatch(self._upload_id, self)

    def close(self) -> None:
        self._patience.cancel()
        self._requests.askers.pop((self._upload_id, self._process), None)


class Follow:
    """The turn of another process (a `turns.Foreign`), until it ends or nobody here is interested."""

    def __init__(self, requests: Requests, upload_id: UploadId, ended: Callable[[], None]) -> None:
        self.upload_id = upload_id
        self.holder: str | None = None  # not yet known
        self._requests = requests
        self._ended = ended
        self._answers: dict[Wish, asyncio.Future[bool]] = {}
        self._is_over = False
        self._next_ask: asyncio.Handle | None = None
        requests.follows[upload_id] = self
        self.ask()

    async def release_requested(self, wish: Wish) -> bool:
        """If nobody waits any more, `close` takes the question back."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[wish] = answer
        self.ask()
        return await answer

    def close(self) -> None:
        if not self._is_over:
            self._be_over()
            if self.holder is not None:
                self._requests.leave(self.upload_id, self.holder)

    def end(self) -> None:
        """It is worth trying again."""
        if not self._is_over:
            self._be_over()
            self._ended()

    def answered(self, wish: Wish, is_letting_go: bool) -> None:
        answer = self._answers.get(wish)
        if answer is not None and not answer.done():
            answer.set_result(is_letting_go)

    def ask(self) -> None:
        """With all wishes that come until the loop runs again."""
        self._schedule(asyncio.get_running_loop().call_soon(self._ask))

    def _schedule(self, handle: asyncio.Handle) -> None:
        if self._next_ask is not None:
            self._next_ask.cancel()
        self._next_ask = handle

    def _be_over(self) -> None:
        self._is_over = True
        self._requests.follows.pop(self.upload_id, None)
        if self._next_ask is not None:
            self._next_ask.cancel()

    def _ask(self) -> None:
        wishes = ",".join(wish.value for wish, answer in self._answers.items() if not answer.done())
        self._requests.ask(self.upload_id, wishes, self._heard).add_done_callback(self._failed)

    def _heard(self, state: list[Any] | None) -> None:
        if self._is_over:
            if state is not None:
                self._requests.leave(self.upload_id, state[0])
        elif state is None:
            self.end()
        else:
            self.holder, left_ms = state
            left_seconds = max(left_ms, 0) / 1000 + _GRACE_SECONDS
            self._schedule(asyncio.get_running_loop().call_later(left_seconds, self._ask))

    def _failed(self, asked: asyncio.Future[None]) -> None:
        if asked.exception() is not None:
            self.end()  # who claims it now hears of the failure


def _nobody(_process: str) -> None: ...
