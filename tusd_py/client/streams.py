"""Standard streams as they come: closed ones, readers that left, disks that are full, encodings that lack letters."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TextIO


def open_missing() -> None:
    """Where a stream was closed before we began, what is said goes nowhere. Files of ours must not take its number."""
    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_WRONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, flags)
            setattr(sys, name, open(null, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - until the end


def write(out: TextIO, text: str) -> None:
    """Whether or not somebody still reads it: an upload goes on without its audience."""
    with contextlib.suppress(OSError):
        out.write(text)
        out.flush()


def encodable(text: str, out: TextIO) -> str:
    """With escapes for what its encoding does not have."""
    return text.encode(out.encoding or "ascii", "backslashreplace").decode(out.encoding or "ascii")


def why_untold(tell: Callable[[str], object], text: str) -> str:
    """What went wrong with standard output, as a disk that is full; "" if nothing did."""
    try:
        tell(text)
    except OSError as error:
        return f"standard output takes no more: {(error.strerror or str(error)).lower()}"
    return ""
