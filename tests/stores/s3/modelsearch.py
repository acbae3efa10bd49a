"""All schedules of a scenario, up to a bound: depth first along what is usual, then ever further from it.

A schedule says at each point which call to the storage is carried out next, and what goes wrong. It is run from the
start, by the real code. As long as nothing else is said, the process whose turn it is goes on with the oldest of its
calls, and where it is done, the next one. It is a switch when another one goes on all the same, or a later call comes
first; it is a fault when

- no answer comes: the process hears of a failure, while the call may arrive at any time later, or never; so an answer
  that was lost, and a request that was, are among them;
- the storage refuses a call, for good, or as it does where two write at one moment;
- a process dies: so it is with all its calls that are under way.

Where a call that nobody waits for arrives is no deviation. What was seen before with as many switches and faults left
is not looked at again: a process does what the answers that it got let it do, so the storage, these answers, what is
under way and what was acknowledged are all that there is.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from modelloop import Process, SteppedLoop
from modelnetwork import CLAIM, RENEW
from modelscene import Scenario, Scene, Wrong
from modelstorage import Request
from modeltrace import Trace

from tusd_py.errors import BackendError
from tusd_py.stores.s3.client import S3Error

LAST = "C"


@dataclass(frozen=True, slots=True)
class Bounds:
    """`together`: how many switches and faults there are at most."""

    switches: int = 2
    faults: int = 1
    together: int = 2

    def allows(self, spent: Spent) -> bool:
        switches, faults = spent
        return switches <= self.switches and faults <= self.faults and switches + faults <= self.together


Spent = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mode:
    """`is_conditional` False: as over a storage that takes no conditions."""

    is_conditional: bool = True
    has_sums: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What may happen next; `run` does it."""

    name: str
    spent: Spent
    run: Callable[[], None]


@dataclass(slots=True)
class Report:
    """`wrong` tells what was found, with the schedule that leads there."""

    schedules: int = 0
    states: int = 0
    steps: int = 0
    seconds: float = 0.0
    wrong: str = ""


@dataclass(slots=True)
class _Branch:
    """A schedule to be run: the steps by number, of those that there were; the last one's name; what it has spent."""

    choices: tuple[int, ...] = ()
    last: str = ""
    spent: Spent = (0, 0)


def search(scenario: Scenario, mode: Mode, bounds: Bounds) -> Report:
    """Ends with the first schedule in which something is wrong."""
    report = Report()
    began_at = time.perf_counter()
    seen: dict[int, list[Spent]] = {}
    order = count()
    loop = SteppedLoop()
    left: list[tuple[int, int, _Branch]] = [(0, next(order), _Branch())]
    try:
        while left and not report.wrong:
            *_, branch = heapq.heappop(left)
            schedule = _Schedule(loop, scenario, mode, bounds, branch, seen)
            report.wrong = schedule.run()
            report.schedules += 1
            report.steps += schedule.steps
            for each in schedule.branches:
                heapq.heappush(left, (sum(each.spent), -next(order), each))
    finally:
        loop.close()
    report.states = len(seen)
    report.seconds = time.perf_counter() - began_at
    return report


