"""`get` and `describe`: what was declared, and what is seen of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fluidpy.cli.apply import as_list
from fluidpy.cli.options import NamespaceOption, OutputFormat, OutputOption
from fluidpy.cli.printers import print_json, print_text, print_yaml, talk
from fluidpy.cli.resource_tables import description, rows
from fluidpy.cli.resources import DEFAULT_NAMESPACE, Kind, Wanted, namespace_of, parse
from fluidpy.errors import UsageError
from fluidpy.settings import load_settings

if TYPE_CHECKING:
    from fluidpy.client.control_client import ControlClient

Document = dict[str, Any]

WATCH_SECONDS: Final = 300.0
"""How long one request of a watch goes on; then the next one takes over."""

AllNamespacesOption = Annotated[
    bool, typer.Option("-A", "--all-namespaces", help="Objects of all namespaces.")
]
WordsArgument = Annotated[list[str] | None, typer.Argument(hidden=True)]


def get(
    words: WordsArgument = None,
    output: OutputOption = OutputFormat.TABLE,
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Go on and print every change.")
    ] = False,
    namespace: NamespaceOption = None,
    all_namespaces: AllNamespacesOption = False,
    selector: Annotated[
        str, typer.Option("-l", "--selector", metavar="K=V", help="Only objects with the labels.")
    ] = "",
    no_headers: Annotated[
        bool, typer.Option("--no-headers", help="A table without its headings.")
    ] = False,
) -> None:
    """Print objects of the control plane in Fluid's columns; `fluid` is every kind. Examples:

    fluidpy get dataset

    fluidpy get dataset imagenet -o yaml

    fluidpy get dataload -A -w
    """
    client = _client()
    labels = _labels(selector)
    found: list[tuple[Kind, list[Document]]] = []
    wanted = parse(words or ())
    if watch and (len(wanted) > 1 or len(wanted[0].kinds) > 1 or len(wanted[0].names) > 1):
        raise UsageError("a watch is of one kind", cure="Watch one KIND, or one KIND NAME.")
    for one in wanted:
        found += _find(client, one, namespace, all_namespaces, labels)
    printer = _Printer(output, all_namespaces, headings=not no_headers)
    printer.print(found, one_by_name=len(wanted) == 1 and len(wanted[0].names) == 1)
    if watch:
        _watch(client, wanted[0], namespace, all_namespaces, labels, printer)
    elif not any(documents for _, documents in found) and output is not OutputFormat.JSON:
        where = "" if all_namespaces else f" in {namespace or DEFAULT_NAMESPACE} namespace"
        talk(f"No resources found{where}.")


def describe(
    words: WordsArgument = None,
    namespace: NamespaceOption = None,
    all_namespaces: AllNamespacesOption = False,
) -> None:
    """Say all of an object, with its conditions and what happened to it.

    Example: fluidpy describe dataset imagenet
    """
    client, first = _client(), True
    for one in parse(words or ()):
        for kind, documents in _find(client, one, namespace, all_namespaces, {}):
            for document in documents:
                if not first:
                    print_text("\n")
                first = False
                for line in description(document, _events(client, kind, document), time.time()):
                    print_text(line)
    if first:
        talk(f"No resources found in {namespace or DEFAULT_NAMESPACE} namespace.")


def _client() -> ControlClient:
    from fluidpy.client.control_client import ControlClient

    return ControlClient(load_settings())


def _labels(selector: str) -> dict[str, str]:
    pairs = [pair for pair in selector.split(",") if pair]
    if any("=" not in pair.strip("!=") for pair in pairs):
        raise UsageError(f"-l {selector} is not KEY=VALUE", cure="Write -l team=vision,stage=new")
    found = (pair.replace("==", "=").partition("=") for pair in pairs)
    return {name.strip(): value.strip() for name, _, value in found}


def _find(
    client: ControlClient,
    wanted: Wanted,
    namespace: str | None,
    everywhere: bool,
    labels: Mapping[str, str],
) -> list[tuple[Kind, list[Document]]]:
    """The objects, in the order asked for. Raises ObjectNotFoundError for a name that is not."""
    found = []
    for kind in wanted.kinds:
        if wanted.names:
            if everywhere and kind.namespaced:
                raise UsageError("a name is given with -A", cure="Name its namespace with -n.")
            place = namespace_of(kind, namespace)
            documents = [client.get(kind.plural, place, name) for name in wanted.names]
        else:
            documents = list_objects(client, kind, namespace, everywhere)["items"]
        found.append((kind, [one for one in documents if _has(one, labels)]))
    return found


def list_objects(
    client: ControlClient, kind: Kind, namespace: str | None, everywhere: bool
) -> Document:
    """The list of a kind's objects in a namespace, or in all."""
    place = None if everywhere or not kind.namespaced else namespace or DEFAULT_NAMESPACE
    return client.list_objects(kind.plural, place)


