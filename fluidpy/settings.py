"""Every setting of fluidpy, declared once: name, unit, default and the reason for the default.

Precedence: environment `FLUIDPY_<NAME>` over `[settings]` of the configuration file
(`$FLUIDPY_CONFIG`, else `$XDG_CONFIG_HOME/fluidpy/config.toml`) over the default. Reading is
explicit (`load_settings`), so that nothing depends on the order of imports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fluidpy.errors import UsageError

MIB = 1024 * 1024

_MAY_BE_ZERO = ("move_bytes_per_second",)
"""Numbers of which 0 means that there is no bound; all others are above it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of this machine's worker and clients."""

    cache_dir: Path
    """Where stores and catalogs lie when a Dataset names no tier; must be a local file system."""
    runtime_dir: Path
    """Where sockets, locks and mount records lie; private to the user, gone after a reboot."""
    state_dir: Path = field(default_factory=lambda: default_state_dir(os.environ))
    """Where the control plane keeps objects and the stores of its workers; outlives a reboot."""
    block_bytes: int = 1 * MIB
    """Size of a cached block in bytes; a power of two. 1 MiB is the largest FUSE read."""
    part_bytes: int = 8 * MIB
    """Largest range asked of a source in one request, in bytes."""
    fetch_concurrency: int = 32
    """Requests under way at once per mount, unless the mount sets `max_requests`; with more, one
    client's objects a second stop growing (100 KB from SeaweedFS on 2 cores)."""
    read_ahead_bytes: int = 64 * MIB
    """Largest read-ahead window of one sequential reader, in bytes."""
    source_deadline_seconds: float = 60.0
    """How long one read or listing request may take, retries included, in seconds."""
    idle_seconds: float = 300.0
    """The worker ends after this long without a connected client, in seconds."""
    metadata_ttl_seconds: float = 300.0
    """A folder's listing is asked again on a visit after this long, in seconds."""
    worker_start_seconds: float = 30.0
    """How long a client waits for a worker it started, in seconds."""
    default_quota_share: float = 0.5
    """Share of the free disk that the default tier may take at most."""
    pvc_directories: Mapping[str, str] = field(default_factory=dict)
    """Directories that stand for `pvc://NAME`, by claim name (table `[pvc]` of the file)."""
    secret_directory: Path | None = None
    """A directory of secret files `<secret>/<key>`, as Kubernetes mounts them."""

    runtime_path: str = ""
    """Folders of runtime plug-ins, separated by `:`; looked at before those that are installed."""

    worker_runtime_dir: Path | None = None
    """Where the worker's socket lies, if not in `runtime_dir`: it is one of the control plane's."""
    member_name: str = ""
    """What the pool of workers calls this machine's worker."""
    membership_file: Path | None = None
    """Who belongs to the pool, written by the control plane; without it a worker serves alone."""
    listen: str = ""
    """HOST:PORT where the worker serves the others of its pool; port 0 takes any that is free."""
    move_bytes_per_second: int = 100 * MIB
    """Most that a worker takes over from others when workers come and go, in bytes a second; 0: any
    number. A tenth of a network of 10 Gbit/s, as HDFS gives its balancer: readers come first."""
    certificate_file: Path | None = None
    """PEM file with this worker's certificate and key: workers then speak TLS with one another."""
    authority_file: Path | None = None
    """PEM file with the certificate that signed those of all workers of the pool."""
    pool_host: str = "127.0.0.1"
    """This machine's address at which the control plane's workers reach one another."""
    pool_tls: bool = False
    """Whether the control plane's workers speak TLS on loopback, too."""
    plain_network: bool = False
    """Whether workers may speak without TLS on an address that other machines reach."""

    @property
    def worker_socket(self) -> Path:
        """The unix socket of this user's worker."""
        return self.worker_directory / "worker.sock"

    @property
    def worker_directory(self) -> Path:
        """Where socket, lock and log of the worker lie."""
        return self.worker_runtime_dir or self.runtime_dir

    @property
    def control_socket(self) -> Path:
        """The unix socket of this user's control plane."""
        return self.runtime_dir / "control.sock"

    @property
    def mounts_dir(self) -> Path:
        """Records of this user's mounts, one JSON file each."""
        return self.runtime_dir / "mounts"

    @property
    def plugins_dir(self) -> Path:
        """Runtime plug-ins that this user installed, one folder each."""
        return self.state_dir / "runtimes"

    @property
    def plugin_folders(self) -> tuple[Path, ...]:
        """Where runtime plug-ins are looked for; the first of a name wins."""
        named = filter(None, self.runtime_path.split(os.pathsep))
        return (*(Path(one).expanduser() for one in named), self.plugins_dir)

    @property
    def catalogs_dir(self) -> Path:
        """One SQLite catalog a Dataset."""
        return self.cache_dir / "catalogs"


