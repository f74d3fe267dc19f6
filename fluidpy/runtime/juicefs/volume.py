"""The JuiceFS volume that a Dataset and its JuiceFSRuntime declare. Pure.

As Fluid has it: the first mount counts, its `mountPoint` names a folder of the volume, its name is
the volume's. A `metaurl` makes it the community edition, whose volume is made if it is not there;
without one it is the enterprise edition, and the name is that of the console.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fluidpy.api.quantity import parse_quantity
from fluidpy.api.runtimes.juicefs import JuiceFSRuntime
from fluidpy.errors import ValidationError
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.juicefs.meta_address import MetaAddress, meta_address

SCHEME: Final = "juicefs"

GIB: Final = 2**30
"""`juicefs quota` counts in these."""

_SECRETS: Final[Mapping[str, str]] = {"access-key": "ACCESS_KEY", "secret-key": "SECRET_KEY"}
"""encryptOptions, and the variables in which `juicefs format` takes them."""

_HIDDEN: Final = (*_SECRETS, "access-key2", "secret-key2", "session-token", "token", "password")
_OURS: Final = frozenset(
    ("background", "d", "force", "hide-internal", "log", "no-syslog", "subdir", "update-fstab")
)
"""Options of `juicefs mount` that whoever supervises it decides."""
_OPTION = re.compile(r"[a-z][a-z0-9_-]*")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""A volume's name: `juicefs format` refuses others."""

Options = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume as it is to be mounted; `repr` shows no secret."""

    name: str
    path: str
    """Where it lies in the Dataset."""
    subdirectory: str = "/"
    """The folder of the volume that is shown."""
    meta: MetaAddress | None = None
    """None for the enterprise edition."""
    storage: str = ""
    bucket: str = ""
    format_options: Options = ()
    mount_options: Options = ()
    quota_gib: int = 0
    """Largest size of the shown folder in GiB; 0 for none."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables with the keys of the object store."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that the runtime declares."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must not be shown."""
        password = self.meta.password if self.meta is not None else ""
        return tuple(value for value in (*self.keys.values(), password) if value)


