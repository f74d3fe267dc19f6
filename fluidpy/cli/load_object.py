"""`load NAME` with a control plane: a DataLoad is declared, and looked at until it has ended."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer

from fluidpy.cli.options import OutputFormat
from fluidpy.cli.printers import counted, human_bytes, print_json, print_text, print_yaml, talk
from fluidpy.cli.progress import TransferProgress
from fluidpy.errors import ControlPlaneError, ObjectNotFoundError

if TYPE_CHECKING:
    from fluidpy.client.control_client import ControlClient
    from fluidpy.settings import Settings

LOOK_SECONDS: Final = 0.25
"""Time between two looks at a load; the control plane notes progress about once a second."""

KEPT_SECONDS: Final = 24 * 3600
"""How long a DataLoad that this command declared is kept after its end."""

METADATA_ONLY: Final = "loadMetadataOnly"
"""The option by which a DataLoad lists names and sizes only (`control.data_load` reads it)."""

_ENDED: Final = ("Complete", "Failed")
_NAME_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' letters for names it completes: none that make words or look alike."""


def declaring_client(settings: Settings, namespace: str, name: str) -> ControlClient | None:
    """The control plane, if one runs and knows the Dataset; else None."""
    from fluidpy.client.control_client import ControlClient
    from fluidpy.errors import ControlPlaneAbsentError

    client = ControlClient(settings)
    try:
        client.get("datasets", namespace, name)
    except (ControlPlaneAbsentError, ObjectNotFoundError):
        return None
    return client


def load_declared(
    client: ControlClient, order: Mapping[str, Any], *, wait: bool, output: OutputFormat
) -> None:
    """Declares a DataLoad and waits for its end, unless told not to.

    Raises typer.Exit(1) when something could not be loaded.
    """
    namespace = str(order["metadata"]["namespace"])
    created = client.create("dataloads", namespace, order)
    load = str(created["metadata"]["name"])
    if not wait:
        print_text(f"dataload.data.fluid.io/{load} created")
        return
    metadata = METADATA_ONLY in order["spec"].get("options", {})
    begin = time.monotonic()
    with TransferProgress("listing" if metadata else "loading") as bar:
        try:
            ended = _wait(client, namespace, load, bar)
        except KeyboardInterrupt:
            talk(f"the load goes on: fluidpy get dataload {load} -n {namespace} -w")
            raise
    _report(ended, bar.summary(time.monotonic() - begin), output, metadata)


def data_load(
    namespace: str, name: str, paths: Sequence[str], *, replicas: int, metadata: bool
) -> dict[str, Any]:
    """The DataLoad that the command line stands for, with a name that nobody has."""
    suffix = "".join(secrets.choice(_NAME_LETTERS) for _ in range(5))
    targets = [{"path": f"/{path.lstrip('/')}", "replicas": replicas} for path in paths]
    spec: dict[str, Any] = {
        "dataset": {"name": name, "namespace": namespace},
        "target": targets,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
    }
    if metadata:
        spec |= {"loadMetadata": True, "options": {METADATA_ONLY: "true"}}
    return {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "DataLoad",
        "metadata": {"name": f"{name}-{suffix}", "namespace": namespace},
        "spec": spec,
    }


def _wait(
    client: ControlClient, namespace: str, load: str, bar: TransferProgress
) -> Mapping[str, Any]:
    """The status of the load at its end. Raises ControlPlaneError when somebody deleted it."""
    said = ""
    while True:
        try:
            document = client.get("dataloads", namespace, load)
        except ObjectNotFoundError as error:
            raise ControlPlaneError(
                f"the DataLoad {load} was deleted before its end",
                cure="Run the command again: what is cached already is not fetched again.",
            ) from error
        status: dict[str, Any] = document.get("status", {})
        progress = status.get("progress", {})
        bar.update(
            files=progress.get("filesTotal", 0),
            bytes=progress.get("bytesTotal", 0),
            done_files=progress.get("files", 0),
            done_bytes=progress.get("bytes", 0),
            failed=progress.get("failed", 0),
        )
        if status.get("phase") in _ENDED:
            return status
        if status.get("phase") == "Pending" and not said:
            said = f"the load waits for its Dataset: fluidpy describe dataload {load}"
            talk(said)
        time.sleep(LOOK_SECONDS)


def _report(status: Mapping[str, Any], summary: str, output: OutputFormat, metadata: bool) -> None:
    progress = status.get("progress", {})
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        (print_json if output is OutputFormat.JSON else print_yaml)(dict(status))
    elif metadata:
        talk(f"{counted(int(progress.get('filesTotal', 0)), 'file')} listed, "
             f"{human_bytes(progress.get('bytesTotal', 0))}")  # fmt: skip
    else:
        talk(summary)
    if status["phase"] == "Complete":
        return
    for failure in progress.get("failures", ()):
        talk(f"not read: {failure['path']}: {failure['message']}")
    conditions: list[dict[str, Any]] = status.get("conditions") or [{}]
    why = conditions[0].get("message", "the load failed")
    talk(f"fluidpy: {why}")
    talk("cure: mend what the lines above say, then run the same command again")
    raise typer.Exit(1)
