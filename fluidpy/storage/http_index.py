"""Directory indexes of Apache and nginx: which files and folders a page links to; pure."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urljoin, urlsplit


class Link(NamedTuple):
    """A child of the folder: its decoded name, whether it is a folder, its encoded path."""

    name: str
    is_folder: bool
    raw_path: str


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


def links_below(page: str, url: str) -> list[Link]:
    """The links of an index to direct children of the folder at `url`, each once.

    Left out: other hosts, parents, deeper paths, links with a query (Apache sorts columns by
    those), the folder itself. A server that lists without such links has no index for us.
    """
    parser = _Anchors()
    parser.feed(page)
    parser.close()
    base = urlsplit(url)
    found: dict[str, Link] = {}
    for target in parser.targets:
        # `urljoin` takes what follows a semicolon for parameters, and drops a semicolon at the end.
        parts = urlsplit(urljoin(url, target.replace(";", "%3B")))
        same = (parts.scheme, parts.netloc) == (base.scheme, base.netloc)
        if not same or parts.query or not parts.path.startswith(base.path):
            continue
        below = parts.path[len(base.path) :]
        name, slash, rest = below.partition("/")
        if not name or rest or name in (".", ".."):
            continue
        decoded = unquote_to_bytes(name).decode("utf-8", "surrogateescape")
        if "/" in decoded or "\0" in decoded:
            continue
        # A folder beats a file of the same name.
        if decoded not in found or slash:
            found[decoded] = Link(decoded, bool(slash), parts.path)
    return list(found.values())
