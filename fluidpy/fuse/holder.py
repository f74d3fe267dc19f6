"""The holder of one mount: `python -m fluidpy.fuse.holder --control FD`.

Small and single-threaded. It owns the device fd and the backing ids, so that neither dies with a
server. It has a server forked, mounts once that has reached its Dataset, and sees to it that
another follows when it ends. It never looks into its own mount: it would wait for the server it
watches.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from typing import Final

from fluidpy.client import protocol
from fluidpy.errors import FluidpyError, MountError, from_wire
from fluidpy.fuse import control, holder_socket, kernel_mount
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.held_mount import HeldMount
from fluidpy.fuse.mount_record import log_path
from fluidpy.fuse.restart_policy import (
    ABSENCE_SECONDS,
    Decision,
    Ending,
    NextStep,
    Situation,
    after_server,
    recent,
)
from fluidpy.fuse.server_processes import (
    EndedProcesses,
    Interpreter,
    ServerProcess,
    adopt_orphans,
)
from fluidpy.fuse.server_reserve import ServerReserve
from fluidpy.fuse.server_watch import CHECK_SECONDS, ServerWatch
from fluidpy.fuse.upgrade import (
    DRAIN_SECONDS,
    LONG_DRAIN_SECONDS,
    Stage,
    Upgrade,
    begin,
)
from fluidpy.settings import Settings, load_settings

_logger = logging.getLogger("fluidpy.fuse.holder")

GRACE_SECONDS: Final = 5.0
"""How long users of a mount have to let go when the holder is told to end."""

START_SECONDS: Final = 10.0
"""How long a server that follows another may take until it serves, before it counts as failed."""


class Holder:
    """One mount's life, from the order to the last unmount."""

    def __init__(
        self, order: control.HolderOrder, settings: Settings, channel: socket.socket
    ) -> None:
        """`channel` leads to the process that wants the mount, until it is ready."""
        self._order = order
        self._settings = settings
        self._channel = channel
        self._loop = EventLoop()
        self._ended = EndedProcesses()
        self._mount = HeldMount(order, settings)
        self._failures: list[float] = []
        self._absent_since: float | None = None
        self._server_watch = ServerWatch()
        self._ending = False
        self._exit_status = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._reserve = self._new_reserve(Interpreter())
        self._server: ServerProcess | None = None
        self._upgrade: Upgrade | None = None
        self._listener: socket.socket

    def _new_reserve(self, interpreter: Interpreter) -> ServerReserve:
        return ServerReserve(
            self._loop, self._order.directory, self._mount.server_order, interpreter
        )

    def run(self) -> int:
        """Mounts, watches, and ends with the mount; the exit status."""
        adopt_orphans()
        self._listen_to_signals()
        server = self._reserve.start()
        try:
            self._bring_up(server)
        except FluidpyError as error:
            self._give_up(server)
            control.tell(self._channel, {"failed": error.to_wire()})
            return 1
        self._channel.close()
        self._watch(server)
        self._reserve.fill()
        self._loop.call_later(CHECK_SECONDS, self._check)
        self._loop.watch(self._listener.fileno(), self._on_command)
        self._loop.run()
        return self._exit_status

    # -- the first server ----------------------------------------------------------------------

    def _bring_up(self, server: ServerProcess) -> None:
        limit = time.monotonic() + self._order.deadline
        self._hear(server, "started", limit)
        self._hear(server, "attached", limit)
        self._mount.mount()
        self._mount.hand_over(server.channel)
        self._mount.served_by(server.pid, restarted=False)
        self._hear(server, "negotiated", limit)
        server.serving = True
        kernel_mount.raise_read_ahead(self._order.directory)
        self._mount.write_first_record()
        self._listener = holder_socket.listen(self._settings, self._order.directory)
        if not control.tell(self._channel, {"ready": self._mount.record.to_wire()}):
            raise MountError("the process that ordered the mount is gone", cure="Mount again.")

    def _hear(self, server: ServerProcess, what: str, limit: float) -> None:
        """Deals with messages up to one that says `what`."""
        while (received := control.hear(server.channel, limit)) is not None:
            if failed := received.message.get("failed"):
                protocol.close_all(received.fds)
                raise from_wire(failed)
            self._dispatch(server, received)
            if what in received.message:
                return
        raise MountError(
            f"the FUSE server ended before it was {what}",
            cure=f"Look at {log_path(self._settings, self._order.directory)}.",
        )

    def _give_up(self, server: ServerProcess) -> None:
        server.kill()
        server.channel.close()
        self._mount.take_down()
        self._reserve.end()

    # -- servers -------------------------------------------------------------------------------

    def _watch(self, server: ServerProcess) -> None:
        self._server = server
        self._loop.watch(server.channel.fileno(), lambda _: self._on_message(server))

    def _on_message(self, server: ServerProcess) -> None:
        try:
            received = protocol.receive(server.channel)
        except TimeoutError:
            return
        except OSError:
            received = None
        if received is None:
            self._server_ended(server)
        else:
            self._dispatch(server, received)

    def _dispatch(self, server: ServerProcess, received: protocol.Received) -> None:
        message, fds = received
        try:
            if "started" in message:
                server.started(int(message["started"]["pid"]))
            elif "serving" in message:
                server.answers = bool(message["serving"].get("answers"))
                self._serves(server)
            elif "alive" in message:
                self._server_watch.answered(server)
            elif "drained" in message:
                self._old_has_drained(server)
            elif "failed" in message:
                _logger.error("%s: %s", self._order.directory, from_wire(message["failed"]))
            elif "attached" in message:
                if self._mount.learn(message["attached"]):
                    self._reserve.renew()
            else:
                answer = self._mount.on_message(message, fds)
                if answer is not None and not control.tell(server.channel, answer):
                    server.kill()  # it does not read what we say
        finally:
            protocol.close_all(fds)

    def _serves(self, server: ServerProcess) -> None:
        server.serving = True
        if self._absent_since is None:
            return
        took = (self._loop.clock() - self._absent_since) * 1000
        self._absent_since = None
        _logger.info(
            "%s: server %d took over after %.1f ms", self._order.directory, server.pid, took
        )
        upgrade = self._upgrade
        upgraded = upgrade is not None and upgrade.server is server
        self._mount.served_by(server.pid, restarted=not upgraded)
        if upgrade is not None and upgraded:
            self._reserve.end()
            self._reserve, self._upgrade = upgrade.reserve, None
            upgrade.done(server.pid)
        self._reserve.fill()

    def _server_ended(self, server: ServerProcess) -> None:
        self._loop.unwatch(server.channel.fileno())
        server.channel.close()
        self._server = None
        now = self._loop.clock()
        ending = Ending(self._ended.status_of(server), server.serving)
        server.release()
        upgrade = self._upgrade
        if upgrade is not None and upgrade.server is server:
            self._upgrade = None
            why = f"the new server {ending}; one of the old code goes on"
            upgrade.fail(MountError(why, cure="The log of the mount says why."))
        elif ending.is_failure:
            self._failures = [*recent(self._failures, now), now]
        decision = after_server(self._situation(now), ending)
        if decision.step is not NextStep.RESTART:
            self._end(decision)
            return
        _logger.warning("%s: server %d %s", self._order.directory, server.pid, ending)
        self._begin_absence()
        if decision.pause:
            self._loop.call_later(decision.pause, self._start_next)
        else:
            self._start_next()

    def _begin_absence(self) -> None:
        if self._absent_since is None:
            now = self._absent_since = self._loop.clock()
            self._loop.call_later(ABSENCE_SECONDS, lambda: self._check_absence(now))

    def _situation(self, now: float) -> Situation:
        return Situation(
            connected=self._mount.connected,
            mounted=self._mount.in_tree,
            ending=self._ending,
            failures=self._failures,
            now=now,
        )

    def _start_next(self) -> None:
        if self._server is not None or self._ending:
            return
        upgrade = self._upgrade
        if upgrade is not None and upgrade.stage is Stage.DRAINING:
            upgrade.stage = Stage.TAKING_OVER
            server = upgrade.server
        else:
            try:
                server = self._reserve.take()
            except OSError as error:  # no process, no fd to be had: perhaps in a while
                _logger.error("%s: no server can be started: %s", self._order.directory, error)
                self._loop.call_later(CHECK_SECONDS, self._start_next)
                return
        self._mount.hand_over(server.channel)
        self._watch(server)
        self._loop.call_later(START_SECONDS, lambda: self._check_start(server))

    def _check_start(self, server: ServerProcess) -> None:
        if self._server is server and not server.serving:
            _logger.error(
                "%s: server %d does not serve after %g s, so it is ended",
                self._order.directory,
                server.pid,
                START_SECONDS,
            )
            if not server.pid:
                self._reserve.replace_template()  # it hangs
            server.kill()
            self._server_ended(server)

    def _check_absence(self, since: float) -> None:
        if self._absent_since == since:
            self._end(
                Decision(
                    NextStep.TAKE_DOWN, reason=f"no server has served for {ABSENCE_SECONDS:g} s"
                )
            )

    def _check(self) -> None:
        self._ended.collect()
        self._ended.forget()
        self._loop.call_later(CHECK_SECONDS, self._check)
        server = self._server
        why = self._server_watch.check(server, connected=self._mount.connected)
        if why and server is not None:
            _logger.warning("%s: server %d %s", self._order.directory, server.pid, why)
            server.kill()
            self._server_ended(server)
        elif why:
            self._end(after_server(self._situation(self._loop.clock()), Ending(0, served=True)))

    # -- upgrades ------------------------------------------------------------------------------

    def _on_command(self, _events: int) -> None:
        command = holder_socket.receive_command(self._listener)
        if command is not None:
            busy = self._upgrade is not None
            self._upgrade = begin(*command, self._new_upgrade, busy=busy) or self._upgrade

    def _new_upgrade(self, client: socket.socket, interpreter: Interpreter) -> Upgrade:
        settings = self._settings
        return Upgrade(
            self._loop,
            client,
            self._new_reserve(interpreter),
            self._mount.record.server_pid,
            seconds=settings.source_deadline_seconds + settings.worker_start_seconds,
            on_ready=self._drain_old,
            on_failed=self._upgrade_failed,
        )

    def _upgrade_failed(self) -> None:
        self._upgrade = None

    def _drain_old(self) -> None:
        """The new server waits for its turn: the old one is to answer what it has read."""
        old = self._server
        if old is None:  # it has just ended: the new one is next
            return
        seconds = DRAIN_SECONDS if self._mount.resends else LONG_DRAIN_SECONDS
        if not old.serving or not control.tell(old.channel, {"drain": {"seconds": seconds}}):
            old.kill()  # the end of its socket tells that it is the next one's turn
        self._loop.call_later(seconds + GRACE_SECONDS, lambda: self._end_old(old))

    def _old_has_drained(self, old: ServerProcess) -> None:
        if self._server is old and self._upgrade is not None:
            self._loop.unwatch(old.channel.fileno())
            old.channel.close()
            self._server = None
            self._begin_absence()
            self._start_next()

    def _end_old(self, old: ServerProcess) -> None:
        """It should have ended by itself long ago."""
        if not old.await_end(0.0):
            old.kill()
        old.release()

    # -- the end -------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)
        self._loop.watch(self._wake_read, self._on_signal)

    def _on_signal(self, _events: int) -> None:
        """Told to end: unmounts; who still uses the mount has a while to let go, or until the
        next signal."""
        os.read(self._wake_read, 64)
        self._loop.call_later(0.0 if self._ending else GRACE_SECONDS, self._end_by_force)
        self._ending = True
        self._mount.unmount_softly()
        if self._server is None:
            self._end(Decision(NextStep.FINISH))

    def _end_by_force(self) -> None:
        if self._server is not None:
            _logger.warning("%s: users did not let go in time", self._order.directory)
            self._server.kill()

    def _end(self, decision: Decision) -> None:
        failure = None
        if decision.step is NextStep.TAKE_DOWN and not self._ending:
            failure = f"the mount was taken down: {decision.reason}"
            _logger.error("%s: %s; mount the Dataset again", self._order.directory, failure)
        if self._server is not None:
            self._loop.unwatch(self._server.channel.fileno())
            self._server.kill()
            self._server.channel.close()
        if self._upgrade is not None:
            self._upgrade.fail(MountError("the mount ended meanwhile", cure="Mount it again."))
        self._mount.take_down()
        self._listener.close()
        self._mount.close_record(failure)
        self._reserve.end()
        self._exit_status = 1 if decision.step is NextStep.TAKE_DOWN else 0
        self._loop.stop()


def main() -> int:
    """Holds the mount that the control socket orders."""
    channel = control.open_control("fluidpy.fuse.holder")
    order = control.HolderOrder.from_wire(control.receive_first(channel))
    return Holder(order, load_settings(), channel).run()


if __name__ == "__main__":
    sys.exit(main())
