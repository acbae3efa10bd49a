"""`tusd-py worker`: tells hooks what they are owed, without a server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence

from tusd_py import logs
from tusd_py.assembly.deliveries import open_deliveries
from tusd_py.config import Config
from tusd_py.errors import ConfigError
from tusd_py.queueing.words import WORKER


def run(words: Sequence[str], config: Config, tell: Callable[[str], object]) -> int:
    """Until SIGTERM or SIGINT. Raises ConfigError where there is nothing to do."""
    if words:
        raise ConfigError(f"unexpected word {words[0]!r}: tusd-py {WORKER} takes flags only")
    logs.configure(is_verbose=config.verbose, form=config.log_format)
    asyncio.run(_work(config, tell))
    return 0


async def _work(config: Config, tell: Callable[[str], object]) -> None:
    if config.jobs == "memory":
        raise ConfigError(f"--jobs memory is of one process; tusd-py {WORKER} needs a queue that processes share")
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with open_deliveries(config) as names:
        tell(f"tusd-py worker is ready: it tells {', '.join(names)}; stop with Ctrl-C\n")
        await ended.wait()
