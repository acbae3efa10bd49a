"""A proxy on loopback between us and S3: it names and counts the calls, and lets them go wrong as told.

What is not to go wrong is streamed as it comes, Host and all, so that signatures stay right. It lives in a thread of
its own, or as a program in a process of its own (`python s3proxy.py --help`), which is faster beside a busy client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import socket
import struct
import sys
import termios
from collections import Counter
from collections.abc import Callable
from typing import Any

sys.path.insert(0, __file__.rpartition("/")[0])  # as a program of its own, it finds its modules beside it

from acceptor import CLOSE_SECONDS, HOST, Acceptor
from s3calls import Call, call_of
from s3faults import STANDING, Fault, Kind
from s3http import Answer, Gone, Head, Piece, Wire, into, whole_answer
from s3stale import StaleReads

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Cut(Exception):
    """Ends a connection with a reset."""


class FaultProxy(Acceptor):
    """Runs from when it is made until `close()`, which raises what failed inside."""

    def __init__(self, upstream_host: str, upstream_port: int, port: int = 0) -> None:
        self.calls: list[Call] = []
        self.counts: Counter[str] = Counter()
        self.on_call: Callable[[Call], None] | None = None
        """Called in the proxy's thread with each call before anything else is done with it; the proxy waits for it."""
        self.upstream = (upstream_host, upstream_port)
        self.stale: StaleReads | None = None
        self.errors: list[Exception] = []
        self._faults: list[Fault] = []
        self._connections: set[asyncio.Task[None]] = set()
        super().__init__("s3proxy", port)
        self.endpoint = f"http://{HOST}:{self.port}"

    def inject(self, kind: Kind, operation: str | None = None, **options: Any) -> Fault:
        """Let the next call go wrong, or the next of an operation; for `kind` and `options` see `Fault`.

        Each fault counts from now on, whatever the others do; at a call that several are for, the first takes place.
        """
        fault = Fault(kind, operation, **options)
        self._faults.append(fault)
        return fault

    def stale_reads(self, seconds: float, client: Any) -> None:
        """From now on; `client` is a boto3 client of S3 itself. See `StaleReads`."""
        self.stale = StaleReads(seconds, client)

    def heal(self) -> None:
        """No fault from now on; what stands goes on."""
        faults, self._faults, self.stale, self.on_call = self._faults, [], None, None
        for fault in faults:
            fault.release()

    def clear(self) -> None:
        """Forget the calls and their counts."""
        self.calls.clear()
        self.counts.clear()

    def close(self) -> None:
        was_running = self._thread.is_alive()
        super().close()
        if was_running and self.errors:
            raise ExceptionGroup("in the proxy", self.errors)

    def note(self, head: Head) -> tuple[Call, Fault | None]:
        """A call has come; answers also the fault that takes place at it."""
        method, target, _ = head.first
        call = call_of(len(self.calls) + 1, method, target, head.headers)
        self.calls.append(call)
        self.counts[call.operation] += 1
        if self.on_call is not None:
            self.on_call(call)
        met = [fault for fault in self._faults if fault.meets(call)]  # each counts each call
        return call, met[0] if met else None

    async def _accept(self) -> None:
        try:
            while True:
                connection, _ = await self._loop.sock_accept(self._listener)
                task = self._loop.create_task(self._serve(connection))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
        finally:
            self._listener.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _end(self) -> None:
        await self._loop.shutdown_default_executor()

    async def _serve(self, accepted: socket.socket) -> None:
        connection = _Connection(self, Wire(accepted))
        try:
            await connection.serve()
        except (Cut, OSError):
            connection.client.reset()
        except Exception as error:
            self.errors.append(error)
            connection.client.reset()
        finally:
            connection.close()


