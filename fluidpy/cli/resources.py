"""Kinds and names as words of a command line, the way kubectl reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fluidpy.errors import UsageError

if TYPE_CHECKING:
    from fluidpy.api.kinds import Column

DEFAULT_NAMESPACE: Final = "default"
CATEGORIES: Final = ("fluid", "all")
"""Words that stand for all of Fluid's kinds."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as commands need it; `full_name` is `dataset.data.fluid.io`, or `secret`."""

    kind: str
    plural: str
    full_name: str
    namespaced: bool
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line names: kinds, and names of objects (none: all of the kinds)."""

    kinds: tuple[Kind, ...]
    names: tuple[str, ...]


def find_kind(word: str) -> Kind:
    """The kind that a word means: kind, plural, short name, any with its group.

    Raises UsageError with the nearest word that is one.
    """
    from fluidpy.api import kinds
    from fluidpy.api.kinds import Column
    from fluidpy.api.schema_problems import suggestion

    if word.lower() in ("event", "events", "ev"):
        columns: tuple[Column, ...] = (
            Column("Last Seen", ".lastTimestamp"),
            Column("Type", ".type"),
            Column("Reason", ".reason"),
            Column("Object", ".involvedObject"),
            Column("Count", ".count", wide=True),
            Column("Message", ".message"),
        )
        return Kind("Event", "events", "event", True, columns)
    info = kinds.find_kind(word)
    if info is None:
        known = [name for one in kinds.KINDS.values() for name in (one.plural, *one.short_names)]
        raise UsageError(
            f"there is no kind {word!r}", cure=f"Perhaps: {suggestion(word.lower(), known)}"
        )
    group = info.api_version.partition("/")[0] if "/" in info.api_version else ""
    full = f"{info.kind.lower()}.{group}" if group else info.kind.lower()
    columns = info.columns or (Column("Age", ".metadata.creationTimestamp"),)
    return Kind(info.kind, info.plural, full, info.namespaced, columns)


def kind_of(document: Mapping[str, Any]) -> Kind:
    """The kind of an object."""
    return find_kind(str(document["kind"]))


def parse(words: Sequence[str], *, several: bool = True) -> list[Wanted]:
    """`KIND`, `KIND,KIND`, `KIND NAME…` or `KIND/NAME…`. Raises UsageError for anything else.

    With `several` false a name must be given, and one kind.
    """
    if not words:
        raise UsageError("no kind is named", cure="Write KIND NAME or KIND/NAME, such as dataset.")
    if any("/" in word for word in words):
        return [_pair(word) for word in words]
    kinds = tuple(kind for word in words[0].split(",") for kind in _kinds(word))
    names = tuple(dict.fromkeys(words[1:]))
    if names and len(kinds) > 1:
        raise UsageError("names are given for several kinds", cure="Write KIND/NAME KIND/NAME…")
    if not several and not names:
        raise UsageError(f"no {kinds[0].kind} is named", cure=f"Write {words[0]} NAME.")
    return [Wanted(kinds, names)]


def _pair(word: str) -> Wanted:
    kind, separator, name = word.partition("/")
    if not separator or not kind or not name or "/" in name:
        raise UsageError(f"{word!r} is no KIND/NAME", cure="Write all as KIND/NAME, or KIND NAME.")
    return Wanted((find_kind(kind),), (name,))


def _kinds(word: str) -> list[Kind]:
    if word in CATEGORIES:
        from fluidpy.api.kinds import FLUID_KINDS

        return [find_kind(name) for name in FLUID_KINDS]
    return [find_kind(word)]


def namespace_of(kind: Kind, namespace: str | None) -> str:
    """The namespace to ask in: "" for kinds of the whole cluster, `default` when none is given."""
    return (namespace or DEFAULT_NAMESPACE) if kind.namespaced else ""
