"""What authors write against: functions that cannot work are refused where they are written."""

from __future__ import annotations

from typing import Any

import pytest

from tusd_py.hooks.contract import Hook, reject
from tusd_py.hooks.testing import sample, tell


def test_a_function_that_yields_is_refused() -> None:
    hook = Hook()

    def plain() -> Any:
        yield reject()

    async def later() -> Any:
        yield reject()

    for each in (plain, later):
        with pytest.raises(TypeError, match=f"{each.__name__} has a yield, and nobody would run it: return the answer"):
            hook.on("pre-create")(each)


def test_a_parameter_with_a_default_is_filled_where_there_is_something() -> None:
    hook = Hook()

    @hook.on("pre-create", "pre-finish")
    def judge(upload: Any = None, stream: Any = None, settings: Any = "none", attempts: int = 3) -> Any:
        return reject(f"{upload.length} {stream and stream.read()} {settings} {attempts}")

    for event, said in (("pre-create", "5 None none 3"), ("pre-finish", "5 b'hello' none 3")):
        answer = tell(hook, sample(event, b"hello"))
        assert answer.response is not None
        assert answer.response.body == said


def test_a_plain_function_reads_its_bytes_as_a_file() -> None:
    hook = Hook()

    @hook.on("pre-finish")
    def judge(stream: Any) -> Any:
        with stream.open() as file:
            return reject(file.readlines()[1].decode())

    answer = tell(hook, sample("pre-finish", "a\nb"))
    assert answer.response is not None
    assert answer.response.body == "b"
