"""What Redis and the network say went wrong, in the words of the house, and what to do about it."""

from __future__ import annotations

import logging
import re

from tusd_py.errors import BackendError
from tusd_py.logs import Seldom, event

log = logging.getLogger("tusd_py.jobs")

MESSAGE = "the queue of jobs cannot be used at the moment; try again soon"

COMMANDS = (
    "evalsha, script, info, time, get, set, xread, and what writes and reads hashes, sets, sorted sets and streams"
)

_ADVICE = {
    "OutOfMemory|OOM": "Redis is out of memory: raise maxmemory, or give the jobs a Redis of their own",
    "ReadOnly|READONLY": "this Redis is a read-only replica: give the URL of the primary, or of the Sentinels",
    "MISCONF": "Redis cannot write to its disk: look for room and errors in its log",
    "Authentication|NOAUTH|WRONGPASS": "Redis does not take the user and password of the URL",
    "NoPermission|NOPERM": f"the user needs the keys that begin with the prefix, and the commands {COMMANDS}",
    "BusyLoading|LOADING": "Redis is loading its data: wait",
    "MasterNotFound|MasterDown": "Sentinel knows no primary: look at the Sentinels, and at the service's name",
    "Cluster|CLUSTERDOWN|SlotNotCovered": "the Cluster does not serve all slots: look at CLUSTER INFO",
    "WRONGTYPE": "something else uses keys with this prefix: give the jobs another prefix or database",
    "unknown command|Unknown Redis command|cmsgpack": "it lacks what the queue needs: Redis or Valkey, 5 or newer",
    "SSL|certificate": "TLS failed: look at the certificate, its names and ssl_ca_certs",
    "Timeout": "Redis does not answer in time: look at its SLOWLOG, its load and the network",
    "ConnectionError|OSError": "Redis cannot be reached: is it running, and are host and port right?",
}

_OF_CONNECTION = re.compile(
    r"\b(LOST|NOSCRIPT|READONLY|LOADING|MOVED|ASK|CLUSTERDOWN|MASTERDOWN)\b"
    "|ConnectionError|NoScript|ReadOnly|BusyLoading|Moved|AskError|ClusterDown|MasterDown|Timeout"
)


def kind_of(error: BaseException) -> str:
    """One that `advice` is for; empty: none."""
    what = f"{type(error).__name__} {error}"
    found = next((kind for kind in _ADVICE if re.search(kind, what)), "")
    return found or ("ConnectionError|OSError" if isinstance(error, OSError) else "")


def advice(error: BaseException) -> str:
    return _ADVICE.get(kind_of(error), "see the reason")


def is_of_connection(error: BaseException) -> bool:
    """Whether a new connection may do better: this one was cut, or leads to another Redis than it should."""
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    return isinstance(error, OSError) or bool(_OF_CONNECTION.search(str(error)) or _OF_CONNECTION.search(names))


class Failures:
    """Tells of the failures of one Redis; `shown` is what logs may say of it."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self._seldom = Seldom()

    def translated(self, error: BaseException) -> BackendError:
        self.tell(error)
        told = BackendError(MESSAGE)
        told.__cause__ = error
        return told

    def tell(self, error: BaseException) -> None:
        """Of each kind now and then."""
        if self._seldom.is_due(kind_of(error) or type(error)):
            event(
                log,
                "JobsFailed",
                level=logging.ERROR,
                redis=self.shown,
                reason=str(error) or type(error).__name__,
                advice=advice(error),
            )
