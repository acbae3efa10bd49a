"""What the metrics say, read by prometheus-client."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def samples(text: str) -> Iterator[Sample]:
    """Every sample, under the name that it has in `text`: the parser calls each counter `_total`."""
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample if sample.name in names else sample._replace(name=sample.name.removesuffix("_total"))
