"""A listener on loopback whose event loop runs in a thread of its own: what proxies of tests have in common."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CLOSE_SECONDS = 10.0


class Acceptor:
    """Runs from when it is made until `close()`. An heir has its own attributes before it calls `__init__` here."""

    def __init__(self, name: str, port: int = 0) -> None:
        self._name = name
        self._listener = socket.create_server((HOST, port), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._accepting = self._loop.create_task(self._accept())
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """May be called again."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._accepting.cancel)
            self._thread.join(CLOSE_SECONDS)
            assert not self._thread.is_alive(), f"the {self._name} does not end"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with contextlib.suppress(asyncio.CancelledError), self._listener:
            self._loop.run_until_complete(self._accepting)
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _accept(self) -> None:
        """Until it is cancelled."""
        raise NotImplementedError

    async def _end(self) -> None:
        """What is to be done when nothing is accepted any more."""
        raise NotImplementedError