class _Reader:
    """Reads one volume; what is wrong goes to `problems`, all of it."""

    def __init__(self, mount: MountDefinition, runtime: JuiceFSRuntime | None) -> None:
        self.problems: list[str] = []
        self._options = dict(mount.source.options)
        self._secrets = dict(mount.source.secrets)
        self._mount = mount
        self._spec = runtime.spec if runtime is not None else None

    def volume(self) -> Volume:
        self._refuse_open_secrets()
        meta = self._meta()
        storage, bucket = self._options.pop("storage", ""), self._options.pop("bucket", "")
        quota = self._quota(self._options.pop("quota", ""))
        if (storage or bucket) and not _NAME.fullmatch(self._mount.name):
            self._wrong(
                f"mounts[0].name {self._mount.name!r} is no name of a volume",
                "use 3 to 63 lower case letters, digits and '-'",
            )
        return Volume(
            name=self._mount.name,
            path=self._mount.path,
            subdirectory=self._subdirectory(),
            meta=meta,
            storage=storage,
            bucket=bucket,
            format_options=self._format_options(),
            mount_options=self._mount_options(),
            quota_gib=quota,
            keys=self._keys(),
            environment=self._environment(),
        )

    def _wrong(self, message: str, cure: str) -> None:
        self.problems.append(f"{message}; {cure}")

    def _refuse_open_secrets(self) -> None:
        for name in self._options.keys() & set(_HIDDEN):
            self._options.pop(name)
            self._wrong(
                f"option {name} stands in clear text", "put it in a Secret, under encryptOptions"
            )

    def _meta(self) -> MetaAddress | None:
        hidden, shown = self._secrets.pop("metaurl", ""), self._options.pop("metaurl", "")
        if not (hidden or shown):
            return None
        try:
            address = meta_address(hidden or shown)
        except ValueError as error:
            self._wrong(str(error), "see JuiceFS' page on metadata engines")
            return None
        if address.password and not hidden:
            self._wrong("metaurl has a password in it", "put it in a Secret, under encryptOptions")
        return address

    def _subdirectory(self) -> str:
        scheme, separator, rest = self._mount.source.url.partition("://")
        if not separator or scheme != SCHEME:
            self._wrong(
                f"mountPoint {self._mount.source.url} is none of JuiceFS",
                "write juicefs:///, or juicefs:///FOLDER for a folder of the volume",
            )
            return "/"
        parts = [part for part in rest.split("/") if part]
        if any(part in (".", "..") for part in parts):
            self._wrong("mountPoint has '.' or '..' in it", "name the folder from the root on")
        return "/" + "/".join(parts)

    def _quota(self, text: str) -> int:
        if not text:
            return 0
        try:
            size = parse_quantity(text)
        except ValueError as error:
            self._wrong(f"quota: {error}", "write it like 10Gi")
            return 0
        if size < GIB:
            self._wrong(f"quota {text} is less than 1Gi", "JuiceFS counts in Gi: write 1Gi or more")
        return max(1, -(-size // GIB))

    def _format_options(self) -> Options:
        """`spec.configs`: arguments of `juicefs format`, with `--` or without."""
        found: list[tuple[str, str]] = []
        for text in self._spec.configs if self._spec is not None else ():
            name, _, value = text.strip().removeprefix("--").partition("=")
            if name in _HIDDEN:
                self._wrong(f"configs give {name}", "put it in a Secret, under encryptOptions")
            elif self._is_option("configs", name, value):
                found.append((name, value))
        return tuple(found)

    def _mount_options(self) -> Options:
        """Options of the worker, then of the client, then of the mount: a later one wins."""
        merged: dict[str, str] = {}
        if self._spec is not None:
            worker = self._spec.worker.options if self._spec.worker is not None else {}
            client = self._spec.fuse.options if self._spec.fuse is not None else {}
            merged.update({**worker, **client})
        merged.update(self._options)
        found = []
        for name, value in merged.items():
            if name in _HIDDEN:
                self._wrong(f"option {name} stands in clear text", "put it under encryptOptions")
            elif name in _OURS:
                self._wrong(f"option {name} is set by fluidpy", "leave it out")
            elif self._is_option("options", name, value):
                found.append((name, value))
        return tuple(sorted(found))

    def _is_option(self, where: str, name: str, value: str) -> bool:
        if _OPTION.fullmatch(name) and not any(ord(char) < 32 for char in value):
            return True
        self._wrong(f"{where}: {name!r} is no option of juicefs", "write it like 'buffer-size'")
        return False

    def _keys(self) -> dict[str, str]:
        keys = {variable: self._secrets.pop(n, "") for n, variable in _SECRETS.items()}
        for name in sorted(self._secrets.keys() - {"token"}):
            self._wrong(
                f"encryptOption {name} is not known to JuiceFS here",
                f"metaurl, token, {' and '.join(_SECRETS)} are",
            )
        if self._secrets.pop("token", ""):
            self._wrong(
                "the enterprise client takes a token as an argument only, which all users of the "
                "machine could read",
                f"leave token out, and run `juicefs auth {self._mount.name}` once on this machine",
            )
        return {variable: value for variable, value in keys.items() if value}

    def _environment(self) -> dict[str, str]:
        given = self._spec.fuse.env if self._spec is not None and self._spec.fuse else []
        found: dict[str, str] = {}
        for one in given:
            if isinstance(one.get("value"), str):  # others refer to what a cluster has
                found[str(one.get("name"))] = one["value"]
        return found


def read_volume(mounts: Iterable[MountDefinition], runtime: JuiceFSRuntime | None) -> Volume:
    """The volume of a Dataset. Raises ValidationError with every problem, one a line."""
    mount = next(iter(mounts), None)
    if mount is None:
        raise ValidationError("the Dataset has no mounts", cure="Write one under spec.mounts.")
    reader = _Reader(mount, runtime)
    volume = reader.volume()
    if reader.problems:
        raise ValidationError(
            "\n".join(dict.fromkeys(reader.problems)), cure="Correct the Dataset or its runtime."
        )
    return volume
