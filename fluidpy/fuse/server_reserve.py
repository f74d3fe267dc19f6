"""What a holder has ready for the moment its server ends: a template, and a spare forked from it.

A spare is a server with its order, before its turn. Both are replaced when they end, after growing
pauses when they go on doing so; a mount with neither is served all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from fluidpy.client import protocol
from fluidpy.errors import from_wire
from fluidpy.fuse import control
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.restart_policy import pause_after, recent
from fluidpy.fuse.server_processes import Interpreter, ServerProcess, Template

_logger = logging.getLogger("fluidpy.fuse.holder")


class ServerReserve:
    """Gives servers that have their order, at once."""

    def __init__(
        self,
        loop: EventLoop,
        directory: Path,
        order: Callable[[], control.ServerOrder],
        interpreter: Interpreter,
    ) -> None:
        """Starts nothing yet. `order` is what a server is told first, as it is at that moment."""
        self._loop = loop
        self._directory = directory
        self._order = order
        self._interpreter = interpreter
        self._template: Template | None = None
        self._spare: ServerProcess | None = None
        self._failures: list[float] = []
        self._filling = False
        self._ended = False

    def take(self) -> ServerProcess:
        """The spare, or a server that is forked now; the caller owns it."""
        spare, self._spare = self._spare, None
        if spare is None:
            return self.start()
        self._loop.unwatch(spare.channel.fileno())
        return spare

    def start(self, *, reach: bool = False) -> ServerProcess:
        """A server that is forked now. `reach`: it is to reach the worker before it is its turn."""
        server = self._get_template().fork_server()
        control.tell(server.channel, self._order().to_wire(reach=reach))
        return server

    def fill(self) -> None:
        """Sees to it that there is a spare, soon."""
        if self._filling or self._ended or self._spare is not None:
            return
        self._filling = True
        self._loop.call_later(pause_after(len(self._failures)), self._fill)

    def _fill(self) -> None:
        self._filling = False
        if self._ended or self._spare is not None:
            return
        try:
            spare = self._spare = self.start()
        except OSError as error:  # no process, no fd to be had: perhaps in a while
            self._failed(f"starting a spare server: {error}; it")
            self.fill()
            return
        self._loop.watch(spare.channel.fileno(), lambda _: self._on_spare(spare))

    def renew(self) -> None:
        """The order is another by now: replaces the spare that has the old one."""
        if self._spare is not None:
            self._drop_spare(self._spare)
            self.fill()

    def replace_template(self) -> None:
        """The template hangs: the next server comes from another."""
        if self._template is not None:
            self._drop_template(self._template)

    def _on_spare(self, spare: ServerProcess) -> None:
        try:
            received = protocol.receive(spare.channel)
        except OSError:
            received = None
        if received is None:
            self._drop_spare(spare)
            self._failed(f"the spare server {spare.pid}")
            self.fill()
            return
        protocol.close_all(received.fds)
        if "started" in received.message:
            spare.started(int(received.message["started"]["pid"]))
        elif "failed" in received.message:
            _logger.error("%s: %s", self._directory, from_wire(received.message["failed"]))

    def _get_template(self) -> Template:
        if self._template is None:
            template = self._template = Template(self._interpreter)
            # It never says anything: readable means that it has ended.
            self._loop.watch(template.channel.fileno(), lambda _: self._on_template(template))
        return self._template

    def _on_template(self, template: Template) -> None:
        self._drop_template(template)
        self._failed(f"the template {template.pid}")
        pause = pause_after(len(self._failures))
        self._loop.call_later(pause, self._start_template)

    def _start_template(self) -> None:
        if self._ended:
            return
        try:
            self._get_template()
        except OSError as error:  # the next server that is wanted tries again
            self._failed(f"starting a template: {error}; it")

    def _failed(self, what: str) -> None:
        now = self._loop.clock()
        self._failures = [*recent(self._failures, now), now]
        _logger.warning("%s: %s ended", self._directory, what)

    def _drop_spare(self, spare: ServerProcess) -> None:
        self._loop.unwatch(spare.channel.fileno())
        spare.kill()
        spare.release()
        self._spare = None

    def _drop_template(self, template: Template) -> None:
        self._loop.unwatch(template.channel.fileno())
        template.end()
        if self._template is template:
            self._template = None

    def end(self) -> None:
        """Throws all away; servers that were taken stay."""
        self._ended = True
        if self._spare is not None:
            self._drop_spare(self._spare)
        if self._template is not None:
            self._drop_template(self._template)