@dataclass(eq=False, slots=True)
class _Schedule:
    loop: SteppedLoop
    scenario: Scenario
    mode: Mode
    bounds: Bounds
    branch: _Branch
    seen: dict[int, list[Spent]]
    branches: list[_Branch] = field(default_factory=list)
    steps: int = 0
    choices: list[int] = field(default_factory=list)
    spent: Spent = (0, 0)
    trace: Trace = field(default_factory=Trace)
    scene: Scene = field(init=False)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    turn: str = ""
    rounds: int = 0

    def run(self) -> str:
        """What is wrong, and how it came to that; empty: nothing."""
        mode = self.mode
        self.scene = Scene(self.scenario, self.trace.say, is_conditional=mode.is_conditional, has_sums=mode.has_sums)
        try:
            for process, work in self.scene.before():
                task = self.loop.start(process, work)
                self.loop.run(self.loop.stop)
                task.result()
            self.trace.say("---")
            for name in self.scenario.at_once:
                self._begin(name)
            self.loop.run(self._go_on)
        except Wrong as wrong:
            return f"{wrong}\n{self.trace}"
        finally:
            self.scene.network.is_closed = True
            self.loop.clear()
        return ""

    # Steps of a run.

    def _go_on(self) -> None:
        """Nothing is left to run: see that all is well, and take the next step."""
        is_replayed = len(self.choices) < len(self.branch.choices)
        self._note_ends()
        if not is_replayed:
            self.scene.monitor.look()
        if all(self.scene.processes[name].is_over for name in self.scenario.at_once):
            if LAST not in self.tasks:
                self._begin(LAST)
                return
            if self.scene.processes[LAST].is_over:
                self._end()
                return
        steps = self._possible()
        if is_replayed:
            chosen = self.branch.choices[len(self.choices)]
            if len(self.choices) + 1 == len(self.branch.choices) and steps[chosen].name != self.branch.last:
                raise AssertionError(f"not the same again: {steps[chosen].name} instead of {self.branch.last}")
        elif self._is_known():
            self.loop.stop()
            return
        else:
            chosen = 0
            self._branch_off(steps)
        self.choices.append(chosen)
        self.spent = steps[chosen].spent
        self.steps += 1
        steps[chosen].run()

    def _begin(self, name: str) -> None:
        self.tasks[name] = self.loop.start(self.scene.processes[name], self.scene.work(name))

    def _note_ends(self) -> None:
        for name, task in self.tasks.items():
            process = self.scene.processes[name]
            if not process.is_over and task.done():
                process.is_over = True
                error = task.exception()
                if isinstance(error, Wrong):
                    raise error
                if error is not None:
                    raise Wrong(f"{name} fails: {error!r}") from error

    def _end(self) -> None:
        """What is still on its way arrives; then all is there, or nothing."""
        monitor, network = self.scene.monitor, self.scene.network
        while network.pending:
            self._arrive(network.pending[0])
            monitor.look()
        if monitor.is_finished:
            monitor.read_all()
        elif monitor.is_shown:
            # Without conditions, what comes late may be what counts; but nothing comes after that.
            self.rounds += 1
            if self.rounds > 1:
                raise Wrong(f"{LAST} is done, and the upload is not")
            self.scene.processes[LAST].is_over = False
            self._begin(LAST)
            return
        else:
            monitor.sweep(of_multiparts=self.scenario.leaves_no_multiparts)
        self.loop.stop()

    def _is_known(self) -> bool:
        """Whether this state was seen with as much left to spend."""
        scene = self.scene
        live = [(name, each.heard) for name, each in scene.processes.items() if not each.is_over]
        arriving = [_identity(request) for request in scene.network.pending if request.is_orphan]
        owner = scene.network.owner
        state = hash(
            (
                (scene.storage.fingerprint(), scene.monitor.fingerprint(), scene.network.fence),
                (owner.name if owner is not None else "", self.turn, tuple(live), tuple(sorted(arriving))),
            )
        )
        known = self.seen.setdefault(state, [])
        if any(switches <= self.spent[0] and faults <= self.spent[1] for switches, faults in known):
            return True
        known.append(self.spent)
        return False

    def _branch_off(self, steps: list[Step]) -> None:
        for number, step in enumerate(steps[1:], 1):
            if self.bounds.allows(step.spent):
                self.branches.append(_Branch((*self.choices, number), step.name, step.spent))

    # What may happen.

    def _possible(self) -> list[Step]:
        """The first is what is usual."""
        network = self.scene.network
        names = [name for name in self.tasks if not self.scene.processes[name].is_over]
        names.sort(key=lambda name: (name != self.turn, name))
        calls = {name: self._calls(name) for name in names}
        timers = {name: [each for each in self.loop.timers if each[0].name == name] for name in names}
        if not any(calls.values()) and not any(timers.values()):
            raise Wrong(f"{' and '.join(names)} wait for ever")
        is_free = not calls.get(self.turn)
        steps = []
        for name in names:
            is_usual = is_free or name == self.turn
            for request in calls[name]:
                spent = self._with(switches=0 if is_usual and request is calls[name][0] else 1)
                steps.append(Step(f"answer {request.name}", spent, partial(self._answer, request)))
            if timers[name]:
                timer = min(timers[name], key=lambda each: each[1].when())
                spent = self._with(switches=0 if is_usual and not calls[name] else 1)
                steps.append(Step(f"wake {name}", spent, partial(self._wake, timer)))
        steps.sort(key=lambda step: step.spent)
        for request in network.pending:
            if request.is_orphan:
                steps.append(Step(f"arrive {request.name}", self.spent, partial(self._arrive, request)))
        for name in names:
            if name != LAST and calls[name]:
                steps += self._faults(name, calls[name])
        return steps

    def _faults(self, name: str, calls: list[Request]) -> list[Step]:
        spent = self._with(faults=1)
        steps = [Step(f"die {name}", spent, partial(self._die, name, calls))]
        for request in calls:
            if request.operation != CLAIM:
                steps.append(Step(f"give up {request.name}", spent, partial(self._give_up, request)))
            if request.operation not in (CLAIM, RENEW):
                steps.append(Step(f"deny {request.name}", spent, partial(self._deny, request, 403, "AccessDenied")))
            if request.is_conditional:
                conflict = partial(self._deny, request, 409, "ConditionalRequestConflict")
                steps.append(Step(f"conflict {request.name}", spent, conflict))
        return steps

    def _calls(self, name: str) -> list[Request]:
        pending = self.scene.network.pending
        return [request for request in pending if not request.is_orphan and request.process.name == name]

    def _with(self, switches: int = 0, faults: int = 0) -> Spent:
        return self.spent[0] + switches, self.spent[1] + faults

    # What happens.

    def _answer(self, request: Request) -> None:
        self.turn = request.process.name
        self.scene.network.pending.remove(request)
        try:
            answer = self.scene.network.carry_out(request)
        except S3Error as error:
            self.trace.answered(request, error)
            self._refuse(request, error)
            return
        self.trace.answered(request, answer)
        request.process.hear(request.number, repr(answer))
        self._future(request).set_result(answer)

    def _wake(self, timer: tuple[Process, Any]) -> None:
        self.turn = timer[0].name
        self.trace.say(f"{self.turn} has waited")
        self.loop.fire(timer)

    def _arrive(self, request: Request) -> None:
        """Nobody hears of it."""
        self.scene.network.pending.remove(request)
        try:
            answer = self.scene.network.carry_out(request)
        except S3Error as error:
            answer = error
        self.trace.answered(request, answer, is_late=True)

    def _die(self, name: str, calls: list[Request]) -> None:
        self.trace.say(f"{name} dies; under way: {', '.join(self.trace.asked(request) for request in calls)}")
        self.scene.processes[name].is_over = True
        for request in calls:
            self.scene.network.abandon(request)

    def _give_up(self, request: Request) -> None:
        self.turn = request.process.name
        self.trace.say(f"{self.turn}: {self.trace.asked(request)} is given up")
        network = self.scene.network
        if request.operation == RENEW:
            network.pending.remove(request)
        else:
            network.abandon(request)
        self._refuse(request, network.failure(request))

    def _deny(self, request: Request, status: int, code: str) -> None:
        self.turn = request.process.name
        self.scene.network.pending.remove(request)
        error = S3Error(request.operation, status, code, "as S3 would")
        self.trace.answered(request, error)
        self._refuse(request, error)

    def _refuse(self, request: Request, error: S3Error | BackendError | Exception) -> None:
        request.process.hear(request.number, repr(error))
        self._future(request).set_exception(error)

    def _future(self, request: Request) -> asyncio.Future[Any]:
        assert request.future is not None
        return request.future


def _identity(request: Request) -> int:
    content = (*sorted(request.headers.items()), request.body)
    return hash((request.operation, request.key, repr(request.arguments), content))
