"""Where a volume's metadata lie (`metaurl`), with the password apart from it. Pure.

JuiceFS takes the password from the environment (`META_PASSWORD`), and arguments can be read by all
users of a machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "mysql",
    "postgres",
    "sqlite3",
    "badger",
    "tikv",
    "etcd",
    "fdb",
)
"""Metadata engines of JuiceFS 1.x, from its page "How to set up metadata engine"."""

_FILES: Final = ("sqlite3", "badger")
_AS_THEY_ARE: Final = ("mysql",)
"""Whose addresses JuiceFS does not take for URLs: it undoes no percent-encoding in them."""


@dataclass(frozen=True, slots=True)
class MetaAddress:
    """An address that may be shown, and the password that may not."""

    url: str
    password: str = field(default="", repr=False)

    @property
    def whole(self) -> str:
        """With the password in it, encoded where it is part of a URL: for a variable, never for an
        argument. Errors about a URL that cannot be read show part of it.
        """
        if not self.password:
            return self.url
        scheme, _, rest = self.url.partition("://")
        user, _, rest = rest.partition(":")
        password = self.password if scheme in _AS_THEY_ARE else quote(self.password, safe="")
        return f"{scheme}://{user}:{password}{rest}"

    @property
    def environment(self) -> dict[str, str]:
        """What the programs of JuiceFS need beside the address."""
        return {"META_PASSWORD": self.password} if self.password else {}


def meta_address(metaurl: str) -> MetaAddress:
    """The address of a `metaurl` as JuiceFS has it. Raises ValueError, with no secret in it.

    A file's path must be absolute: programs run elsewhere than the author of the YAML.
    """
    scheme, separator, rest = metaurl.strip().partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"metaurl does not begin with one of {', '.join(SCHEMES)} and '://'")
    if not rest or any(ord(char) < 32 for char in rest):
        raise ValueError(f"metaurl names nothing after {scheme}://")
    if scheme in _FILES:
        if not rest.startswith("/"):
            raise ValueError(f"metaurl names a relative path; write {scheme}:///DIRECTORY/FILE")
        return MetaAddress(f"{scheme}://{rest}")
    base, _, query = rest.partition("?")
    if "@" in query:
        raise ValueError("metaurl has '@' after '?'; write %40 for '@' and %3F for '?' in it")
    # A password may hold '@', a host does not.
    credentials, at, host = base.rpartition("@")
    user, colon, password = credentials.partition(":")
    shown = f"{user}{colon}{at}{host}" + rest[len(base) :]
    return MetaAddress(f"{scheme}://{shown}", password)
