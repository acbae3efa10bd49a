"""The peers with their S3 stores: as their own documentation starts them, with the same credentials, and temporary
files, where they write any, on the same disk. {bucket}, {endpoint}, the keys and {redis} are filled in when they
start.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from benchpeers import (
    SERVERS,
    Choices,
    Peer,
    Recipe,
    Unavailable,
    node_recipe,
    our_command,
    our_version,
    tusd_binary,
    tusd_version,
)

OUR_MEMORY_MIB = 128
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "{access_key}",
    "AWS_SECRET_ACCESS_KEY": "{secret_key}",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "TMPDIR": "{folder}",
}


def _ours(choices: Choices) -> Recipe:
    flags = (f"--s3-memory={OUR_MEMORY_MIB}MiB", "--expose-metrics=false", f"--workers={choices.workers}")
    return Recipe(
        our_version(choices),
        our_command(choices, "--s3-bucket={bucket}", "--s3-endpoint={endpoint}", *flags),
        ENVIRONMENT,
        note=f"{' '.join(flags)}; parts of 8 MiB, CRC64 over each",
        workers=choices.workers,
    )


def _ours_with_redis(choices: Choices) -> Recipe:
    """As several machines run it: locks, and what was just changed, are in Redis."""
    if shutil.which("redis-server") is None:
        raise Unavailable("no redis-server here")
    recipe = _ours(choices)
    flags = ("--locker=redis", "--redis-url={redis}")
    return replace(
        recipe,
        command=(*recipe.command, *flags),
        note=f"{flags[0]}, else as tusd-py",
        ready_seconds=10.5,  # a new process believes nothing in Redis before
    )


def _tusd(choices: Choices) -> Recipe:
    binary = tusd_binary(choices)
    return Recipe(
        tusd_version(binary),
        (binary, *_TUSD),
        ENVIRONMENT,
        note="-verbose=false -expose-metrics=false, no hooks; all cores; parts of 50 MiB, SHA-256 over each",
    )


_TUSD = (
    "-host=127.0.0.1",
    "-port={port}",
    "-s3-bucket={bucket}",
    "-s3-endpoint={endpoint}",
    "-base-path=/files/",
    "-verbose=false",
    "-show-startup-logs=false",
    "-expose-metrics=false",
)


def _tus_node(choices: Choices) -> Recipe:
    recipe = node_recipe(choices, "s3-store", SERVERS / "theirs_tus_node_s3.mjs")
    return replace(
        recipe,
        environment=ENVIRONMENT | {"BUCKET": "{bucket}", "ENDPOINT": "{endpoint}", "PORT": "{port}"},
        note=f"{recipe.note}; parts of 8 MiB",
    )


S3_PEERS = {
    peer.name: peer
    for peer in (
        Peer("tusd-py", "tusd-py", _ours),
        Peer("tusd-py-redis", "tusd-py, Redis", _ours_with_redis),
        Peer("tusd", "tusd (Go)", _tusd),
        Peer("tus-node", "@tus/s3-store (Node)", _tus_node),
    )
}
