"""How the processes of one machine ask each other to let go of an upload: a line or two over a Unix socket.

A connection is about one upload. The asker sends its id; the other says `held` or, if the upload is not its own,
`free`. Then the asker may send wishes (`now`, `when-stalled`, `if-stalled`), each answered by the same word and `yes`
or `no`, and in the end comes `free` when the turn is over. A connection that ends says the same (failures F23), and to
the holder it says that nobody waits any more. Who has the lock is not decided here: after `free`, one tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio

from tusd_py.core.body import Wish
from tusd_py.core.upload import UploadId
from tusd_py.errors import TusError
from tusd_py.lockers.file.folder import Folder
from tusd_py.lockers.file.lines import Lines
from tusd_py.lockers.turns import Turns
from tusd_py.logs import event

log = logging.getLogger("tusd_py.locks")

_MOST_CALLERS = 512
_PATIENCE_SECONDS = 5.0  # for a connection to say what it is about
_ANSWER_SECONDS = 0.25
_CLOSE_SECONDS = 1.0
_SHORTEST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.25


class Peers:
    """Our socket, the connections of others to it and ours to theirs. `refresh` is called before others are told
    what is held here."""

    def __init__(self, folder: Folder, turns: Turns, refresh: Callable[[], None]) -> None:
        self.folder = folder
        self.turns = turns
        self.refresh = refresh
        self.connections: set[Lines] = set()
        self.callers: set[_Caller] = set()
        self._links: set[Link] = set()
        self._servers: list[asyncio.Task[asyncio.Server]] = []

    def listen(self) -> None:
        """Have a socket in the folder; a new one if there was one before. Raises OSError."""
        listener = self.folder.publish()
        loop = asyncio.get_running_loop()
        # Who calls before the task has run waits in the kernel.
        self._servers.append(loop.create_task(loop.create_unix_server(lambda: _Caller(self), sock=listener)))

    async def aclose(self) -> None:
        self.folder.withdraw()
        for _ in range(5):
            # What came in just now has to become a connection: when asyncio's server closes, it forgets the others
            # without closing them.
            await asyncio.sleep(0)
        for server in self._servers:
            (await server).close()
        self._servers.clear()
        following = [link.task for link in self._links]
        for task in following:
            task.cancel()
        if following:
            await asyncio.wait(following)
        with anyio.move_on_after(_CLOSE_SECONDS):
            for connection in list(self.connections):
                connection.abort()
                await connection.is_lost.wait()

    def follow(self, upload_id: UploadId, is_taken: Callable[[], bool], ended: Callable[[], None]) -> Link:
        link = Link(self, upload_id, is_taken, ended)
        self._links.add(link)
        link.task.add_done_callback(lambda _task: self._links.discard(link))
        return link


class _Caller(Lines):
    """Another process that asks about an upload; a `turns.Watcher` of our own turn."""

    def __init__(self, peers: Peers) -> None:
        super().__init__(peers.connections)
        self._peers = peers
        self._upload_id: UploadId | None = None  # while it watches
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._peers.callers.add(self)
        if len(self._peers.callers) > _MOST_CALLERS:
            self.abort()  # to the caller as if nobody had answered: it tries again after a while
        self._patience = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self.abort)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._peers.callers.discard(self)
        self._be_patient()
        if self._upload_id is not None:
            self._peers.turns.unwatch(self._upload_id, self)
            self._upload_id = None

    def heard(self, line: str) -> None:
        if self._upload_id is None:
            self._answer_call(UploadId(line))
            return
        try:
            wish = Wish(line)
        except ValueError:
            self.abort()
            return
        self._peers.turns.question(self._upload_id, wish, self)

    def answered(self, wish: Wish, is_letting_go: bool) -> None:
        self.say(f"{wish.value} {'yes' if is_letting_go else 'no'}")

    def ended(self) -> None:
        self._upload_id = None
        self.say("free")
        self.close()

    def _answer_call(self, upload_id: UploadId) -> None:
        self._be_patient()
        self._peers.refresh()
        if self._peers.turns.watch(upload_id, self):
            self._upload_id = upload_id
            self.say("held")
        else:
            self.ended()

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()


class _Call(Lines):
    """Our question to another process."""

    def __init__(self, link: Link, connections: set[Lines]) -> None:
        super().__init__(connections)
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._link.called(self)

    def heard(self, line: str) -> None:
        self._link.heard(self, line)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._link.hung_up(self)


class Link:
    """Follows the turn of another process for one upload (a `turns.Foreign`) until it ends."""

    def __init__(
        self, peers: Peers, upload_id: UploadId, is_taken: Callable[[], bool], ended: Callable[[], None]
    ) -> None:
        self._peers = peers
        self._calls: set[_Call] = set()
        self._upload_id = upload_id
        self._is_taken = is_taken
        self._holder: _Call | None = None
        self._news = asyncio.Event()  # set if there is a holder, or nobody is left who may say that it is the one
        self._answers: dict[Wish, asyncio.Future[bool]] = {}
        self.task = asyncio.get_running_loop().create_task(self._follow(ended))

    async def release_requested(self, wish: Wish) -> bool:
        """Ask the holder, as soon as it is found. If nobody waits any more, `close` takes the question back."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[wish] = answer
        if self._holder is not None:
            self._holder.say(wish.value)
        return await answer

    def close(self) -> None:
        self.task.cancel()

    # What the calls bring.

    def called(self, call: _Call) -> None:
        self._calls.add(call)
        if self._holder is None:
            self._news.clear()
        call.say(self._upload_id)

    def heard(self, call: _Call, line: str) -> None:
        if line == "held":
            self._holder = call
            self._news.set()
            for wish, answer in self._answers.items():
                if not answer.done():
                    call.say(wish.value)
        elif line == "free":
            call.close()
        else:
            self._heard_answer(*line.partition(" ")[::2])

    def hung_up(self, call: _Call) -> None:
        self._calls.discard(call)
        if not self._calls:
            self._news.set()

    def _heard_answer(self, wish: str, word: str) -> None:
        for asked, answer in self._answers.items():
            if asked.value == wish and not answer.done():
                answer.set_result(word == "yes")

    # From the first call to the end of the turn.

    async def _follow(self, ended: Callable[[], None]) -> None:
        try:
            await self._wait_for_end()
        finally:
            for call in self._calls:
                call.abort()
        ended()

    async def _wait_for_end(self) -> None:
        """Until the holder says so. One that cannot be asked (it is stopped, or its socket was removed) tells nobody
        when it lets go, and the kernel wakes only who blocks a thread: so such a one is looked after now and then."""
        pause_seconds = _SHORTEST_PAUSE_SECONDS
        while True:
            if not self._calls:
                await self._call_everybody()
            with anyio.move_on_after(_ANSWER_SECONDS):
                await self._news.wait()
            if self._holder is not None:
                await self._holder.is_lost.wait()
                return
            if not self._is_still_taken():
                return
            if not self._calls:
                await anyio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _call_everybody(self) -> None:
        for name in self._others():
            await self._call(name)
        if not self._calls:
            self._news.set()

    async def _call(self, name: str) -> None:
        connection = self._peers.folder.call(name)
        if connection is None:
            return
        call = _Call(self, self._peers.connections)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: call, sock=connection)
        except BaseException as error:
            connection.close()
            call.connection_lost(None)  # uvloop does not always say so
            if not isinstance(error, OSError):
                raise

    def _others(self) -> list[str]:
        try:
            return self._peers.folder.others()
        except OSError as error:
            advice = "the other processes cannot be seen: is the lock directory readable?"
            event(log, "LockerFailed", level=logging.ERROR, error=error, advice=advice)
            return []

    def _is_still_taken(self) -> bool:
        try:
            return self._is_taken()
        except TusError:  # has been logged; who claims it hears of it
            return True
