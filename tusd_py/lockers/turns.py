"""Whose turn it is: in one process, who holds an upload, who waits for it, and what its holder is asked meanwhile.

Every locker is built on this. What others than this process hold comes in through `beyond.Beyond`: it looks here like
a lock with a holder of its own, who can be asked and whose turn ends some time. Nothing polls, a lock that is let go
wakes the next in line and nobody else, and an upload that nobody holds leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType

import anyio

from tusd_py.core.body import Wish
from tusd_py.core.ports import ReleaseRequested
from tusd_py.core.upload import UploadId
from tusd_py.errors import TusError, upload_locked
from tusd_py.lockers.beyond import Beyond, Foreign, Right, Watcher
from tusd_py.logs import event

log = logging.getLogger("tusd_py.locks")

ANSWER_SECONDS = 1.0  # a holder asked IF_STALLED that is silent for longer counts as healthy
SETTLE_SECONDS = 1.5  # for all holders that may follow upon each other while somebody asks


class Turn:
    """One request for a lock, from waiting in line to letting go. What `Locker.hold` returns; good for one use.

    `fence` is greater than that of every holder before; None: this locker gives none. `is_lost`: another may have it.
    """

    __slots__ = ("_turns", "error", "fence", "is_lost", "is_mine", "news", "release_requested", "upload_id", "wish")

    news: anyio.Event  # made when there is something to wait for

    def __init__(
        self, turns: Turns, upload_id: UploadId, release_requested: ReleaseRequested, wish: Wish | None
    ) -> None:
        self._turns = turns
        self.upload_id = upload_id
        self.release_requested = release_requested
        self.wish = wish
        self.is_mine = False
        self.is_lost = False
        self.fence: int | None = None
        self.error: BaseException | None = None

    async def __aenter__(self) -> None:
        if not self._turns.take(self):
            await self._turns.wait(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.end(self.upload_id)

    def grant(self) -> None:
        self.is_mine = True
        self.news.set()

    def refuse(self, error: BaseException) -> None:
        self.error = error
        self.news.set()


class Turns:
    """The locks of one process. All methods belong to one event loop."""

    def __init__(self, timeout_seconds: float, beyond: Beyond | None = None) -> None:
        self._timeout_seconds = timeout_seconds
        self._beyond = beyond
        self._locks: dict[UploadId, _Lock] = {}

    def take(self, turn: Turn) -> bool:
        """True: `turn` has the lock. False: it is in line."""
        upload_id = turn.upload_id
        lock = self._locks.get(upload_id)
        if lock is None:
            right = self._beyond is None or self._beyond.claim(upload_id)
            if right is True:
                self._locks[upload_id] = _Lock(turn)
                return True
            if right is False and turn.wish is None:
                raise upload_locked()
            lock = self._locks[upload_id] = _Lock()
            self._go_on(upload_id, lock, right)
        elif turn.wish is None and lock.claim is None:
            raise upload_locked()
        turn.news = anyio.Event()
        lock.join(turn, turn.wish)
        return False

    async def wait(self, turn: Turn) -> None:
        """Stay in line until `turn` has the lock, or raise and leave nothing behind."""
        lock = self._locks[turn.upload_id]
        try:
            if lock.claim is not None:  # does not count as waiting: there may be nobody to wait for
                await asyncio.wait([lock.claim])
            with anyio.move_on_after(self._timeout_seconds):
                await turn.news.wait()
        except BaseException:
            if turn.is_mine:  # it came together with the cancellation
                self.end(turn.upload_id)
            raise
        finally:
            if not turn.is_mine:
                lock.leave(turn)
                self._forget(turn.upload_id, lock)
        if not turn.is_mine:
            # Those who waited for one claim share its error.
            raise turn.error.with_traceback(None) if turn.error else upload_locked()

    def end(self, upload_id: UploadId) -> None:
        """The present holder is gone; the next in line goes on, then those hear of it who watched."""
        lock = self._locks[upload_id]
        watchers = lock.end_turn()
        try:
            self._hand_over(upload_id, lock)
        finally:
            for watcher in watchers:
                watcher.ended()

    async def settle(self, upload_id: UploadId) -> bool:
        """The contract is `Locker.settle`.

        A holder that says it lets go gets a second more to do so. If another one was waiting for that, it is asked
        too, since it will move the offset as well.
        """
        if not await self._is_taken(upload_id):
            return False
        with anyio.move_on_after(SETTLE_SECONDS):
            while await self._is_over(upload_id) and await self._is_taken(upload_id):
                pass
        return await self._is_taken(upload_id)

    async def _is_taken(self, upload_id: UploadId) -> bool:
        return upload_id in self._locks or (self._beyond is not None and await self._beyond.is_taken(upload_id))

    async def _is_over(self, upload_id: UploadId) -> bool:
        """Ask the holder that there was a moment ago; True if its turn has ended by now."""
        lock = self._locks.get(upload_id)
        if lock is None:
            if self._beyond is None:
                return True
            lock = self._locks[upload_id] = _Lock()
            self._follow(upload_id, lock)
        settler = _Settler()
        lock.watch(settler)
        lock.question(Wish.IF_STALLED, settler)
        try:
            with settler.scope:
                await settler.done.wait()
        finally:
            lock.unwatch(settler)
            self._forget(upload_id, lock)
        return settler.is_over

    # For those who ask on behalf of other processes.

    def watch(self, upload_id: UploadId, watcher: Watcher) -> bool:
        """Watch the present turn, if it is one of this process."""
        lock = self._locks.get(upload_id)
        if lock is None or lock.foreign is not None:
            return False
        lock.watch(watcher)
        return True

    def question(self, upload_id: UploadId, wish: Wish, watcher: Watcher) -> None:
        """Ask the holder on behalf of `watcher`, who watches and has not heard of an end."""
        self._locks[upload_id].question(wish, watcher)

    def unwatch(self, upload_id: UploadId, watcher: Watcher) -> None:
        self._locks[upload_id].unwatch(watcher)

    def lose(self, upload_id: UploadId) -> None:
        """What this process holds may be another's by now: its holder is to end as soon as it can."""
        lock = self._locks.get(upload_id)
        if lock is not None and lock.holder is not None:
            lock.holder.is_lost = True
            lock.ask(Wish.NOW)

    # Handing over.

    def _hand_over(self, upload_id: UploadId, lock: _Lock) -> None:
        while not lock.is_ignored():
            try:
                right = self._right(upload_id, lock)
            except TusError as error:
                lock.next_in_line().refuse(error)
                continue
            self._go_on(upload_id, lock, right)
            return
        del self._locks[upload_id]
        if lock.foreign is None and self._beyond is not None:
            self._beyond.let_go(upload_id)

    def _right(self, upload_id: UploadId, lock: _Lock) -> Right:
        if self._beyond is None:
            return True
        return self._beyond.keep(upload_id) if lock.foreign is None else self._beyond.claim(upload_id)

    def _go_on(self, upload_id: UploadId, lock: _Lock, right: Right) -> None:
        """With the next in line, with another process's turn, or with neither until that is decided."""
        if right is True:
            lock.grant_next(None)
        elif right is False:
            self._follow(upload_id, lock)
        else:
            lock.holder, lock.foreign, lock.claim = None, None, right
            right.add_done_callback(lambda claim: self._decided(upload_id, lock, claim))

    def _decided(self, upload_id: UploadId, lock: _Lock, claim: asyncio.Future[int | None]) -> None:
        """Everybody who came meanwhile is in line, whether they would wait for a holder or not."""
        lock.claim = None
        error = claim.exception()
        if error is not None:
            lock.refuse_all(error)
        fence = None if error else claim.result()
        if fence is not None and lock.has_line():
            lock.grant_next(fence)
            return
        watchers = lock.end_turn()
        lock.refuse(None, upload_locked())
        if fence is None and lock.has_line():
            self._follow(upload_id, lock)
        else:
            del self._locks[upload_id]
            if fence is not None and self._beyond is not None:
                self._beyond.let_go(upload_id)
        for watcher in watchers:
            watcher.ended()

    def _follow(self, upload_id: UploadId, lock: _Lock) -> None:
        """Let `lock` stand for the turn of another process."""
        assert self._beyond is not None  # noqa: S101  (who is asked for, exists)

        def ended() -> None:
            if self._locks.get(upload_id) is lock:
                self.end(upload_id)

        lock.follow(self._beyond.follow(upload_id, ended))

    def _forget(self, upload_id: UploadId, lock: _Lock) -> None:
        """Stop following another process's turn that nobody here is interested in."""
        if lock.foreign is not None and lock.is_ignored() and self._locks.get(upload_id) is lock:
            del self._locks[upload_id]
            lock.foreign.close()


