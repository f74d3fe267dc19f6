"""`delete` and `scale`: ends what was declared, and changes how many workers serve it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fluidpy.cli.apply import kind_of_loaded, load_files
from fluidpy.cli.get import WordsArgument, list_objects
from fluidpy.cli.options import NamespaceOption
from fluidpy.cli.printers import print_text, talk
from fluidpy.cli.resources import Kind, namespace_of, parse
from fluidpy.errors import FluidpyError, UsageError
from fluidpy.settings import load_settings

if TYPE_CHECKING:
    from fluidpy.client.control_client import ControlClient

LOOK_SECONDS: Final = 0.1
"""Time between two looks whether an object is gone."""

SAY_AFTER_SECONDS: Final = 2.0
"""How long a deletion may take before it is told what it waits for."""


def delete(
    words: WordsArgument = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", metavar="FILE", help="Delete the objects of a file."),
    ] = None,
    namespace: NamespaceOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="All objects of the kind in the namespace.")
    ] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there is no failure.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until it is gone, the default.")
    ] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait; 0: for ever.")
    ] = 0.0,
) -> None:
    """Delete objects. A Dataset in use goes once nobody uses it; it is told who does. Examples:

    fluidpy delete dataset imagenet

    fluidpy delete -f imagenet.yaml --no-wait
    """
    from fluidpy.client.control_client import ControlClient
    from fluidpy.errors import ObjectNotFoundError

    client = ControlClient(load_settings())
    limit = time.monotonic() + timeout if timeout else float("inf")
    deleted: list[tuple[Kind, str, dict[str, Any]]] = []
    failed: ObjectNotFoundError | None = None
    for kind, place, name in _targets(client, words or (), files or (), namespace, every):
        try:
            document = client.delete(kind.plural, place, name)
        except ObjectNotFoundError as error:
            if not ignore_not_found:
                if failed is not None:
                    talk(f"fluidpy: {failed.message}")
                failed = error
            continue
        print_text(f'{kind.full_name} "{name}" deleted')
        deleted.append((kind, place, document))
    if wait:
        for kind, place, document in deleted:
            wait_until_gone(client, kind, place, document, limit)
    if failed is not None:
        raise failed


def _targets(
    client: ControlClient,
    words: Sequence[str],
    files: Sequence[Path],
    namespace: str | None,
    every: bool,
) -> list[tuple[Kind, str, str]]:
    if files:
        if words:
            raise UsageError("both names and files are given", cure="Give one of them.")
        loaded = reversed(load_files(files, namespace))
        kinds = [(kind_of_loaded(one), one.object) for one in loaded]
        return [(kind, namespace_of(kind, one.namespace), one.name) for kind, one in kinds]
    found: list[tuple[Kind, str, str]] = []
    for one in parse(words):
        for kind in one.kinds:
            names = list(one.names)
            if every and not names:
                items = list_objects(client, kind, namespace, False)["items"]
                names = [item["metadata"]["name"] for item in items]
            elif not names:
                raise UsageError(f"no {kind.kind} is named", cure="Give a name, or --all.")
            found += [(kind, namespace_of(kind, namespace), name) for name in names]
    return found


def wait_until_gone(
    client: ControlClient, kind: Kind, place: str, document: dict[str, Any], limit: float
) -> None:
    """Waits until an object, or another of its name, is gone; says what that waits for.

    `limit` is a moment of the monotonic clock. Raises FluidpyError when it passes.
    """
    from fluidpy.errors import ObjectNotFoundError

    name, uid = document["metadata"]["name"], document["metadata"].get("uid")
    say_at, said = time.monotonic() + SAY_AFTER_SECONDS, ""
    while True:
        try:
            there = client.get(kind.plural, place, name)
        except ObjectNotFoundError:
            return
        if there["metadata"].get("uid") != uid:
            return
        why = _waits_for(there)
        if time.monotonic() >= limit:
            raise FluidpyError(
                f"{kind.kind} {name} is not gone within the time-out: {why}",
                cure="It goes as soon as that is over; `fluidpy describe` says what it waits for.",
            )
        if time.monotonic() >= say_at and why != said:
            talk(f"{kind.kind} {name}: {why}")
            said = why
        time.sleep(LOOK_SECONDS)


def _waits_for(document: dict[str, Any]) -> str:
    from fluidpy.control.dataset_status import IN_USE

    for condition in document.get("status", {}).get("conditions", ()):
        if condition.get("type") == IN_USE:
            return str(condition.get("message"))
    return "the control plane is ending what belongs to it"


def scale(
    words: WordsArgument = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", metavar="N", min=0, help="How many workers.")
    ] = None,
    drain: Annotated[
        list[str] | None,
        typer.Option("--drain", metavar="WORKER", help="The worker that is to leave; repeat it."),
    ] = None,
    namespace: NamespaceOption = None,
) -> None:
    """Change how many workers serve a Dataset, while it is read. Names its runtime or itself.

    A worker that leaves hands over what it has first. Examples:

    fluidpy scale dataset imagenet --replicas 4

    fluidpy scale cacheruntime/imagenet --replicas 3 --drain worker-1
    """
    from fluidpy.client.control_client import ControlClient

    if replicas is None:
        raise UsageError("--replicas is not given", cure="Give --replicas N.")
    client = ControlClient(load_settings())
    for one in parse(words or (), several=False):
        (kind,) = one.kinds
        for name in one.names:
            place = namespace_of(kind, namespace)
            client.scale(kind.plural, place, name, replicas, drain or ())
            print_text(f"{kind.full_name}/{name} scaled")
