"""The calls of the simulated processes, each of which waits until the search has it carried out; and stores that make
them: the real ones, but for the methods that send a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from modelloop import RUNNING, Process
from modelstorage import MIN_PART_BYTES, Request, Response, SimulatedStorage

from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError
from tusd_py.stores.s3 import S3Store
from tusd_py.stores.s3.attributes import Attributes
from tusd_py.stores.s3.bucket import Bucket, Cursor
from tusd_py.stores.s3.chain import Chain
from tusd_py.stores.s3.client import Client, Place, Unclear
from tusd_py.stores.s3.control import Control
from tusd_py.stores.s3.failures import Failures
from tusd_py.stores.s3.fenced import FencedChain
from tusd_py.stores.s3.memory import Memory
from tusd_py.stores.s3.names import Names
from tusd_py.stores.s3.plan import Limits, Plan
from tusd_py.stores.s3.slots import Slots
from tusd_py.stores.s3.warm import Warm
from tusd_py.stores.s3.wire import NOTHING, Answer, Payload

BUCKET = "bucket"
PART_BYTES = 8

CLAIM, RENEW = "Claim", "Renew"
LOCK = "lock"


class Network:
    """`pending` are the calls on their way, in the order in which they were made; `fence` and `owner` the lock's."""

    def __init__(self, storage: SimulatedStorage) -> None:
        self.storage = storage
        self.pending: list[Request] = []
        self.is_closed = False
        self.fence = 0
        self.owner: Process | None = None

    async def ask(
        self,
        operation: str,
        key: str,
        arguments: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Any:
        process = RUNNING.get()
        process.asked += 1
        request = Request(process, process.asked, operation, key, arguments, headers or {}, body)
        if process.asks_at_once:
            return self.carry_out(request)
        if self.is_closed or process.is_over:
            raise asyncio.CancelledError
        request.future = asyncio.get_running_loop().create_future()
        self.pending.append(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            self.abandon(request)  # what is on its way may arrive all the same
            raise

    def carry_out(self, request: Request) -> Any:
        """What is answered. Raises S3Error."""
        if request.operation == CLAIM:
            self.fence += 1
            self.owner = request.process
            return self.fence
        if request.operation == RENEW:
            return self.owner is request.process and self.fence == request.arguments["fence"]
        return self.storage.carry_out(request)

    def abandon(self, request: Request) -> None:
        """Nobody waits for its answer any more."""
        if request in self.pending:
            request.is_orphan = True
            if not request.is_change:
                self.pending.remove(request)

    def failure(self, request: Request) -> Exception:
        """What its process hears when no answer comes."""
        if request.operation == RENEW:
            return BackendError()
        return Unclear(f"{request.operation}: no answer came")


class SimulatedClient(Client):
    drops_conditions = False

    def __init__(self, network: Network) -> None:
        super().__init__(None, Place("storage", "", "/"), None)  # type: ignore[arg-type]
        self._network = network

    async def _attempt(
        self,
        operation: str,
        _method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        payload: Payload = NOTHING,
    ) -> Answer:
        if self.drops_conditions:
            headers = {name: value for name, value in headers.items() if not name.startswith("if-")}
        # A copy: the memory may be used again once there is an answer, or an error.
        answer: Answer = await self._network.ask(operation, key, query, headers, b"".join(payload.pieces))
        return answer

    @asynccontextmanager
    async def stream(
        self, key: str, headers: Mapping[str, str], byte_range: str | None = None
    ) -> AsyncGenerator[tuple[Answer, AsyncGenerator[bytes, None]], None]:
        answer = await self._network.ask("GetObject", key, {}, self._asking(headers, byte_range))
        yield answer, _pieces(answer.body)


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


class SimulatedControl(Control):
    def __init__(self, network: Network) -> None:
        super().__init__(None, None, BUCKET)
        self._network = network

    async def call(self, operation: str, **arguments: Any) -> Response:
        answer: Response = await self._network.ask(operation, str(arguments.get("Key", "")), arguments)
        return answer


class ProcessLocks:
    """A `shared.Fences`: what one process knows of the lock. It gets it whenever it asks, as if the lease of whoever
    has it were over; that one hears of it when it asks again."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._fence: int | None = None

    async def claim(self) -> None:
        self._fence = await self._network.ask(CLAIM, LOCK, {})

    def release(self) -> None:
        self._fence = None

    def fence(self, _upload_id: UploadId) -> int | None:
        return self._fence

    async def is_held(self, _upload_id: UploadId) -> bool:
        if self._fence is not None and not await self._network.ask(RENEW, LOCK, {"fence": self._fence}):
            self._fence = None
        return self._fence is not None


def new_store(network: Network, fences: ProcessLocks | None, *, has_sums: bool) -> S3Store:
    """That of one process; with `fences` as over a storage that takes no conditions."""
    client, control = SimulatedClient(network), SimulatedControl(network)
    memory = Memory(1 << 20)
    return S3Store(
        Bucket(
            client=client,
            control=control,
            chain=Chain(client, BUCKET) if fences is None else FencedChain(client, control, fences),
            names=Names(),
            plan=Plan(Limits(min_part_bytes=MIN_PART_BYTES), PART_BYTES),
            memory=memory,
            slots=Slots(10),
            warm=Warm(memory),
            failures=Failures(BUCKET),
            attributes=Attributes(),
            cursor=Cursor(),
            has_crc=has_sums,
        ),
        fences,
    )
