"""Keeps a number of worker processes serving on the same sockets: starts, watches, replaces and renews them.

The supervisor opens the sockets once and keeps them, so that whatever happens to workers no client is refused. It
serves nobody itself and imports little. What a worker is made of is left to the command that starts one, and its
settings to `Plan.reload`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tusd_py.errors import ConfigError
from tusd_py.logs import event
from tusd_py.server import notify
from tusd_py.server.child import Child, describe
from tusd_py.server.lifeline import LEAVING, READY, REFUSED, Orders
from tusd_py.server.sockets import Listeners, listen, listen_unix

# Long after any stall that a slow disk makes, and as long as a client waits that gives up early.
HANG_SECONDS = 60.0
# What ending takes beside the time that requests may take: cancelling them, and the application's own end.
END_SECONDS = 15.0
# A worker that hangs is first asked, by SIGABRT, to write down where.
_ABORT_SECONDS = 1.0
# A worker that dies sooner after its start counts as one that cannot start.
_STEADY_SECONDS = 10.0
_LONGEST_DELAY_SECONDS = 30.0
_LONGEST_SLEEP_SECONDS = 1.0
# Who slept for longer was stopped, and its workers probably with it.
_OVERSLEPT_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What workers are given, and how long their requests may take to end."""

    texts: dict[str, str]
    shutdown_timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`command` starts a worker. `reload` is called at each SIGHUP and raises ConfigError if the workers had better
    stay as they are. `announce` is called once, when all workers answer."""

    command: Sequence[str]
    environment: Mapping[str, str]
    count: int
    host: str
    port: int
    unix_sock: str
    settings: Settings
    reload: Callable[[], Settings]
    announce: Callable[[Listeners], None]
    notify_address: str = ""
    operations_port: int = 0


@dataclass(slots=True)
class _Slot:
    """A worker's place. `successor` starts while `child` still serves."""

    number: int
    share: list[int]
    settings: Settings
    child: Child | None = None
    successor: Child | None = None
    start_at: float = 0.0
    failures: int = 0

    def delay_seconds(self, lifetime_seconds: float) -> float:
        """Before the next start: none, unless the one that died had hardly begun to live."""
        if lifetime_seconds >= _STEADY_SECONDS:
            self.failures = 0
        delay = min(0.25 * 2.0**self.failures, _LONGEST_DELAY_SECONDS) if self.failures else 0.0
        self.failures += 1
        return delay