def _has(document: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    own = document["metadata"].get("labels", {})
    return all(own.get(name) == value for name, value in labels.items())


def _events(
    client: ControlClient, kind: Kind, document: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    metadata = document["metadata"]
    place = metadata.get("namespace", DEFAULT_NAMESPACE) if kind.namespaced else None
    events = client.list_objects("events", place)["items"]
    own = [
        event
        for event in events
        if event["involvedObject"].get("kind") == kind.kind
        and event["involvedObject"].get("name") == metadata["name"]
        and event["involvedObject"].get("uid") in ("", None, metadata.get("uid"))
    ]
    return sorted(own, key=lambda event: str(event["lastTimestamp"]))


class _Printer:
    """Prints objects as they are found, and again as they change."""

    def __init__(self, output: OutputFormat, namespaces: bool, *, headings: bool) -> None:
        self._output = output
        self._namespaces = namespaces
        self._headings = headings

    def print(
        self, found: Sequence[tuple[Kind, list[Document]]], *, one_by_name: bool = False
    ) -> None:
        """Objects by kind; `one_by_name`: a single one was asked for, and is no list."""
        if self._output in (OutputFormat.JSON, OutputFormat.YAML):
            documents = [document for _, some in found for document in some]
            value = documents[0] if one_by_name and len(documents) == 1 else as_list(documents)
            (print_json if self._output is OutputFormat.JSON else print_yaml)(value)
            return
        full = [(kind, documents) for kind, documents in found if documents]
        for number, (kind, documents) in enumerate(full):
            if number and self._output is not OutputFormat.NAME and self._headings:
                print_text("")
            self._table(kind, documents, full_names=len(found) > 1, headings=self._headings)

    def change(self, kind: Kind, document: Document) -> None:
        """One object that changed."""
        if self._output is OutputFormat.JSON:
            print_json(document)
        elif self._output is OutputFormat.YAML:
            print_text("---")
            print_yaml(document)
        else:
            self._table(kind, [document], full_names=False, headings=False)

    def _table(
        self, kind: Kind, documents: Sequence[Document], *, full_names: bool, headings: bool
    ) -> None:
        if self._output is OutputFormat.NAME:
            for document in documents:
                print_text(f"{kind.full_name}/{document['metadata']['name']}")
            return
        for line in rows(
            kind,
            documents,
            time.time(),
            wide=self._output is OutputFormat.WIDE,
            namespaces=self._namespaces and kind.namespaced,
            full_names=full_names,
            headings=headings,
        ):
            print_text(line)


def _watch(
    client: ControlClient,
    wanted: Wanted,
    namespace: str | None,
    everywhere: bool,
    labels: Mapping[str, str],
    printer: _Printer,
) -> None:
    """Prints every change until interrupted; what was missed meanwhile is printed as it is."""
    (kind,) = wanted.kinds
    for document in changes(client, kind, namespace, everywhere):
        named = not wanted.names or document["metadata"]["name"] in wanted.names
        if named and _has(document, labels):
            printer.change(kind, document)


def changes(
    client: ControlClient, kind: Kind, namespace: str | None, everywhere: bool
) -> Iterator[Document]:
    """Every object that changes from now on, for ever."""
    from fluidpy.errors import WatchExpiredError

    place = None if everywhere or not kind.namespaced else namespace or DEFAULT_NAMESPACE
    version = str(client.list_objects(kind.plural, place)["metadata"]["resourceVersion"])
    while True:
        try:
            for change in client.watch(kind.plural, place, version, seconds=WATCH_SECONDS):
                document = change["object"]
                version = str(document["metadata"]["resourceVersion"])
                yield document
        except WatchExpiredError:
            listed = client.list_objects(kind.plural, place)
            version = str(listed["metadata"]["resourceVersion"])
            yield from listed["items"]