class _Lock:
    """One held upload: its holder's ear, who waits and who watches. There is one question of each wish at a time,
    shared by all who have it, and it is asked as long as one of them is there."""

    __slots__ = ("_line", "_questions", "_tasks", "_watchers", "claim", "foreign", "holder")

    def __init__(self, holder: Turn | None = None) -> None:
        # One of these at a time: who is here, who is elsewhere, or what decides it.
        self.holder = holder
        self.foreign: Foreign | None = None
        self.claim: asyncio.Future[int | None] | None = None
        self._line: dict[Wish | None, dict[Turn, None]] = {}
        self._watchers: dict[Watcher, None] = {}
        self._questions: dict[Wish, dict[Watcher, None]] = {}
        self._tasks: dict[Wish, asyncio.Task[None]] = {}

    def is_ignored(self) -> bool:
        return not self._watchers and not any(self._line.values())

    def has_line(self) -> bool:
        return any(self._line.values())

    def next_in_line(self) -> Turn:
        """Taken out of the line: first come, first served, but those who want it NOW before all others."""
        wish, line = next((wish, line) for wish in (*Wish, None) if (line := self._line.get(wish)))
        turn = next(iter(line))
        self._leave(turn, wish)
        return turn

    def grant_next(self, fence: int | None) -> None:
        turn = self.next_in_line()
        turn.fence = fence
        self.holder, self.foreign = turn, None
        turn.grant()
        self.refuse(None, upload_locked())
        self._ask_again()

    def follow(self, foreign: Foreign) -> None:
        self.holder, self.foreign = None, foreign
        self._ask_again()

    def refuse(self, wish: Wish | None, error: BaseException) -> None:
        for turn in self._line.pop(wish, {}):
            turn.refuse(error)

    def refuse_all(self, error: BaseException) -> None:
        for wish in list(self._line):
            self.refuse(wish, error)

    def join(self, turn: Turn, wish: Wish | None) -> None:
        self._line.setdefault(wish, {})[turn] = None
        if wish is not None:
            self.ask(wish)

    def leave(self, turn: Turn) -> None:
        self._leave(turn, turn.wish)

    def _leave(self, turn: Turn, wish: Wish | None) -> None:
        line = self._line.get(wish, {})
        if turn in line:
            del line[turn]
            if wish is not None:
                self._hush(wish)

    def watch(self, watcher: Watcher) -> None:
        self._watchers[watcher] = None

    def question(self, wish: Wish, watcher: Watcher) -> None:
        self._questions.setdefault(wish, {})[watcher] = None
        self.ask(wish)

    def unwatch(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher, None)
        for wish, watchers in self._questions.items():
            if watcher in watchers:
                del watchers[watcher]
                self._hush(wish)

    def end_turn(self) -> list[Watcher]:
        """Nobody is asked any more. Returns those who watched; who waits in line stays there."""
        for task in self._tasks.values():
            task.cancel()
        watchers = list(self._watchers)
        self._tasks.clear()
        self._questions.clear()
        self._watchers.clear()
        return watchers

    def _ask_again(self) -> None:
        """There is a new holder: ask it what those in line want of it, and those who came before it was known."""
        for wish in Wish:
            if self._line.get(wish) or self._questions.get(wish):
                self.ask(wish)

    def ask(self, wish: Wish) -> None:
        if wish not in self._tasks and self.claim is None:
            self._tasks[wish] = asyncio.get_running_loop().create_task(self._put(wish))

    def _hush(self, wish: Wish) -> None:
        if wish in self._tasks and not self._line.get(wish) and not self._questions.get(wish):
            self._tasks.pop(wish).cancel()

    def _release_requested(self) -> ReleaseRequested:
        if self.foreign is not None:
            return self.foreign.release_requested
        return _nobody if self.holder is None else self.holder.release_requested

    async def _put(self, wish: Wish) -> None:
        is_letting_go = False
        try:
            with anyio.move_on_after(ANSWER_SECONDS if wish is Wish.IF_STALLED else None):
                is_letting_go = await self._release_requested()(wish)
        except Exception as error:
            event(log, "ReleaseRequestFailed", level=logging.ERROR, error=error, wish=wish.value)
        if self._tasks.get(wish) is not asyncio.current_task():
            return  # the turn ended meanwhile, and the answer is about nobody
        del self._tasks[wish]
        for watcher in self._questions.pop(wish, {}):
            watcher.answered(wish, is_letting_go)
        if wish is Wish.IF_STALLED and not is_letting_go:
            self.refuse(wish, upload_locked())


class _Settler:
    """Waits until the holder says that it goes on, or is gone."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.is_over = False
        self.scope = anyio.move_on_after(ANSWER_SECONDS)

    def answered(self, _wish: Wish, is_letting_go: bool) -> None:
        if is_letting_go:
            self.scope.deadline += ANSWER_SECONDS
        else:
            self.done.set()

    def ended(self) -> None:
        self.is_over = True
        self.done.set()


async def _nobody(_wish: Wish) -> bool:
    return False
