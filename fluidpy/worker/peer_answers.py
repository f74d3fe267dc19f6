"""What this worker answers to HTTP requests of other workers: checks, statuses, heads, bodies."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol
from urllib.parse import unquote

from aiohttp import web

from fluidpy.cluster import peer_protocol as protocol
from fluidpy.cluster.membership import Membership
from fluidpy.cluster.peer_protocol import PeerRequest, Presence
from fluidpy.errors import (
    FluidpyError,
    PeerAbsentError,
    PeerBusyError,
)
from fluidpy.telemetry.metrics import CONTENT_TYPE
from fluidpy.worker.peer_batches import (
    close_all,
    close_result,
    frame_of,
    origin_of,
    outcome_of,
)
from fluidpy.worker.peer_objects import ServedRange
from fluidpy.worker.peer_sending import BodySender
from fluidpy.worker.peer_statuses import (
    late,
    not_allowed,
    refusal,
    unauthorised,
)
from fluidpy.worker.peer_turns import Turns
from fluidpy.worker.ready_frames import GROUP_BYTES, Buffers, ReadyFrames

_log = logging.getLogger(__name__)

GROUP: Final = 64
"""Objects of a batch that are opened, or fetched, together, from one on that is not cached."""

_NO_TOKEN: Final = "-"
"""What a token is compared with when the Dataset is not known here."""


class PeerSource(Protocol):
    """Where the bytes come from; see `PeerObjects`."""

    block_bytes: int

    def ready(self, request: PeerRequest) -> ServedRange | None:
        """The range, if it may be sent at once. Raises PeerRefusedError."""
        ...

    async def bring(
        self, request: PeerRequest, *, only_cached: bool, deadline: float
    ) -> ServedRange:
        """The range, verified or fetched first. Raises PeerError, SourceError."""
        ...

    def frames(self, requests: Sequence[PeerRequest], buffer: bytearray) -> ReadyFrames:
        """Frames of those objects that are cached, made in `buffer`. Raises PeerRefusedError."""
        ...

    def presence(self, requests: Sequence[PeerRequest]) -> list[Presence]:
        """What is cached of each object. Raises PeerRefusedError."""
        ...


class _BrokenBodyError(Exception):
    """The head of an answer was sent and its body cannot be finished."""


class PeerAnswers:
    """Answers requests; `handle` is the handler of an aiohttp server."""

    def __init__(
        self, source: PeerSource, metrics: Callable[[], bytes], threads: ThreadPoolExecutor
    ) -> None:
        """`metrics` gives the text of /metrics; `threads` send bodies. Knows no Dataset yet."""
        self._source = source
        self._metrics = metrics
        self._threads = threads
        self.turns = Turns()
        self._buffers = Buffers()
        self.tokens: Mapping[str, str] = {}
        self.draining = False
        self.statuses: Counter[int] = Counter()
        """Requests for data by the status of their answer."""
        self.bytes_sent: Counter[str] = Counter()
        """Bytes of bodies by origin: `cache`, `source`."""

    def use(self, membership: Membership) -> None:
        """Serves the Datasets of this membership from now on, to those who have their tokens."""
        self.tokens = {key: each.token for key, each in membership.datasets.items()}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request. Never raises but for a connection that is of no more use."""
        path, _, query = request.raw_path.partition("?")
        plain = _PLAIN.get(path)
        if plain is not None:
            return plain(self, request) if request.method == "GET" else not_allowed("GET")
        try:
            answer = await self._answer(request, path, query)
        except FluidpyError as error:
            answer = refusal(error)
        except TimeoutError:
            answer = refusal(late())
        except _BrokenBodyError as error:
            _log.info("an answer to a peer was broken off: %s", error.__cause__)
            self.statuses[499] += 1
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the answer was broken off") from error
        self.statuses[answer.status] += 1
        return answer

    async def _answer(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        parts = path.split("/")
        if len(parts) != 6 or parts[:3] != ["", "v1", "datasets"] or parts[5] not in _ROUTES:
            return refusal(protocol.malformed(f"nothing is at {path[:80]!r}"), 404)
        method, answer = _ROUTES[parts[5]]
        if request.method != method:
            return not_allowed(method)
        dataset = f"{unquote(parts[3])}/{unquote(parts[4])}"
        if not self._may(dataset, request.headers.get("Authorization", "")):
            return unauthorised()
        seconds = protocol.deadline_of(request.headers)
        async with asyncio.timeout(seconds) as limit:
            deadline = limit.when()
            assert deadline is not None
            return await answer(self, request, dataset, query, deadline)

    def _may(self, dataset: str, authorization: str) -> bool:
        """Whether the token is the Dataset's; takes as long for every wrong one."""
        scheme, _, token = authorization.partition(" ")
        expected = self.tokens.get(dataset, "")
        right = hmac.compare_digest(
            token.encode("utf-8", "surrogateescape"), (expected or _NO_TOKEN).encode()
        )
        return right and bool(expected) and scheme == "Bearer"

    # Ranges of one object.

    async def _object(
        self, request: web.BaseRequest, dataset: str, query: str, deadline: float
    ) -> web.StreamResponse:
        definition = request.headers.get(protocol.DEFINITION_HEADER, "")
        asked, only_cached = protocol.parse_object(
            dataset, definition, query, self._source.block_bytes
        )
        seconds = deadline - asyncio.get_running_loop().time()
        async with self.turns.turn(asked.end - asked.start, seconds):
            served = await self._served(asked, only_cached=only_cached, deadline=deadline)
            try:
                return await self._send_object(request, served, deadline)
            finally:
                served.close()

    async def _served(
        self, asked: PeerRequest, *, only_cached: bool, deadline: float
    ) -> ServedRange:
        served = self._source.ready(asked)
        if served is not None:
            return served
        if not self.draining:
            return await self._source.bring(asked, only_cached=only_cached, deadline=deadline)
        try:
            return await self._source.bring(asked, only_cached=True, deadline=deadline)
        except PeerAbsentError as error:
            if only_cached:
                raise
            raise PeerBusyError(
                "this worker is leaving and fetches nothing more", cure="Ask another owner."
            ) from error

    async def _send_object(
        self, request: web.BaseRequest, served: ServedRange, deadline: float
    ) -> web.StreamResponse:
        origin = origin_of(served)
        length = served.length
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(length),
                protocol.SUMS_HEADER: protocol.sums_text(served.sums),
                protocol.BLOCK_HEADER: str(self._source.block_bytes),
                protocol.ORIGIN_HEADER: origin,
            }
        )
        with _body(request, response):
            await response.prepare(request)
            await self._send(request, response, served, deadline)
        self.bytes_sent[origin] += length
        return response

    async def _send(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        served: ServedRange,
        deadline: float,
    ) -> None:
        sender = BodySender(request, response, self._threads, deadline)
        try:
            await sender.send(served.spans)
        finally:
            sender.close()
        await response.write_eof()

    # Many small objects.

    async def _batch(
        self, request: web.BaseRequest, dataset: str, query: str, deadline: float
    ) -> web.StreamResponse:
        asked, only_cached = protocol.parse_batch(
            dataset,
            request.headers.get(protocol.DEFINITION_HEADER, ""),
            await _body_of(request, query),
            largest=protocol.MOST_SMALL_BYTES,
            most_bytes=protocol.MOST_BATCH_BYTES,
        )
        seconds = deadline - asyncio.get_running_loop().time()
        taken = GROUP_BYTES + sum(each.size for each in asked)  # its buffer counts, too
        async with self.turns.turn(taken, seconds):
            response = web.StreamResponse(
                headers={
                    "Content-Type": "application/octet-stream",
                    protocol.BLOCK_HEADER: str(self._source.block_bytes),
                }
            )
            response.enable_chunked_encoding()
            buffer = self._buffers.take()
            try:
                frames = self._source.frames(asked, buffer)
                with _body(request, response):
                    await response.prepare(request)
                    await self._send_batch(request, response, asked, frames, only_cached, deadline)
            finally:
                self._buffers.give_back(buffer)
            return response

    async def _send_batch(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        asked: Sequence[PeerRequest],
        frames: ReadyFrames,
        only_cached: bool,
        deadline: float,
    ) -> None:
        """Sends what is cached; where it meets something else, a group in another way."""
        sender = BodySender(request, response, self._threads, deadline)
        try:
            while True:
                await sender.send_groups(frames.next_group)
                group = asked[frames.at : frames.at + GROUP]
                if not group:
                    break
                opened = await self._open(group, only_cached, deadline)
                await self._send_group(sender, opened)
                frames.at += len(group)
        finally:
            self.bytes_sent[protocol.FROM_CACHE] += frames.bytes_read
            sender.close()
        await response.write_eof()

    async def _open(
        self, group: Sequence[PeerRequest], only_cached: bool, deadline: float
    ) -> list[ServedRange | FluidpyError]:
        opened: list[ServedRange | FluidpyError] = []
        missing: dict[int, asyncio.Task[ServedRange]] = {}
        try:
            for number, asked in enumerate(group):
                try:
                    served = self._source.ready(asked)
                except FluidpyError as error:
                    opened.append(error)
                    continue
                if served is None:
                    work = self._served(asked, only_cached=only_cached, deadline=deadline)
                    missing[number] = asyncio.create_task(work)
                opened.append(served or late())
            if missing:
                await asyncio.wait(missing.values())
        except BaseException:
            close_all(opened)
            for task in missing.values():
                task.add_done_callback(close_result)
                task.cancel()
            raise
        for number, task in missing.items():
            opened[number] = outcome_of(task)
        return opened

    async def _send_group(
        self, sender: BodySender, opened: Sequence[ServedRange | FluidpyError]
    ) -> None:
        try:
            await sender.send_chunks([frame_of(each) for each in opened])
            for each in opened:
                if isinstance(each, ServedRange):
                    self.bytes_sent[origin_of(each)] += each.length
        finally:
            close_all(opened)

    # What is there.

    async def _presence(
        self, request: web.BaseRequest, dataset: str, query: str, deadline: float
    ) -> web.StreamResponse:
        asked, _ = protocol.parse_batch(
            dataset,
            request.headers.get(protocol.DEFINITION_HEADER, ""),
            await _body_of(request, query),
            largest=1 << 63,
            most_bytes=1 << 80,
        )
        body = protocol.presence_body(self._source.presence(asked))
        return web.Response(body=body, content_type="application/json")

    # What anybody may ask.

    def _healthz(self, request: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    def _readyz(self, request: web.BaseRequest) -> web.Response:
        if self.draining:
            return web.Response(status=503, text="leaving\n")
        return web.Response(text="ok\n")

    def _metrics_text(self, request: web.BaseRequest) -> web.Response:
        return web.Response(
            body=self._metrics(),
            headers={"Content-Type": CONTENT_TYPE},
        )


_PLAIN: Final[Mapping[str, Callable[[PeerAnswers, web.BaseRequest], web.Response]]] = {
    "/healthz": PeerAnswers._healthz,
    "/readyz": PeerAnswers._readyz,
    "/metrics": PeerAnswers._metrics_text,
}

_Answer = Callable[[PeerAnswers, web.BaseRequest, str, str, float], Awaitable[web.StreamResponse]]
_ROUTES: Final[Mapping[str, tuple[str, _Answer]]] = {
    "object": ("GET", PeerAnswers._object),
    "batch": ("POST", PeerAnswers._batch),
    "presence": ("POST", PeerAnswers._presence),
}


@contextlib.contextmanager
def _body(request: web.BaseRequest, response: web.StreamResponse) -> Iterator[None]:
    """Whatever goes wrong after the head was sent breaks the connection, not the protocol."""
    try:
        yield
    except (FluidpyError, TimeoutError, OSError) as error:
        if not response.prepared:
            raise
        raise _BrokenBodyError from error


async def _body_of(request: web.BaseRequest, query: str) -> bytes:
    if query:
        raise protocol.malformed("this target takes no query")
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > protocol.MOST_BODY_BYTES:
            raise protocol.malformed(f"the body is longer than {protocol.MOST_BODY_BYTES} bytes")
    return bytes(body)
