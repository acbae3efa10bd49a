"""What tusd-py does as a client of tus servers, its own or others: `tusd-py check URL` and `tusd-py upload`.

Here stands only which words mean that: servers and their workers load nothing else of it but how errors are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

CHECK = "check"
UPLOAD = "upload"


def is_check_of_server(argv: Sequence[str]) -> bool:
    """Whether it is a URL that these words ask to check, and not a bucket, whose storage has a URL, too."""
    if list(argv[:1]) != [CHECK] or any(
        word.startswith("s3://") or word.lstrip("-").startswith("s3-") for word in argv
    ):
        return False
    return any(word.lower().startswith(("http://", "https://")) or _has_login(word) for word in argv)


def _has_login(word: str) -> bool:
    """As in user:password@host, a URL whose beginning is missing: no bucket, and not to be shown."""
    return not word.startswith("-") and ":" in word.partition("@")[0] and "@" in word


def is_upload(argv: Sequence[str]) -> bool:
    return list(argv[:1]) == [UPLOAD]