def supervise(plan: Plan) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. SIGHUP replaces every worker without a gap."""
    try:
        listeners = listen_unix(plan.unix_sock) if plan.unix_sock else listen(plan.host, plan.port)
    except ConfigError as error:
        return _complain(str(error), 1)
    folder = tempfile.mkdtemp(prefix="tusd-py-")
    operations = Listeners([])
    try:
        shares = listeners.share(plan.count)
        if plan.operations_port:
            operations = listen(plan.host, plan.operations_port)
        for listener in (*listeners.sockets, *operations.sockets):
            listener.set_inheritable(True)
        return _Supervisor(plan, listeners, shares, operations, folder).run()
    except ConfigError as error:
        return _complain(str(error), 1)
    finally:
        listeners.close()
        operations.close()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class _Supervisor:
    plan: Plan
    listeners: Listeners
    shares: list[list[socket.socket]]
    operations: Listeners
    folder: str
    _slots: list[_Slot] = field(init=False)
    _children: dict[int, Child] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _to_renew: deque[_Slot] = field(default_factory=deque)
    _new_settings: Settings = field(init=False)
    _is_reload_wanted: bool = False
    _is_stop_wanted: bool = False
    _is_stopping: bool = False
    _is_announced: bool = False
    _had_terminal: bool = field(default_factory=lambda: os.isatty(2))
    _exit_code: int = 0

    def __post_init__(self) -> None:
        shares = [[listener.fileno() for listener in share] for share in self.shares]
        self._slots = [_Slot(number, share, self.plan.settings) for number, share in enumerate(shares)]

    def run(self) -> int:
        wakeup, waker = socket.socketpair()
        with wakeup, waker, self._selector:
            for each in (wakeup, waker):
                each.setblocking(False)
            self._selector.register(wakeup, selectors.EVENT_READ)
            signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_stop_signal)
            signal.signal(signal.SIGHUP, self._on_hangup)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            try:
                while not self._is_stopping or self._children:
                    self._turn(wakeup)
            finally:
                signal.set_wakeup_fd(-1)
                for child in self._children.values():
                    os.kill(child.pid, signal.SIGKILL)
        return self._exit_code

    def _on_stop_signal(self, *_: object) -> None:
        if self._is_stop_wanted:
            for child in list(self._children.values()):
                os.kill(child.pid, signal.SIGKILL)
            self.listeners.remove_unix_sock()
            shutil.rmtree(self.folder, ignore_errors=True)
            os._exit(1)
        self._is_stop_wanted = True

    def _on_hangup(self, *_: object) -> None:
        if self._had_terminal and not os.isatty(2):
            self._is_stop_wanted = True  # our terminal was closed: nobody asked for new workers
        else:
            self._is_reload_wanted = True

    def _turn(self, wakeup: socket.socket) -> None:
        began = time.monotonic()
        for key, _ in self._selector.select(self._sleep_seconds(began)):
            if key.data is not None:
                self._hear(key.data)
        with contextlib.suppress(BlockingIOError):
            wakeup.recv(4096)
        self._reap()
        now = time.monotonic()
        if now - began > _OVERSLEPT_SECONDS:
            for child in self._children.values():
                child.heard_at = now
        if self._is_stop_wanted and not self._is_stopping:
            self._stop()
        if self._is_reload_wanted and self._is_announced and not self._is_renewing() and not self._is_stopping:
            self._is_reload_wanted = False
            self._reload()
        self._look_after(now)
        self._fill(now)

    def _sleep_seconds(self, now: float) -> float:
        ends = [child.leave_by for child in self._children.values() if child.leave_by is not None]
        starts = [slot.start_at for slot in self._slots if slot.child is None and slot.successor is None]
        if self._is_stopping:
            starts = []
        return max(0.0, min([now + _LONGEST_SLEEP_SECONDS, *ends, *starts]) - now)

    # What workers say and do.

    def _hear(self, child: Child) -> None:
        said = child.read()
        if said is None:
            self._hang_up(child)
            return
        for word, details in said:
            if word == READY:
                self._became_ready(child)
            elif word == REFUSED:
                child.refusal = (details[0], details[1])
            elif word == LEAVING and child.leave_by is None:
                # Somebody else has told it to end. It does so as it should, and its place is free already.
                child.leave_by = self._leave_by(self._slots[child.orders.slot])
                self._lose(child, "told to end by somebody else")

    def _hang_up(self, child: Child) -> None:
        if child.connection.fileno() >= 0:
            self._selector.unregister(child.connection)
            child.connection.close()

    def _became_ready(self, child: Child) -> None:
        child.is_ready = True
        slot = self._slots[child.orders.slot]
        seconds = time.monotonic() - child.started_at
        event(log, "WorkerReady", worker=slot.number, pid=child.pid, seconds=seconds)
        if child is slot.successor:
            old, slot.child, slot.successor = slot.child, child, None
            if old is not None:
                old.retire(self._leave_by(slot))
            slot.settings = self._new_settings
            self._renew_next()
        if not self._is_announced and all(each.child is not None and each.child.is_ready for each in self._slots):
            self._is_announced = True
            self.plan.announce(self.listeners)
            notify.tell(self.plan.notify_address, notify.READY)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.get(pid)
            if child is None:
                continue  # as process 1 of a container we inherit orphans of others
            self._hear(child)  # its last words
            self._hang_up(child)
            del self._children[pid]
            self._ended(child, describe(status))

    def _ended(self, child: Child, how: str) -> None:
        if child.leave_by is None:
            self._lose(child, how)
        elif child.is_ready:  # else it has done nothing yet that anybody could miss
            event(log, "WorkerEnded", worker=child.orders.slot, pid=child.pid, how=how)

    def _lose(self, child: Child, how: str) -> None:
        """One that was to serve does not any more."""
        slot = self._slots[child.orders.slot]
        reason = child.refusal[0] if child.refusal is not None else how
        if child is slot.successor:
            slot.successor = None
            self._give_up_renewal(f"worker {slot.number}: {reason}")
        elif child is slot.child:
            slot.child = None
            now = time.monotonic()
            delay = slot.delay_seconds(now - child.started_at)
            slot.start_at = now + delay
            if self._is_announced:
                event(
                    log,
                    "WorkerLost",
                    level=logging.ERROR,
                    worker=slot.number,
                    pid=child.pid,
                    reason=reason,
                    pause_seconds=delay,
                )
            elif not self._is_stopping:
                message, code = child.refusal or (f"a worker could not start ({how})", 1)
                self._exit_code = _complain(message, code)
                self._stop()

    def _look_after(self, now: float) -> None:
        for child in list(self._children.values()):
            slot = self._slots[child.orders.slot]
            if child.leave_by is not None:
                if now >= child.leave_by:
                    event(log, "WorkerKilled", level=logging.ERROR, worker=slot.number, pid=child.pid)
                    child.end(signal.SIGKILL, now + END_SECONDS)
                    self._exit_code = self._exit_code or int(self._is_stopping)
            elif now - child.heard_at >= HANG_SECONDS:
                silent_seconds = now - child.heard_at
                event(
                    log,
                    "WorkerHangs",
                    level=logging.ERROR,
                    worker=slot.number,
                    pid=child.pid,
                    silent_seconds=silent_seconds,
                )
                self._lose(child, f"it hung for {HANG_SECONDS:g} s")  # told before the worker writes to the log, too
                child.end(signal.SIGABRT, now + _ABORT_SECONDS)

    # Starting and ending.

    def _fill(self, now: float) -> None:
        for slot in self._slots:
            if slot.child is None and slot.successor is None and now >= slot.start_at and not self._is_stopping:
                try:
                    slot.child = self._start(slot, slot.settings)
                except OSError as error:
                    slot.start_at = now + slot.delay_seconds(0.0)
                    event(log, "WorkerLost", level=logging.ERROR, worker=slot.number, reason=error)
                    if not self._is_announced:
                        self._exit_code = _complain(f"cannot start a worker: {error}", 1)
                        self._stop()

    def _start(self, slot: _Slot, settings: Settings) -> Child:
        # The same descriptors may be the share of all.
        others = [each for other in self._slots for each in other.share if each not in slot.share]
        operations = [listener.fileno() for listener in self.operations.sockets]
        orders = Orders(slot.number, self.folder, settings.texts, slot.share, others, operations)
        child = Child.start(self.plan.command, self.plan.environment, orders)
        self._children[child.pid] = child
        self._selector.register(child.connection, selectors.EVENT_READ, child)
        return child

    def _leave_by(self, slot: _Slot) -> float:
        # Twice: a worker that retires first lets requests go on, then ends them.
        return time.monotonic() + 2 * slot.settings.shutdown_timeout_seconds + END_SECONDS

    def _stop(self) -> None:
        self._is_stopping = True
        notify.tell(self.plan.notify_address, notify.STOPPING)
        self.listeners.close()
        for child in self._children.values():
            # One that starts cannot hear yet, and has nothing to lose.
            number = signal.SIGTERM if child.is_ready else signal.SIGKILL
            child.end(number, self._leave_by(self._slots[child.orders.slot]))

    # Renewing.

    def _is_renewing(self) -> bool:
        return bool(self._to_renew) or any(slot.successor is not None for slot in self._slots)

    def _reload(self) -> None:
        notify.tell(self.plan.notify_address, notify.reloading())
        try:
            self._new_settings = self.plan.reload()
        except ConfigError as error:
            self._give_up_renewal(str(error))
            return
        self._to_renew.extend(self._slots)
        self._renew_next()

    def _renew_next(self) -> None:
        if self._is_stopping:
            return
        if not self._to_renew:
            event(log, "Reloaded", workers=len(self._slots))
            notify.tell(self.plan.notify_address, notify.READY)
            return
        slot = self._to_renew.popleft()
        try:
            slot.successor = self._start(slot, self._new_settings)
        except OSError as error:
            self._give_up_renewal(f"cannot start a worker: {error}")

    def _give_up_renewal(self, reason: str) -> None:
        self._to_renew.clear()
        event(log, "ReloadRefused", level=logging.ERROR, reason=reason)
        notify.tell(self.plan.notify_address, notify.READY)


def _complain(message: str, exit_code: int) -> int:
    sys.stderr.write(f"tusd-py: error: {' '.join(message.splitlines())}\n")
    return exit_code
