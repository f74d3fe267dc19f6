"""`python -m fluidpy.testing.conformance DIR`: what `fluidpy runtime test DIR` runs."""

from __future__ import annotations

import importlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from fluidpy.errors import FluidpyError
from fluidpy.runtime.discovery import Plugin
from fluidpy.runtime.installing import install, record_of
from fluidpy.runtime.manifest import Manifest, load_manifest
from fluidpy.storage.fsspec_errors import redact
from fluidpy.storage.plugins import PLUGIN_FOLDER
from fluidpy.testing.conformance.bed import TestBed, test_bed
from fluidpy.testing.conformance.report import Outcome, lines_of, passed, summary
from fluidpy.testing.conformance.storage import check_storage_plugin

INTERRUPTED = 130
"""The exit code for SIGINT, as shells have it."""


def run(folder: Path) -> bool:
    """Tests the plug-in in a folder and prints the report; whether it conforms.

    Raises ValidationError for its manifest, RuntimePluginError when it cannot be tested.
    """
    manifest = load_manifest(folder)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="fluidpy-test-") as scratch:
        store = Path(scratch) / "store"
        store.mkdir()
        with test_bed(manifest, folder.resolve(), store) as bed:
            for outcome in _outcomes(manifest, folder, bed, Path(scratch)):
                outcomes.append(_without_secrets(outcome, bed))
                print(*lines_of(outcomes[-1]), sep="\n", flush=True)
    print(summary(f"{manifest.name} {manifest.version}", outcomes, time.monotonic() - began))
    return passed(outcomes)


def _outcomes(manifest: Manifest, folder: Path, bed: TestBed, scratch: Path) -> Iterator[Outcome]:
    plugins_dir = scratch / "served" / "state" / "runtimes"
    install(folder, plugins_dir)
    place = plugins_dir / manifest.name
    if manifest.kind == "storage":
        yield from check_storage_plugin(record_of(manifest), place, bed, scratch)
    else:
        mount = importlib.import_module("fluidpy.testing.conformance.mount")
        plugin = Plugin(manifest, place / PLUGIN_FOLDER, "installed")
        yield from mount.check_mount_plugin(plugin, bed, scratch)


def _without_secrets(outcome: Outcome, bed: TestBed) -> Outcome:
    return replace(outcome, said=redact(outcome.said, bed.all_secrets))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # what is under way then is cleaning up
    raise KeyboardInterrupt


def main() -> int:
    """The exit code: 0 conforms, 1 does not. A signal cleans up like any other end."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
            signal.signal(number, _interrupt)
    try:
        return 0 if run(Path(sys.argv[1])) else 1
    except FluidpyError as error:
        print(f"fluidpy: {error.message}", file=sys.stderr)
        if error.cure:
            print(f"cure: {error.cure}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("fluidpy: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
