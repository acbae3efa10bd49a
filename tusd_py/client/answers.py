"""What strangers say, as far as it can be used: numbers, addresses, and text that may be shown on a terminal.

Servers, proxies and file names may hold anything. What to do about what is of no use is left to others.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit

REDIRECTS = {301, 302, 303, 307, 308}
LONGEST_SHOWN = 8_000  # characters of a line: a header may have 64 KiB
_LONGEST_SAID = 200
_MOST_DIGITS = 19
_PORTS = {"http": 80, "https": 443}


def number(text: str) -> int | None:
    """None for what is no number of bytes: int() would take signs, other digits, and 4,000 of them."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def address(endpoint: str, location: str) -> str:
    """Where Location leads to, from the endpoint. Raises ValueError, with what it is, if nothing can be asked there."""
    try:
        url = urljoin(endpoint, location)
        if location and is_plain(location) and is_http(urlsplit(url)):
            return url
    except ValueError:
        pass
    raise ValueError(location[:_LONGEST_SAID] or "(it is empty)")


def is_plain(text: str) -> bool:
    """Whether it has nothing that URLs do not have."""
    return text.isascii() and text.isprintable() and " " not in text


def is_http(parts: SplitResult) -> bool:
    """Whether it is an address of HTTP, without a login. Raises ValueError for a port that is none."""
    return parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and parts.username is None


def is_at_home(endpoint: str, url: str) -> bool:
    """Whether what is meant for the endpoint may go there, too: a login, say. That is the same host and port, or the
    same host with TLS where there was none."""
    here, there = _origin(endpoint), _origin(url)
    return here == there or (here[1] == there[1] and (here[::2], there[::2]) == (("http", 80), ("https", 443)))


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def said(body: bytes, longest: int, *, is_packed: bool) -> str:
    """The first line of a body in brackets, if it is a text: nothing is unpacked, for it could get any size."""
    line = next(iter(body.decode("utf-8", "replace").strip().splitlines()), "")
    return f" ({line[:longest]})" if line and not line.startswith("<") and not is_packed else ""


def shown(text: str) -> str:
    """One line, in which controls, line ends and marks of direction are escapes: no terminal is steered by it."""
    if len(text) > LONGEST_SHOWN:
        text = f"{text[:LONGEST_SHOWN]} ..."
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
