"""Which URL paths can stand beside each other: no request may find another answer than its path was set for."""

from __future__ import annotations

from collections.abc import Iterable

from tusd_py.errors import ConfigError

PAGE_ASSETS = "page-assets/"


def check_page(page: str, uploads: str, api: str, others: Iterable[str]) -> None:
    """`others` are pages, the rest are folders. Raises ConfigError."""
    advice = "choose another one, or --disable-page"
    if page.startswith(uploads) and page != uploads:
        raise ConfigError(f"--page-path {page} lies below --base-path {uploads}, where the uploads are; {advice}")
    if uploads.startswith(f"{page}{PAGE_ASSETS}"):
        raise ConfigError(f"--base-path {uploads} lies where --page-path {page} has its files; {advice}")
    if page.startswith(api) or api.startswith(f"{page}{PAGE_ASSETS}"):
        raise ConfigError(f"--page-path {page} and {api}, where programs ask, are in each other's way; {advice}")
    for other in others:
        if page.rstrip("/") == other.rstrip("/"):
            raise ConfigError(f"--page-path {page} and {other} of the metrics or the probes are one path; {advice}")
