"""What the schema of a manifest cannot say: names, sections, placeholders. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fluidpy.api.metadata import is_dns1123_label
from fluidpy.api.problem import FieldPath
from fluidpy.api.schema_problems import suggestion
from fluidpy.runtime.placeholders import NAMED, PLAIN, PlaceholderSyntaxError, placeholders
from fluidpy.storage.source_check import BUILT_IN

if TYPE_CHECKING:
    from fluidpy.runtime.manifest import ConformanceSection, Manifest, MountSection

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
"""RFC 3986 §3.1, in lower case, as schemes are compared here."""
_RESERVED = ("dataset", "fluid")
SECTIONS = ("storage", "mount", "engine")


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem without its file."""

    path: FieldPath
    message: str
    cure: str
    at_key: bool = False


class _HasProtocols(Protocol):
    protocols: list[str]


def manifest_findings(manifest: Manifest) -> Iterator[Finding]:
    """Everything wrong with a manifest whose fields fit."""
    if not is_dns1123_label(manifest.name):
        yield Finding(("name",), "is no DNS label", "use lower case letters, digits and '-'")
    yield from _sections(manifest)
    yield from _options(manifest)
    for name in SECTIONS:
        section = getattr(manifest, name)
        if section is not None:
            yield from _protocols(name, section)
            if name != "mount" and not _CLASS.fullmatch(section.class_):
                cure = "write it like 'package.module:ClassName'"
                yield Finding((name, "class"), "is not MODULE:NAME", cure)
    if manifest.mount is not None:
        yield from _mount(manifest, manifest.mount)
    if manifest.conformance is not None:
        yield from _conformance(manifest, manifest.conformance)


def _sections(manifest: Manifest) -> Iterator[Finding]:
    if getattr(manifest, manifest.kind) is None:
        cure = f"add the section '{manifest.kind}:'"
        yield Finding((manifest.kind,), f"is required by kind {manifest.kind}", cure)
    for name in SECTIONS:
        if name != manifest.kind and getattr(manifest, name) is not None:
            message = f"does not belong to kind {manifest.kind}"
            yield Finding((name,), message, f"leave it out, or write 'kind: {name}'", at_key=True)


def _options(manifest: Manifest) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, option in enumerate(manifest.options):
        at: FieldPath = ("options", index)
        if option.name in seen:
            yield Finding((*at, "name"), f"'{option.name}' is there twice", "keep one of them")
        seen.add(option.name)
        if option.secret and option.default is not None:
            message = "a secret has no default: manifests are public"
            yield Finding((*at, "default"), message, "leave it out")
        elif option.required and option.default is not None:
            message = "a required option has no use for a default"
            yield Finding((*at, "default"), message, "leave out 'default' or 'required'")


def _protocols(name: str, section: _HasProtocols) -> Iterator[Finding]:
    for index, scheme in enumerate(section.protocols):
        at: FieldPath = (name, "protocols", index)
        if not _SCHEME.fullmatch(scheme):
            yield Finding(at, "is no scheme of a URL", "write it like 'starfs', without '://'")
        elif scheme in _RESERVED or (name == "storage" and scheme in BUILT_IN):
            message = f"'{scheme}' is read by fluidpy itself"
            yield Finding(at, message, "choose a scheme of your own")


def _mount(manifest: Manifest, mount: MountSection) -> Iterator[Finding]:
    if mount.command and not mount.command[0]:
        yield Finding(("mount", "command", 0), "names no program", "write the program first")
    texts: list[tuple[FieldPath, str, bool]] = [
        (("mount", field, index), text, False)
        for field in ("command", "unmount")
        for index, text in enumerate(getattr(mount, field))
    ]
    texts += [(("mount", "environment", k), v, True) for k, v in mount.environment.items()]
    secret = {option.name: option.secret for option in manifest.options}
    used: set[str] = set()
    for path, text, in_environment in texts:
        try:
            found = list(placeholders(text))
        except PlaceholderSyntaxError as error:
            yield Finding(path, str(error), "write '{{' or '}}' for a brace")
            continue
        used.update(found)
        for one in found:
            yield from _placeholder(path, one, secret, in_environment)
    if "target" not in used and mount.contract == "arguments":
        message = "the program is not told where to mount"
        yield Finding(("mount", "command"), message, "add the argument '{target}'")


def _placeholder(
    path: FieldPath, text: str, secret: Mapping[str, bool], in_environment: bool
) -> Iterator[Finding]:
    head, dot, name = text.partition(".")
    if not dot and head in PLAIN:
        return
    if not dot or head not in NAMED:
        known = [*PLAIN, *(f"{one}.NAME" for one in NAMED)]
        yield Finding(path, f"{{{text}}} is no placeholder", suggestion(text, known))
        return
    fitting = [option for option, hidden in secret.items() if hidden == (head != "options")]
    if name not in fitting:
        sort = "plain" if head == "options" else "secret"
        cure = f"declare it under 'options'; {suggestion(name, fitting)}".rstrip("; ")
        yield Finding(path, f"{{{text}}}: no {sort} option '{name}' is declared", cure)
    elif head == "secret" and not in_environment:
        message = f"{{{text}}} would show the secret to all users of the machine (ps)"
        yield Finding(path, message, f"use {{secretFile.{name}}}, or 'environment'")


def _conformance(manifest: Manifest, section: ConformanceSection) -> Iterator[Finding]:
    texts: list[tuple[FieldPath, str]] = [
        (("conformance", "mountPoint"), section.mount_point),
        *((("conformance", "options", k), v) for k, v in section.options.items()),
        *((("conformance", "server", i), v) for i, v in enumerate(section.server)),
        *((("conformance", "put", i), v) for i, v in enumerate(section.put)),
    ]
    for path, text in texts:
        known = ("directory", "port", "path") if path[1] == "put" else ("directory", "port")
        try:
            wrong = [one for one in placeholders(text) if one not in known]
        except PlaceholderSyntaxError as error:
            yield Finding(path, str(error), "write '{{' or '}}' for a brace")
            continue
        for one in wrong:
            yield Finding(path, f"{{{one}}} is no placeholder", suggestion(one, known))
    secret = {option.name: option.secret for option in manifest.options}
    for name in ("options", "secrets", "refused"):
        for option in getattr(section, name):
            fitting = [one for one, hidden in secret.items() if hidden == (name != "options")]
            if option not in fitting:
                sort = "plain" if name == "options" else "secret"
                cure = f"declare it under 'options'; {suggestion(option, fitting)}".rstrip("; ")
                message = f"no {sort} option '{option}' is declared"
                yield Finding(("conformance", name, option), message, cure, at_key=True)
