"""Which systems take part, and all of them mounted at once."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from benchmarks.mount.fluidpy_mount import MODES, fluidpy
from benchmarks.mount.juicefs import juicefs
from benchmarks.mount.names import Names
from benchmarks.mount.rclone import rclone
from benchmarks.mount.s3fs import s3fs
from benchmarks.mount.system import PLAIN, Mounted, System
from benchmarks.mount.tree import Tree
from benchmarks.single.bench import Bench

PEERS = ("juicefs", "rclone", "s3fs")


def end_in_order() -> None:
    """Lets Ctrl-C and SIGTERM unmount and end everything; a second one cannot disturb that."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        print("stopped; ending all that was started", file=sys.stderr, flush=True)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def words_of(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """A type for `argparse`: words with commas between, each of them allowed."""

    def parse(text: str) -> list[str]:
        words = [word for word in text.split(",") if word and word != "none"]
        for word in words:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"{word}: choose from {', '.join(allowed)}")
        return words

    return parse


def add_choice(parser: argparse.ArgumentParser) -> None:
    """The options `--mode` and `--peers`."""
    modes = (*MODES, "auto", "default")
    parser.add_argument(
        "--mode",
        type=words_of(modes),
        default=list(MODES),
        help=f"read modes of fluidpy, of {','.join(modes)}",
    )
    parser.add_argument(
        "--peers", type=words_of(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}, or none"
    )


def choose(modes: Sequence[str], peers: Sequence[str], names: Names) -> list[System]:
    """The plain directory, fluidpy in these modes, these peers; in this order they take turns."""
    known = {"juicefs": lambda: juicefs(names), "rclone": rclone, "s3fs": s3fs}
    return [PLAIN, *map(fluidpy, modes), *(known[peer]() for peer in peers)]


def as_kept(command: str, directory: Path) -> str:
    """How a system was started, for the record: its program by name, places below `directory`."""
    program, blank, rest = command.partition(" ")
    return Path(program).name + blank + rest.replace(f"{directory}/", "")


class Running:
    """Starts systems; `known` has each one's version, options, a note, and why it failed."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.known: dict[str, dict[str, str]] = {}

    @contextlib.contextmanager
    def mounted(
        self, tree: Tree, chosen: Sequence[System]
    ) -> Iterator[tuple[dict[str, Mounted], dict[str, str]]]:
        """Every system that starts and shows the right bytes; why the others did not."""
        with contextlib.ExitStack() as stack:
            mounted: dict[str, Mounted] = {}
            failures: dict[str, str] = {}
            for system in chosen:
                self._bench.talk(f"starting {system.name}")
                own = stack.enter_context(contextlib.ExitStack())
                try:
                    mounted[system.name] = self._start(own, system, tree)
                except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                    own.close()
                    failure = str(error).replace(f"{self._bench.directory}/", "")
                    failures[system.name] = self.known[system.name]["failure"] = failure
                    self._bench.talk(f"{system.name} failed: {failure}")
            yield mounted, failures

    def _start(self, stack: contextlib.ExitStack, system: System, tree: Tree) -> Mounted:
        known = self.known.setdefault(system.name, {})
        known["version"] = system.version()
        opened = system.open_data if tree.groups else system.open_names
        found = stack.enter_context(opened(self._bench, tree))
        known["options"] = as_kept(found.options, self._bench.directory)
        known["note"] = found.note
        tree.check(found.directory)
        return found
