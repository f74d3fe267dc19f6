"""`status`: what is mounted, and what the worker of this machine does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fluidpy.cli.options import OutputFormat, OutputOption
from fluidpy.cli.printers import (
    Column,
    Row,
    human_bytes,
    human_seconds,
    print_json,
    print_rows,
    print_text,
    print_yaml,
)
from fluidpy.settings import Settings, load_settings

if TYPE_CHECKING:
    from fluidpy.client.protocol import Message

ANSWER_SECONDS = 10.0


def status(output: OutputOption = OutputFormat.TABLE) -> None:
    """Show this user's mounts and worker; starts nothing.

    Example: fluidpy status -o json
    """
    from fluidpy.fuse.mounting import list_failures, list_mounts

    settings = load_settings()
    mounts = [record.to_wire() for record in list_mounts(settings)]
    failed = [record.to_wire() for record in list_failures(settings)]
    worker = worker_status(settings)
    if output is OutputFormat.JSON:
        print_json({"mounts": mounts, "failed": failed, "worker": worker})
    elif output is OutputFormat.YAML:
        print_yaml({"mounts": mounts, "failed": failed, "worker": worker})
    elif output is OutputFormat.NAME:
        print_rows(mounts, (), output, name="mountPoint")
    else:
        print_rows(mounts, _COLUMNS, output, name="mountPoint")
        for row in failed:
            print_text(f"{row['mountPoint']} is mounted no longer: {row['failure']}")
        for line in worker_lines(worker):
            print_text(line)


_COLUMNS = (
    Column("MOUNT POINT", lambda row: str(row["mountPoint"])),
    Column("DATASET", lambda row: f"{row['namespace']}/{row['dataset']}"),
    Column("MODE", lambda row: str(row["readMode"])),
    Column("SERVER", lambda row: str(row["serverPid"])),
    Column("RESTARTS", lambda row: str(row["restarts"])),
    Column("AGE", lambda row: _age(row)),
    Column("MODE REASON", lambda row: str(row.get("readModeReason") or "-"), wide=True),
    Column("HOLDER", lambda row: str(row["holderPid"]), wide=True),
    Column("FROM", lambda row: str(row.get("file") or row.get("url") or "-"), wide=True),
)


def _age(row: Row) -> str:
    return human_seconds(max(0.0, time.time() - float(row["startedAt"])))


def worker_status(settings: Settings) -> Message | None:
    """What the running worker says of itself; None when none runs."""
    from fluidpy.client.connection import WorkerConnection
    from fluidpy.client.start import connect

    probe = connect(settings)
    if probe is None:
        return None
    probe.close()
    connection = WorkerConnection(settings)
    try:
        return connection.call("status", deadline=ANSWER_SECONDS)[0]
    finally:
        connection.close()


def worker_lines(worker: Message | None) -> list[str]:
    """The worker in a few lines for people."""
    if worker is None:
        return ["", "worker: none runs"]
    lines = ["", f"worker: process {worker['pid']}"]
    for tier in worker.get("tiers", []):
        lines.append(f"  tier {tier['directory']}: {_filled(tier)}")
    counters = worker.get("counters", {})
    if counters:
        fetched, cached = counters["bytes_from_source"], counters["bytes_from_cache"]
        lines.append(f"  fetched {human_bytes(fetched)}, served from cache {human_bytes(cached)}")
    return lines


def _filled(tier: dict[str, Any]) -> str:
    used, quota = tier["used_bytes"], tier["quota_bytes"]
    share = f" ({used / quota:.0%})" if quota else ""
    return f"{human_bytes(used)} of {human_bytes(quota)}{share}"
