"""`status`: what is mounted, and what the workers of this machine do."""

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
    """Show this user's mounts, control plane and workers; starts nothing.

    Example: fluidpy status -o json
    """
    from fluidpy.fuse.mounting import list_failures, list_mounts

    settings = load_settings()
    mounts = [record.to_wire() for record in list_mounts(settings)]
    failed = [record.to_wire() for record in list_failures(settings)]
    worker = worker_status(settings)
    control = control_status(settings)
    known = {str(row["mountPoint"]) for row in (*mounts, *failed)}
    failed += [row for row in control["mounts"] if row["mountPoint"] not in known]
    document = {
        "mounts": mounts,
        "failed": failed,
        "worker": worker,
        "control": _control_of(control),
        "workers": control["workers"],
    }
    if output is OutputFormat.JSON:
        print_json(document)
    elif output is OutputFormat.YAML:
        print_yaml(document)
    elif output is OutputFormat.NAME:
        print_rows(mounts, (), output, name="mountPoint")
    else:
        print_rows(mounts, _COLUMNS, output, name="mountPoint")
        for row in failed:
            print_text(f"{row['mountPoint']} is mounted no longer: {row['failure']}")
        if worker is not None or control["pid"] is None:
            for line in worker_lines(worker):
                print_text(line)
        if control["pid"] is not None:
            print_control(control, output)
        elif "failure" in control:
            print_text(f"control plane: {control['failure']}")


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


_WORKER_COLUMNS = (
    Column("WORKER", lambda row: str(row["name"])),
    Column("STATE", lambda row: str(row["state"])),
    Column("PROCESS", lambda row: str(row["pid"])),
    Column("ADDRESS", lambda row: str(row["address"])),
    Column("USED", lambda row: human_bytes(int(row["usedBytes"]))),
    Column("CAPACITY", lambda row: human_bytes(int(row["capacityBytes"]))),
    Column("DATASETS", lambda row: str(len(row["datasets"]))),
    Column("RESTARTS", lambda row: str(row["restarts"]), wide=True),
    Column("SERVES", lambda row: ",".join(row["datasets"]) or "-", wide=True),
    Column("FAILURE", lambda row: str(row.get("failure") or "-"), wide=True),
)


def print_control(control: dict[str, Any], output: OutputFormat) -> None:
    """The control plane and its pool for people."""
    print_text(f"\ncontrol plane: process {control['pid']}")
    if control["workers"]:
        print_rows(control["workers"], _WORKER_COLUMNS, output, name="name")
    else:
        print_text("no workers: no Dataset is applied (`fluidpy apply -f FILE`)")
    for row in control["workers"]:
        if row.get("failure"):
            print_text(f"{row['name']} is {row['state']}: {row['failure']}")


def control_status(settings: Settings) -> dict[str, Any]:
    """What the control plane says of itself; `pid` is None when none runs.

    One that says nothing leaves the rest to be shown: `failure` has the reason.
    """
    from fluidpy.client.control_client import ControlClient
    from fluidpy.errors import ControlPlaneAbsentError, ControlPlaneError

    nothing: dict[str, Any] = {"pid": None, "workers": [], "mounts": []}
    if not settings.control_socket.exists():
        return nothing
    try:
        return ControlClient(settings, deadline=ANSWER_SECONDS).status()
    except ControlPlaneAbsentError:
        return nothing
    except ControlPlaneError as error:
        return nothing | {"failure": error.message}


def _control_of(control: dict[str, Any]) -> dict[str, Any] | None:
    """The control plane in the document: null when none runs, or why it says nothing."""
    if control["pid"] is None and "failure" not in control:
        return None
    return {name: control[name] for name in ("pid", "failure") if name in control}


def _age(row: Row) -> str:
    return human_seconds(max(0.0, time.time() - float(row["startedAt"])))


def worker_status(settings: Settings) -> Message | None:
    """What the running worker says of itself; None when none runs.

    One that does not answer leaves the rest to be shown: `pid`, and as `failure` the reason.
    """
    from fluidpy.client.connection import WorkerConnection
    from fluidpy.client.start import connect, peer_of
    from fluidpy.errors import WorkerError

    probe = connect(settings)
    if probe is None:
        return None
    with probe:
        pid, _user = peer_of(probe)
    connection = WorkerConnection(settings)
    try:
        return connection.call("status", deadline=ANSWER_SECONDS)[0]
    except WorkerError as error:
        return {"pid": pid, "failure": error.message}
    finally:
        connection.close()


def worker_lines(worker: Message | None) -> list[str]:
    """The worker in a few lines for people."""
    if worker is None:
        return ["", "worker: none runs"]
    lines = ["", f"worker: process {worker['pid']}"]
    if "failure" in worker:
        lines.append(f"  {worker['failure']}")
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
