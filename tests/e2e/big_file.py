"""A file of several GiB by tus-js-client and by tuspy, over a bad network, to a server that is killed again and again.

Not a test: run by hand, `python tests/e2e/big_file.py --size 3GiB --dir /somewhere/with/room`. Exits with 0 if the
bytes are equal at both ends. It takes three times the size on the disk, and removes all of it.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cutting_proxy import CuttingProxy
from node_client import MissingNode, installed_node_client
from tusclient.client import TusClient
from upload_server import UploadServer

MIB = 1 << 20
BLOCK_BYTES = 8 * MIB
CHUNK_BYTES = 64 * MIB
LOOK_SECONDS = 0.05
HOURS_SECONDS = 6 * 3600.0

Upload = Callable[[str, Path], str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=size, default=size("3GiB"), help="bytes, or as in 500MiB (default: 3GiB)")
    parser.add_argument("--dir", type=Path, help="where there is room (default: the system's temporary folder)")
    parser.add_argument("--kills", type=int, default=6, help="SIGKILLs during each upload (default: 6)")
    parser.add_argument("--cuts", type=int, default=6, help="cut connections during each upload (default: 6)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        folder = Path(name)
        source = folder / "source.bin"
        expected = write_source(source, arguments.size)
        print(f"source: {arguments.size / MIB:,.0f} MiB, sha256 {expected}")
        results = []
        for client, upload in {"tus-js-client": upload_by_node, "tuspy": upload_by_tuspy}.items():
            try:
                results.append(carry(client, upload, source, folder / client, expected, arguments))
            except MissingNode as error:
                print(f"{client}: not run: {error}")
                results.append(False)
    return 0 if all(results) else 1


def carry(
    client: str, upload: Upload, source: Path, directory: Path, expected: str, arguments: argparse.Namespace
) -> bool:
    """Upload `source` through all the trouble; whether what came out is the same."""
    with UploadServer(directory) as server, CuttingProxy(server.port) as proxy:
        marks = evenly(arguments.size, arguments.kills)
        # tuspy has a connection for each chunk, and no connection outlives its server.
        for mark in evenly(min(CHUNK_BYTES, arguments.size // (arguments.kills + 1)), arguments.cuts):
            proxy.break_after(mark)
        started = time.monotonic()
        with trouble(client, server, proxy, marks, arguments.size):
            url = upload(proxy.through(server.url), source)
        seconds = time.monotonic() - started
        speed = arguments.size / MIB / seconds
        again = proxy.sent_bytes - arguments.size
        print(f"{client}: {seconds:.1f} s, {speed:.0f} MiB/s, {proxy.broken} cuts, {again / MIB:,.1f} MiB sent again")
        digests = server.digests(url)
        for where, digest in digests.items():
            print(f"{client}: {where:>4} sha256 {digest} {'equal' if digest == expected else 'DIFFERENT'}")
        server.path(url).unlink()
    return all(digest == expected for digest in digests.values())


def upload_by_node(endpoint: str, source: Path) -> str:
    options = {"retryDelays": [200] * 500}
    with installed_node_client().start(endpoint=endpoint, file=str(source), options=options) as run:
        return run.finish(HOURS_SECONDS)


def upload_by_tuspy(endpoint: str, source: Path) -> str:
    with source.open("rb") as file:
        uploader = TusClient(endpoint).uploader(file_stream=file, chunk_size=CHUNK_BYTES, retries=500, retry_delay=0.2)
        uploader.upload()
    return str(uploader.url)


@contextmanager
def trouble(client: str, server: UploadServer, proxy: CuttingProxy, marks: list[int], total: int) -> Iterator[None]:
    """While the block runs: kill and restart the server whenever the client has sent so many bytes."""
    is_over = threading.Event()
    failures: list[Exception] = []

    def watch() -> None:
        left = list(marks)
        told = time.monotonic()
        try:
            while not is_over.wait(LOOK_SECONDS):
                if left and proxy.sent_bytes >= left[0]:
                    print(f"{client}: SIGKILL after {left.pop(0) / MIB:,.0f} MiB")
                    server.kill()
                    server.start()
                if time.monotonic() - told > 5:
                    told = time.monotonic()
                    print(f"{client}: {proxy.sent_bytes / total:.0%}")
        except Exception as error:
            failures.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
    if failures:
        raise failures[0]


def write_source(path: Path, total: int) -> str:
    """No two MiB of it are alike, so that a lost, repeated or shifted stretch shows. Returns the SHA-256."""
    block = bytearray(random.Random(11).randbytes(BLOCK_BYTES))
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, total, BLOCK_BYTES):
            for stamp in range(0, BLOCK_BYTES, MIB):
                block[stamp : stamp + 8] = ((start + stamp) // MIB).to_bytes(8, "big")
            piece = memoryview(block)[: min(BLOCK_BYTES, total - start)]
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def evenly(total: int, count: int) -> list[int]:
    """`count` marks that part `total` evenly, none at its ends."""
    return [total * number // (count + 1) for number in range(1, count + 1)]


def size(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*(|KiB|MiB|GiB|TiB)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 3GiB")
    return int(found[1]) << {"": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[found[2]]


if __name__ == "__main__":
    sys.exit(main())
