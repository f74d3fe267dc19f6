"""YAML text to plain values with the position of each, reporting what Kubernetes would not take.

PyYAML composes the nodes; turning them into values is done here, since PyYAML's own constructor
keeps the last of duplicate keys silently, loses positions, and has no bound on aliases. The scalars
are those of the YAML reader of kubectl: booleans of YAML 1.1 (`yes`, `on`), octal `0644`, no dates
and no sexagesimal numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from fluidpy.api.problem import FieldPath, Positions, Problem, format_path

MAX_DEPTH = 100
"""Levels of nesting; Kubernetes' own objects stay below 30."""
MAX_ALIASED_NODES = 10_000
"""Nodes that aliases may add to a document; more is a decompression bomb."""

_TAG = "tag:yaml.org,2002:"
_DOCUMENT_START = re.compile(r"^---(?=[ \t\r\n]|$)", re.MULTILINE)
_NOTHING_BUT_COMMENTS = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?(?:\n|\Z))*")
_DIRECTIVES = re.compile(r"(?:(?:%[^\n]*|[ \t]*(?:#[^\n]*)?)\r?(?:\n|\Z))*")
_FROM_THE_TEXT = re.compile(r" '(?!<|\\)[^']{2,}'")
"""Words of the file in PyYAML's messages, such as an alias that is an unquoted password."""
_CURES = (
    ("\\t", "indent with spaces; YAML allows no tabs there"),
    (
        "could not find expected ':'",
        "put a space after the colon, and quote texts with ': ' in them",
    ),
    ("mapping values are not allowed", "check the indentation, and quote texts with ': ' in them"),
    ("undefined alias", "define it before with '&', or quote a text that starts with '*'"),
    ("block mapping", "check the indentation; keys of one mapping start in one column"),
    ("block collection", "check the indentation; items of one list start in one column"),
    ("special characters", "remove the character, or write it as an escape in double quotes"),
    ("cannot start any token", "quote the text"),
)


class _Composer(yaml.SafeLoader):
    """PyYAML's composer with kubectl's scalars and a bound on nesting."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # the name and form PyYAML reads

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # untyped in the stubs
                raise yaml.composer.ComposerError(
                    None, None, f"nested more than {MAX_DEPTH} levels deep", mark
                )
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


_BOOLEANS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
_SCALARS = tuple(
    (name, re.compile(rf"^(?:{pattern})\Z"))
    for name, pattern in (
        ("bool", "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"),
        ("int", r"[-+]?(?:0|[1-9][0-9]{0,40}|0o?[0-7]{1,40}|0x[0-9a-fA-F]{1,40}|0b[01]{1,64})"),
        ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?"),
        ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
        ("null", "~|null|Null|NULL|"),
        ("merge", "<<"),
    )
)
"""What an unquoted scalar is by its form; a text if by none."""
for _name, _form in _SCALARS:
    _Composer.add_implicit_resolver(_TAG + _name, _form, None)


def reads_as_text(scalar: str) -> bool:
    """Whether an unquoted scalar is a text, not a number, boolean or nothing."""
    return not any(form.match(scalar) for _, form in _SCALARS)


@dataclass(slots=True)
class Document:
    """One document of a file: its value, where things stand, and what could not be read."""

    value: Any
    positions: Positions
    damaged: list[FieldPath] = field(default_factory=list)
    """Paths whose values could not be read and are missing from `value`."""


def read_documents(text: str, file: str, problems: list[Problem]) -> list[Document]:
    """Every document of `text` that can be read; what cannot is added to `problems`.

    A syntax error ends the document it is in; the next one after `---` is read all the same.
    """
    documents: list[Document] = []
    for first_line, piece in _pieces(text):
        try:
            composer = _Composer(piece)
            while composer.check_node():
                node = composer.get_node()
                if node is not None and not _is_empty(node):
                    documents.append(_NodeReader(file, first_line, problems).document(node))
        except yaml.YAMLError as error:
            problems.append(_syntax_problem(error, file, first_line, piece))
    return documents


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The text cut at `---` lines, with the number of lines before each piece."""
    starts = [match.start() for match in _DOCUMENT_START.finditer(text)]
    if not starts or starts[0] > 0:
        starts.insert(0, 0)
    if len(starts) > 1 and _DIRECTIVES.fullmatch(text[: starts[1]]) and text[:3] != "---":
        starts.pop(1)
    line = 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        piece = text[start:end]
        if not _NOTHING_BUT_COMMENTS.fullmatch(piece):
            yield line, piece
        line += piece.count("\n")


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def _syntax_problem(error: yaml.YAMLError, file: str, first_line: int, piece: str) -> Problem:
    """A syntax error without PyYAML's snippet of the text, which may hold a secret."""
    if isinstance(error, yaml.reader.ReaderError):
        before = piece[: error.position]
        line, column = before.count("\n"), len(before) - (before.rfind("\n") + 1)
        message = f"character U+{error.character:04X}: {error.reason}"
    else:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line, mark.column) if mark else (0, 0)
        parts = (getattr(error, "context", None), getattr(error, "problem", None))
        message = ", ".join(part for part in parts if part) or "cannot be read"
        message = _FROM_THE_TEXT.sub("", message)
    cure = next((cure for sign, cure in _CURES if sign in message), "mend the YAML there")
    return Problem(file, first_line + line + 1, column + 1, "", f"not YAML: {message}", cure)


