"""Hooks whose every answer is up to the test, and a queue that only keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tusd_py.core.events import EventType
from tusd_py.core.jobs import Job
from tusd_py.hooks.contract import Answer, Event
from tusd_py.hooks.dispatch import Dispatcher, Listener
from tusd_py.stores.memory import MemoryStore

Word = Answer | Exception | Callable[[Event], Answer]


class Scripted:
    """A `Transport` that says its words in turn, the last one for ever, and keeps what it heard."""

    def __init__(self, *words: Word, name: str = "scripted", events: Sequence[EventType] = tuple(EventType)) -> None:
        self.name = name
        self.events = frozenset(events)
        self.heard: list[Event] = []
        self.calls = 0
        self.is_open = False
        self.is_hanging = False
        self.was_heard = asyncio.Event()
        self.was_cancelled = False
        self._words = [*words] or [Answer()]

    async def start(self) -> None:
        self.is_open = True

    async def call(self, event: Event) -> Answer:
        self.heard.append(event)
        self.was_heard.set()
        if self.is_hanging:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
        word = self._words.pop(0) if len(self._words) > 1 else self._words[0]
        if isinstance(word, Exception):
            raise word
        return word if isinstance(word, Answer) else word(event)

    async def aclose(self) -> None:
        self.is_open = False


class Kept:
    """As much of a queue as a dispatcher needs."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def put(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs


def dispatcher(*listeners: Listener | Scripted, **options: object) -> Dispatcher:
    made = [each if isinstance(each, Listener) else Listener(each) for each in listeners]
    return Dispatcher(made, options.pop("queue", Kept()), MemoryStore(), **options)
