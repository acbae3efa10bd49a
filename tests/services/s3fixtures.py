"""S3 servers as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest
from s3servers import MissingService, S3Server

T = TypeVar("T", bound=S3Server)


def running(kind: type[T]) -> Iterator[T]:
    """One for all tests of a fixture, with the credentials for it in the environment."""
    try:
        server = kind()
    except MissingService as error:
        pytest.skip(str(error))
    with server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.credentials.items():
            patch.setenv(name, value)
        yield server
