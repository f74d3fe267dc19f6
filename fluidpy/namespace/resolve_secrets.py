"""Values of `encryptOptions`: from Secrets in the files, secret files, or the environment.

The first place that has the key wins. Nothing here puts a value into a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from fluidpy.api.problem import LoadedObject
from fluidpy.api.secret import Secret


class SecretValues:
    """Finds values of Secrets by namespace, name and key."""

    def __init__(
        self,
        objects: Iterable[LoadedObject],
        directory: Path | None,
        environ: Mapping[str, str],
    ) -> None:
        """`directory` holds files `NAME/KEY`; `environ` variables `FLUIDPY_SECRET_NAME_KEY`."""
        self._directory, self._environ = directory, environ
        self._objects = {
            (one.object.namespace, one.object.name): one.object
            for one in objects
            if isinstance(one.object, Secret)
        }

    def value(self, namespace: str, name: str, key: str) -> str | None:
        """The value as text; None when no place has it. Raises ValueError when it is no text."""
        raw = self._raw(namespace, name, key)
        if raw is None:
            return None
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise ValueError(f"key {key!r} of Secret {name!r} is not UTF-8 text") from None

    def places(self, name: str, key: str) -> str:
        """Where a missing value may be put, as a cure for people."""
        places = [f"add a Secret named {name!r} with the key {key!r} to the files"]
        if self._directory is not None:
            places.append(f"write the value to {self._directory / name / key}")
        places.append(f"set {variable(name, key)}")
        return ", or ".join(places)

    def _raw(self, namespace: str, name: str, key: str) -> bytes | None:
        secret = self._objects.get((namespace, name))
        if secret is not None and (found := secret.value(key)) is not None:
            return found
        if (found := self._from_file(name, key)) is not None:
            return found
        text = self._environ.get(variable(name, key))
        return None if text is None else text.encode("utf-8", "surrogateescape")

    def _from_file(self, name: str, key: str) -> bytes | None:
        if self._directory is None or {name, key} & {"", ".", ".."} or "/" in name + key:
            return None
        try:
            # An editor ends a file with a line end; Kubernetes writes the value alone.
            return (self._directory / name / key).read_bytes().removesuffix(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ValueError(
                f"the file of key {key!r} of Secret {name!r} cannot be read: {error.strerror}"
            ) from error


def variable(name: str, key: str) -> str:
    """The environment variable that may hold a key of a Secret."""
    return "FLUIDPY_SECRET_" + re.sub(r"[^A-Z0-9]", "_", f"{name}_{key}".upper())
