"""Objects as kubectl prints them: tables with Fluid's columns, ages, descriptions. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fluidpy.cli.printers import table_lines
from fluidpy.cli.resources import Kind
from fluidpy.control.moments import age, seconds_of

_WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z]|$)|[A-Z]?[a-z0-9]+|[A-Z]+|[^A-Za-z0-9]+")
_NONE: Final = "<none>"
_HIDDEN_METADATA: Final = ("name", "namespace", "labels", "annotations", "managedFields")


def rows(
    kind: Kind,
    documents: Sequence[Mapping[str, Any]],
    now: float,
    *,
    wide: bool = False,
    namespaces: bool = False,
    full_names: bool = False,
    headings: bool = True,
) -> list[str]:
    """A table of objects of one kind; `now` in epoch seconds.

    `namespaces` adds the column in front, `full_names` writes `dataset.data.fluid.io/NAME`.
    """
    columns = [column for column in kind.columns if wide or not column.wide]
    if kind.plural != "events":
        titles = ["NAME", *(column.title.upper() for column in columns)]
    else:
        titles = [column.title.upper() for column in columns]
    lines: list[list[str]] = []
    for document in documents:
        name = document["metadata"]["name"]
        cells = [] if kind.plural == "events" else [f"{kind.full_name}/{name}" * full_names or name]
        cells += [_cell(document, column.json_path, now) for column in columns]
        if namespaces:
            cells.insert(0, document["metadata"].get("namespace", ""))
        lines.append(cells)
    table = table_lines(["NAMESPACE", *titles] if namespaces else titles, lines)
    return table if headings else table[1:]


def value_at(document: Mapping[str, Any], json_path: str) -> Any:
    """What lies at `.status.phase`; None where there is nothing."""
    value: Any = document
    for name in json_path.strip(".").split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def _cell(document: Mapping[str, Any], json_path: str, now: float) -> str:
    value = value_at(document, json_path)
    if value is None:
        return ""
    if json_path == ".involvedObject":
        return f"{str(value['kind']).lower()}/{value['name']}"
    if json_path.endswith(("Timestamp", ".lastTimestamp")):
        return age(now - seconds_of(str(value)))
    return " ".join(str(value).split())


def description(
    document: Mapping[str, Any], events: Sequence[Mapping[str, Any]], now: float
) -> Iterator[str]:
    """An object in words, as `kubectl describe` has objects of custom kinds, with its events."""
    metadata = document["metadata"]
    head = {
        "Name": metadata["name"],
        "Namespace": metadata.get("namespace", ""),
        "Labels": _pairs(metadata.get("labels", {})),
        "Annotations": _pairs(metadata.get("annotations", {})),
        "API Version": document.get("apiVersion", ""),
        "Kind": document.get("kind", ""),
    }
    width = max(map(len, head)) + 1
    for title, value in head.items():
        first, *more = value if isinstance(value, list) else [value]
        yield f"{title + ':':<{width}}  {first}".rstrip()
        yield from (f"{'':<{width}}  {line}" for line in more)
    rest = {name: value for name, value in metadata.items() if name not in _HIDDEN_METADATA}
    yield from _section("Metadata", rest, 0)
    for name, value in document.items():
        if name not in ("metadata", "apiVersion", "kind"):
            yield from _section(_title(name), value, 0)
    yield from _event_lines(events, now)


def _pairs(mapping: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in mapping.items()] or [_NONE]


def _title(name: str) -> str:
    """`mountPoint` as `Mount Point`; a name with other characters stays as it is."""
    if not name.isalnum():
        return name
    words = _WORDS.findall(name)
    return " ".join(word if word.isupper() else word[:1].upper() + word[1:] for word in words)


def _section(title: str, value: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, Mapping):
        yield f"{indent}{title}:"
        yield from _fields(value, depth + 1)
    elif isinstance(value, list):
        yield f"{indent}{title}:"
        for item in value:
            if isinstance(item, Mapping):
                yield from _fields(item, depth + 1)
            else:
                yield f"{indent}  {_plain(item)}"
    else:
        yield f"{indent}{title}:  {_plain(value)}".rstrip()


def _fields(mapping: Mapping[str, Any], depth: int) -> Iterator[str]:
    titles = {name: _title(name) for name in sorted(mapping)}
    plain = [len(titles[name]) for name in titles if not isinstance(mapping[name], Mapping | list)]
    width = max(plain, default=0) + 1
    for name, title in titles.items():
        value = mapping[name]
        if isinstance(value, Mapping | list):
            yield from _section(title, value, depth)
        else:
            yield f"{'  ' * depth}{title + ':':<{width}}  {_plain(value)}".rstrip()


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _event_lines(events: Sequence[Mapping[str, Any]], now: float) -> Iterator[str]:
    if not events:
        yield f"Events:  {_NONE}"
        return
    yield "Events:"
    lines = [["----", "------", "----", "-------"]]
    for event in events:
        last = age(now - seconds_of(str(event["lastTimestamp"])))
        count = int(event.get("count", 1))
        if count > 1:
            first = age(now - seconds_of(str(event["firstTimestamp"])))
            last = f"{last} (x{count} over {first})"
        message = " ".join(str(event["message"]).split())
        lines.append([event["type"], event["reason"], last, message])
    for line in table_lines(["Type", "Reason", "Age", "Message"], lines):
        yield f"  {line}"
