"""A session of requests for servers that may be anybody's: what it waits for, reads and remembers is bounded.

It follows no redirects and looks for no logins of its own. What is asked, and what an answer means, is left to others.
"""

from __future__ import annotations

import functools
import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from tusd_py.client.limits import TimelyAnswer, countdown, in_time

CONNECT_SECONDS = 20.0
SEND_SECONDS = 20.0  # for each 16 KiB of a body
ANSWER_SECONDS = 60.0  # from the last byte that was sent to the last that is read
MOST_COOKIES = 20
_UNSENT_BYTES = 128 << 10
"""What the kernel takes beyond that which is under way: else minutes of a slow line are in its queue, progress shows
what has not left, and no answer can come in time."""


class Session(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        self.auth = _unchanged  # else a login from .netrc would replace that of --header
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, _response: requests.Response) -> None:
        """None, always. Even where it does not follow, requests would read all of a redirect's body into memory."""

    def forget_many_cookies(self) -> None:
        """Load balancers give one or two."""
        if len(self.cookies) > MOST_COOKIES:
            self.cookies.clear()


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Timely:
    """Of a connection of urllib3: the way there, and the answer, each as a whole."""

    def connect(self) -> None:
        in_time(super().connect, countdown(CONNECT_SECONDS), self.close)  # type: ignore[misc, attr-defined]

    @property
    def response_class(self) -> object:
        return functools.partial(TimelyAnswer, left=countdown(ANSWER_SECONDS))


class _Connection(_Timely, HTTPConnection):  # type: ignore[misc]
    pass


class _SecureConnection(_Timely, HTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, socket_options=_socket_options())
        _make_timely(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options, socket_options=_socket_options())
        if not proxy.lower().startswith("socks"):
            _make_timely(manager)
        return manager


def _make_timely(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


def _socket_options() -> list[tuple[int, int, int]]:
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES))
    return options