def _base_directory(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """A directory of the XDG base directory specification, or its place below the home."""
    if named := environ.get(variable):
        return Path(named).absolute()
    return Path(environ.get("HOME") or Path.home()).absolute() / below_home


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """Where `cache_dir` is when nobody says so."""
    return _base_directory(environ, "XDG_CACHE_HOME", ".cache") / "fluidpy"


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Where `state_dir` is when nobody says so."""
    return _base_directory(environ, "XDG_STATE_HOME", ".local/state") / "fluidpy"


def _default_runtime_dir(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "fluidpy" if base else Path(f"/tmp/fluidpy-{os.getuid()}")


def _config_file(environ: Mapping[str, str]) -> Path:
    if named := environ.get("FLUIDPY_CONFIG"):
        return Path(named)
    return _base_directory(environ, "XDG_CONFIG_HOME", ".config") / "fluidpy" / "config.toml"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(path, error) from error
    import tomllib  # most have no file, and a training process pays for each import

    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # of TOML or of UTF-8
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"configuration file {path} cannot be read: {error}", cure="Mend or remove it."
    )


def _convert(name: str, kind: str, raw: Any, origin: str) -> Any:
    try:
        if kind == "int":
            value: Any = int(raw)
        elif kind == "float":
            value = float(raw)
        elif kind == "str":
            return str(raw)
        elif kind == "bool":
            return _truth(name, raw, origin)
        else:
            return _absolute(name, Path(raw).expanduser(), origin)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{origin}: {name} is {raw!r}, which is not a number", cure=f"Give {name} as {kind}."
        ) from error
    if value > 0 or (value == 0 and name in _MAY_BE_ZERO):
        return value
    or_none = ", or 0 for no bound" if name in _MAY_BE_ZERO else ""
    raise UsageError(f"{origin}: {name} is {raw!r}", cure=f"Give a value above zero{or_none}.")


def _absolute(name: str, path: Path, origin: str) -> Path:
    """The path from the root: worker and mounts run elsewhere. Only a file's must be so already."""
    if not path.is_absolute() and not origin.startswith("FLUIDPY_"):
        raise UsageError(
            f"{origin}: {name} is '{path}', which is not an absolute path",
            cure=f"Give {name} as a path that starts with /.",
        )
    return path.absolute()


def _truth(name: str, raw: Any, origin: str) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(raw).lower())
    if found is None:
        raise UsageError(
            f"{origin}: {name} is {raw!r}, which is neither true nor false",
            cure=f"Give {name} as true or false.",
        )
    return found


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. Raises UsageError naming the setting and where it came from."""
    environ = os.environ if environ is None else environ
    path = _config_file(environ)
    document = _read_file(path)
    table = document.get("settings", {})
    values: dict[str, Any] = {
        "cache_dir": default_cache_dir(environ),
        "runtime_dir": _default_runtime_dir(environ),
        "state_dir": default_state_dir(environ),
        "pvc_directories": {str(k): str(v) for k, v in document.get("pvc", {}).items()},
    }
    known = {f.name: f.type for f in fields(Settings) if f.name != "pvc_directories"}
    if unknown := sorted(set(table) - set(known)):
        raise UsageError(
            f"{path}: unknown settings {', '.join(unknown)}", cure=f"Known: {', '.join(known)}."
        )
    for name, kind in known.items():
        variable = f"FLUIDPY_{name.upper()}"
        if variable in environ and (environ[variable] or "Path" not in str(kind)):
            values[name] = _convert(name, str(kind), environ[variable], variable)
        elif name in table:
            values[name] = _convert(name, str(kind), table[name], str(path))
    settings = Settings(**values)
    if settings.block_bytes & (settings.block_bytes - 1) or settings.block_bytes < 4096:
        raise UsageError(
            f"block_bytes is {settings.block_bytes}", cure="Give a power of two from 4096 up."
        )
    return settings
