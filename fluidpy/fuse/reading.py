"""The parts of a mount that open and read files, put together: one read mode of three."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fluidpy.client.protocol import EVENT_EVICTED, EntryTuple, Message
from fluidpy.errors import FluidpyError, MountError
from fluidpy.fuse.cache_leases import CacheLeases
from fluidpy.fuse.cache_view import CacheView
from fluidpy.fuse.control import HandOver
from fluidpy.fuse.device import Device
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.files import Files
from fluidpy.fuse.kept_files import KeptFiles
from fluidpy.fuse.mode_choice import PROBE_ROW, ModeChoice, Tell
from fluidpy.fuse.negotiation import Negotiated
from fluidpy.fuse.node_ids import NodeIds
from fluidpy.fuse.open_files import OpenFileTable
from fluidpy.fuse.opens import Opens
from fluidpy.fuse.passthrough_files import PassthroughFiles, fds_offered
from fluidpy.fuse.range_reader import RangeReader
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES, ReadMode, ReadModeChoice, TreeShape
from fluidpy.fuse.requests_in_flight import RequestsInFlight
from fluidpy.fuse.unbuffered_reads import UnbufferedReads
from fluidpy.fuse.worker_link import WorkerLink
from fluidpy.namespace.catalog import CatalogReader


class Reading:
    """Everything of one mount between OPEN and RELEASE."""

    def __init__(
        self,
        loop: EventLoop,
        device: Device,
        catalog: CatalogReader,
        link: WorkerLink,
        waiting: RequestsInFlight,
        *,
        reader: RangeReader,
        table: OpenFileTable,
        block_bytes: int,
        deadline: float,
        node_ids: NodeIds,
        asked: str,
        places: Sequence[Path],
        tell: Tell,
        on_trouble: Callable[[FluidpyError], None],
        most_held: int = 0,
    ) -> None:
        """`asked` is the read mode that was asked for; `places` are the cache's directories; `tell`
        speaks to the holder; `most_held` are the fds left for files that are passed through."""
        self._catalog = catalog
        self._tell = tell
        self._on_trouble = on_trouble
        self._view = CacheView(catalog)
        self._leases = CacheLeases(loop, link, on_trouble)
        offered = fds_offered(most_held)
        self._kept = KeptFiles(self._view, self._leases, most_held)
        unbuffered = self._unbuffered_reads(loop, device, waiting, reader)
        self.files = Files(
            loop,
            device,
            catalog,
            link,
            waiting,
            reader=reader,
            table=table,
            block_bytes=block_bytes,
            deadline=deadline,
            view=self._kept,
            kept=self._kept,
            answer_whole=unbuffered.answer,
            on_used=self._leases.use,
        )
        self._passthrough = PassthroughFiles(
            loop,
            device,
            catalog,
            waiting,
            plain=self.files,
            view=self._view,
            leases=self._leases,
            tell=tell,
            most_held=max(0, most_held - offered),
            most_offered=offered,
        )
        self._leases.on_gone = self._gone
        self._choice = self._mode_choice(loop, asked, places)
        self.opens = Opens(device, self.files, self._passthrough, node_ids, self._choice.first_open)

    def _unbuffered_reads(
        self, loop: EventLoop, device: Device, waiting: RequestsInFlight, reader: RangeReader
    ) -> UnbufferedReads:
        return UnbufferedReads(
            device,
            waiting,
            self._kept,
            view=reader.view,
            pace=reader.pace,
            clock=loop.clock,
            on_used=self._leases.use,
        )

    def _mode_choice(self, loop: EventLoop, asked: str, places: Sequence[Path]) -> ModeChoice:
        return ModeChoice(
            loop,
            asked,
            directories=places,
            shape=self._shape,
            tell=self._tell,
            on_chosen=self._chosen,
            on_impossible=self._impossible,
        )

    def take_over(self, hand_over: HandOver, cache: Mapping[str, Any]) -> None:
        """Goes on where an earlier server was; `cache` says how cache files are found."""
        self._view.follow(cache)
        self._passthrough.take_over(hand_over.backings, hand_over.retired)
        if hand_over.read_mode is not None:
            self._use(ReadModeChoice.from_wire(dict(hand_over.read_mode)))
        elif hand_over.negotiated is not None:
            self.negotiated(Negotiated(**hand_over.negotiated))

    def negotiated(self, negotiated: Negotiated) -> None:
        """INIT is answered: the mode can be chosen."""
        self._choice.begin(negotiated)

    def _chosen(self, choice: ReadModeChoice) -> None:
        self._tell({"readMode": choice.to_wire()}, ())  # known to the holder before the kernel
        self._use(choice)

    def _impossible(self, error: MountError) -> None:
        self._on_trouble(error)
        self._chosen(ReadModeChoice(ReadMode.PLAIN, error.message))

    def _use(self, choice: ReadModeChoice) -> None:
        if choice.mode is ReadMode.PASSTHROUGH:
            self.files.on_complete = self._passthrough.completed
            self._kept.limit = 0  # its rows' leases are those of the backing ids
        self.files.direct.kernel_keeps_pages = choice.mode is not ReadMode.PASSTHROUGH
        self.opens.use(choice.mode)

    def _shape(self) -> TreeShape:
        reader = CatalogReader(self._catalog.path)
        try:
            return TreeShape(*reader.sizes(LARGE_FILE_BYTES))
        finally:
            reader.close()

    def looked_up(self, entry: EntryTuple) -> None:
        """The kernel asked for the name of a file, and has the answer."""
        if self.opens.mode is ReadMode.PASSTHROUGH:
            self._passthrough.looked_up(entry)
        else:
            self.files.direct.looked_up(entry)

    def on_backing(self, answer: Message) -> None:
        """What the holder says of a backing id that was asked for."""
        if int(answer["row"]) == PROBE_ROW:
            self._choice.on_backing(answer)
        else:
            self._passthrough.on_backing(answer)

    def on_event(self, event: Message) -> None:
        """What the worker pushes: files that left the cache, names that stand for others."""
        if event.get("event") == EVENT_EVICTED:
            self._leases.event(event)
        else:
            changed: list[list[Any]] = event.get("entries", [])
            self._gone([old for _parent, _name, old, _new in changed if old])

    def _gone(self, rows: Iterable[int]) -> None:
        """Cache files of these rows have left, or stand for old versions."""
        rows = list(rows)
        self._passthrough.leave(rows)
        self._kept.leave(rows)

    def worker_replaced(self, cache: Mapping[str, Any]) -> None:
        """Another worker: it may keep its index elsewhere, and knows of no lease."""
        self._view.follow(cache)
        self._leases.worker_replaced()

    def close(self) -> None:
        """Closes all fds."""
        self.files.close()
        self._kept.close()
        self._passthrough.close()
        self._view.close()