class _Connection:
    """One client's connection, and the one to S3 that belongs to it."""

    def __init__(self, proxy: FaultProxy, client: Wire) -> None:
        self.client = client
        self._proxy = proxy
        self._upstream: Wire | None = None
        self._reuses_upstream = True

    def close(self) -> None:
        self.client.close()
        if self._upstream is not None:
            self._upstream.close()

    async def serve(self) -> None:
        keeps_alive = True
        while keeps_alive and (head := await self.client.head()) is not None:
            call, fault = self._proxy.note(head)
            try:
                keeps_alive = await self._handle(fault, head, call)
            finally:
                call.end()

    async def _handle(self, fault: Fault | None, head: Head, call: Call) -> bool:
        """Answers whether the connection goes on."""
        stale = self._proxy.stale
        if fault is not None:
            await self._go_wrong(fault, head, call)
        elif stale is not None and stale.concerns(call):
            body = await self._whole_body(head, call)
            await self._say(await self._carry_out(head, body, call), call)
        else:
            return await self._stream(head, call)
        return head.keeps_alive

    async def _go_wrong(self, fault: Fault, head: Head, call: Call) -> None:
        if fault.kind == "before":
            fault.take_effect(call)
            call.request_bytes = 0
            raise Cut
        if fault.kind == "reset_mid_body":
            await self._lose_half(fault, head, call)
        body = await self._whole_body(head, call)
        is_standing = fault.kind in STANDING
        if is_standing and not fault.carried_out:
            await fault.stand(call)
        answer = None
        if fault.carried_out or fault.kind in ("hold", "delay"):
            answer = await self._carry_out(head, body, call)
        if is_standing and fault.carried_out:
            await fault.stand(call)
        if not is_standing:
            fault.take_effect(call)
        if fault.kind in ("after", "hang"):
            raise Cut
        if fault.kind == "truncate_answer":
            assert answer is not None
            await self._say_half(answer, call)
        await self._say(answer if fault.kind in STANDING and answer is not None else fault.answer(), call)

    async def _lose_half(self, fault: Fault, head: Head, call: Call) -> None:
        half = max(1, int(call.headers.get("x-amz-decoded-content-length", head.length or 0)) // 2)
        call.request_bytes = 0
        if fault.passed_on:
            upstream = await self._connected()
            await upstream.send(head.raw)

        async def take(piece: Piece) -> None:
            piece = piece[: half - call.request_bytes]
            call.request_bytes += len(piece)
            if fault.passed_on:
                await upstream.send(piece)
            if call.request_bytes >= half:
                fault.take_effect(call)
                raise Cut

        try:
            await self._invite(head)
            await self.client.body(head, take)
        finally:
            if fault.passed_on:
                await _let_arrive(upstream)
                upstream.reset()
        raise Cut

    async def _say(self, answer: Answer, call: Call) -> None:
        call.status = answer.status
        await self.client.send(answer.raw(call.method))

    async def _say_half(self, answer: Answer, call: Call) -> None:
        call.status = answer.status
        raw = answer.raw(call.method)
        await self.client.send(raw[: len(raw) - (len(answer.body) + 1) // 2])
        await _let_arrive(self.client)
        raise Cut

    async def _invite(self, head: Head) -> None:
        if head.expects_continue:
            await self.client.send(CONTINUE)

    async def _whole_body(self, head: Head, call: Call) -> bytes:
        body = bytearray()
        await self._invite(head)
        await self.client.body(head, into(body))
        call.request_bytes = len(body)
        return bytes(body)

    async def _carry_out(self, head: Head, body: bytes, call: Call) -> Answer:
        """Ask S3 with a request that is here as a whole, whether its client is still there or not."""
        stale = self._proxy.stale
        if stale is not None and (old := stale.read(call)) is not None:
            return old
        before = await stale.before(call, body) if stale is not None else {}
        upstream = await self._connected()
        await upstream.send(head.raw)
        # An early refusal may end the connection while we send; it is there to be read all the same.
        with contextlib.suppress(ConnectionError):
            await upstream.send(body)
        answered = await self._answer_head(upstream, call, passes_interim=False)
        answer = await whole_answer(upstream, answered, call.method)
        self._reuses_upstream = answered.keeps_alive
        if stale is not None:
            stale.changed(before)
            answer = stale.listed(call, answer)
        return answer

    async def _stream(self, head: Head, call: Call) -> bool:
        """Pass a call on as it comes; answers whether the connection goes on."""
        upstream = await self._connected()
        await upstream.send(head.raw)
        call.request_bytes = 0
        pumping = asyncio.ensure_future(self._pump(head, upstream, call))
        try:
            answer = await self._answer_head(upstream, call, passes_interim=True)
            call.status = answer.status
            await self.client.send(answer.raw)
            if answer.has_body(call.method):
                await upstream.body(answer, self.client.send)
            if head.expects_continue and head.length != 0 and not call.request_bytes:
                return False  # refused without its body, which the client will not send any more
            await pumping
        finally:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)
        self._reuses_upstream = answer.keeps_alive
        return head.keeps_alive and answer.keeps_alive and not answer.ends_with_connection(call.method)

    async def _pump(self, head: Head, upstream: Wire, call: Call) -> None:
        is_wanted = True

        async def pass_on(piece: Piece) -> None:
            nonlocal is_wanted
            call.request_bytes += len(piece)
            if is_wanted:
                try:
                    await upstream.send(piece)
                except ConnectionError:  # refused early; the client reads its answer when it has sent all
                    is_wanted = False

        await self.client.body(head, pass_on)

    async def _answer_head(self, upstream: Wire, call: Call, *, passes_interim: bool) -> Head:
        while (head := await upstream.head()) is not None:
            if head.status >= 200:
                call.upstream_status = head.status
                return head
            if passes_interim:
                await self.client.send(head.raw)
        raise Gone

    async def _connected(self) -> Wire:
        if self._upstream is not None and (not self._reuses_upstream or self._upstream.has_ended):
            self._upstream.close()
            self._upstream = None
        if self._upstream is None:
            connection = socket.socket()
            try:
                connection.setblocking(False)
                await asyncio.get_running_loop().sock_connect(connection, self._proxy.upstream)
            except BaseException:
                connection.close()
                raise
            self._upstream = Wire(connection)
            self._reuses_upstream = True
        return self._upstream


async def _let_arrive(wire: Wire) -> None:
    """A reset throws away what the kernel has not delivered yet, and nothing but asking tells when it has."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS / 2):
            while struct.unpack("i", fcntl.ioctl(wire.socket, termios.TIOCOUTQ, b"\0" * 4))[0]:
                await asyncio.sleep(0.001)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Prints its port. Answers each line on its input with the counts since the last one, as JSON; ends "
        "with its input."
    )
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    host, _, port = arguments.upstream.rpartition(":")
    with FaultProxy(host, int(port), arguments.port) as proxy:
        print(proxy.port, flush=True)
        for _ in sys.stdin:
            sizes = Counter[str]()
            for call in proxy.calls:
                sizes[call.operation] += call.request_bytes
            counts = json.dumps({"calls": dict(proxy.counts), "request_bytes": dict(sizes)})
            proxy.clear()  # before anybody who reads this goes on
            print(counts, flush=True)


if __name__ == "__main__":
    main()