class _NodeReader:
    """Turns the nodes of one document into values."""

    def __init__(self, file: str, first_line: int, problems: list[Problem]) -> None:
        self._file = file
        self._first_line = first_line
        self._problems = problems
        self._values: dict[FieldPath, tuple[int, int]] = {}
        self._keys: dict[FieldPath, tuple[int, int]] = {}
        self._damaged: list[FieldPath] = []
        self._seen: set[int] = set()
        self._open: set[int] = set()
        self._aliased = 0
        self._overflow = False

    def document(self, node: yaml.Node) -> Document:
        """The value of a document's root."""
        value = self._read(node, ())
        return Document(value, Positions(self._values, self._keys), self._damaged)

    def _place(self, node: yaml.Node) -> tuple[int, int]:
        return self._first_line + node.start_mark.line + 1, node.start_mark.column + 1

    def _refuse(self, node: yaml.Node, path: FieldPath, message: str, cure: str) -> None:
        line, column = self._place(node)
        self._problems.append(Problem(self._file, line, column, format_path(path), message, cure))
        self._damaged.append(path)

    def _may_expand(self, node: yaml.Node, path: FieldPath) -> bool:
        """Whether the node may be read (again): no bomb, no loop, not too deep."""
        if id(node) in self._seen:
            self._aliased += 1
        self._seen.add(id(node))
        if id(node) in self._open:
            self._refuse(node, path, "the alias contains itself", "write the value out")
        elif self._overflow or len(path) > MAX_DEPTH:
            self._damaged.append(path)
        elif self._aliased > MAX_ALIASED_NODES:
            self._overflow = True
            self._refuse(
                node, path, f"aliases expand to more than {MAX_ALIASED_NODES} values",
                "write the values out",
            )  # fmt: skip
        else:
            return True
        return False

    def _read(self, node: yaml.Node, path: FieldPath) -> Any:
        self._values[path] = self._place(node)
        if not self._may_expand(node, path):
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return [self._read(item, (*path, i)) for i, item in enumerate(node.value)]
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            return self._bad_tag(node, path)
        finally:
            self._open.discard(id(node))

    def _bad_tag(self, node: yaml.Node, path: FieldPath) -> None:
        standard = node.tag.startswith(_TAG)
        tag = node.tag.replace(_TAG, "the tag !!") if standard else "a tag of your own"
        cure = "write a plain value, and quote a text that starts with '!'"
        self._refuse(node, path, f"{tag} is not understood", cure)

    def _scalar(self, node: yaml.ScalarNode, path: FieldPath) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        try:
            if kind in ("str", "merge"):
                return text
            if kind == "null":
                return None
            if kind == "bool":
                return _BOOLEANS[text.lower()]
            if kind == "int":
                return _integer(text)
            if kind == "float":
                return self._float(node, path)
        except (ValueError, KeyError):
            self._refuse(node, path, f"the value does not fit the tag !!{kind}", "remove the tag")
            return None
        return self._bad_tag(node, path)

    def _float(self, node: yaml.ScalarNode, path: FieldPath) -> float | None:
        if node.value.lstrip("+-").lower() in (".inf", ".nan"):
            self._refuse(node, path, f"{node.value} is not a number", "write a finite number")
            return None
        return float(node.value)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                self._merge(value_node, path, merged)
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in first:
                message = f"the key is given twice, first in line {first[key]}"
                self._refuse(key_node, (*path, key), message, "keep one of them")
                self._damaged.pop()
                continue
            first[key] = self._place(key_node)[0]
            self._keys[(*path, key)] = self._place(key_node)
            own[key] = self._read(value_node, (*path, key))
        return {**{k: v for k, v in merged.items() if k not in own}, **own}

    def _merge(self, node: yaml.Node, path: FieldPath, merged: dict[str, Any]) -> None:
        """Take the fields of `<<`; where several mappings are merged, the first one wins."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for item in nodes:
            if not isinstance(item, yaml.MappingNode):
                cure = "give an alias of a mapping, or a list of them"
                self._refuse(item, (*path, "<<"), "only mappings can be merged", cure)
                continue
            if not self._may_expand(item, (*path, "<<")):
                continue
            self._open.add(id(item))
            for key, value in self._mapping(item, path).items():
                merged.setdefault(key, value)
            self._open.discard(id(item))

    def _key(self, node: yaml.Node, path: FieldPath) -> str | None:
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode) and kind in ("str", "int", "float"):
            return str(node.value)
        line, column = self._place(node)
        if kind == "bool":
            message = f"the key {node.value} is read as a boolean"
        else:
            message = "a key must be a text"
        self._problems.append(
            Problem(self._file, line, column, format_path(path), message, "quote the key")
        )
        return None


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    sign = -1 if text.startswith("-") else 1
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)
