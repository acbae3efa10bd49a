"""What a transport is: the way to one hook, wherever it runs. Which hooks are asked when is left to `dispatch`."""

from __future__ import annotations

from typing import Protocol

from tusd_py.core.events import EventType
from tusd_py.hooks.contract import Answer, Event


class Transport(Protocol):
    """The way to one hook. Any number of calls may run at once."""

    @property
    def name(self) -> str:
        """What operators know the hook by."""
        ...

    @property
    def events(self) -> frozenset[EventType]:
        """What it listens to."""
        ...

    async def start(self) -> None:
        """Called once, in the loop that the calls come in. Raises ConfigError for what cannot work."""
        ...

    async def call(self, event: Event) -> Answer:
        """What the hook says to an event that it listens to.

        Raises `contract.HookError` saying what was wrong when there is no answer, or none that can be understood. Has
        no time limit of its own: whoever calls cancels it, and it then leaves nothing behind.
        """
        ...

    async def aclose(self) -> None:
        """Give back what is held, when no call is running any more."""
        ...
