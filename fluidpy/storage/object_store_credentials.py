"""Whose key signs the requests of a mount: the mount's own, the environment's, or none.

The environment is used only when the mount says `credentials: environment`, so that a Dataset
never reads with keys that happen to be around. Then the variables of the scheme are taken
(`AWS_*`, for oss `OSS_*`), or, without them, whatever botocore finds (profile, web identity,
instance role), which needs the extra `fluidpy[s3]`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from fluidpy.errors import SourceAccessError, SourceConfigurationError
from fluidpy.storage.options import ObjectStoreOptions
from fluidpy.storage.s3_listing import KeyProvider
from fluidpy.storage.s3_signature import AccessKey
from fluidpy.storage.under_storage import MountSource

_VARIABLES = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "oss": ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
}

_WHOSE = (
    "A worker that runs has the environment of its start: `fluidpy worker --stop` ends it, and the "
    "next one has yours."
)


def key_provider(source: MountSource, options: ObjectStoreOptions) -> KeyProvider | None:
    """Gives the key for each request; None for unsigned requests.

    Raises SourceConfigurationError when the environment's key is wanted and cannot be found.
    """
    if options.access_key_id:
        key = AccessKey(options.access_key_id, options.secret_access_key, options.session_token)
        return _constant(key)
    if options.credentials != "environment":
        return None
    if key_found := environment_key(source.scheme, os.environ):
        return _constant(key_found)
    if source.scheme == "oss":
        raise SourceConfigurationError(
            f"mount {source.label or source.url}: credentials is environment, and "
            f"{_VARIABLES['oss'][0]} is not set",
            cure=f"Set {_VARIABLES['oss'][0]} and {_VARIABLES['oss'][1]}. {_WHOSE}",
        )
    return _BotocoreKeys(source.label or source.url).key


def environment_key(scheme: str, environ: Mapping[str, str]) -> AccessKey | None:
    """The key in the environment's variables for a scheme, if there is one."""
    names = _VARIABLES.get(scheme, _VARIABLES["s3"])
    key, secret, token = (environ.get(name, "") for name in names)
    return AccessKey(key, secret, token) if key and secret else None


def obstore_credentials(options: ObjectStoreOptions, key: KeyProvider | None) -> dict[str, Any]:
    """The same choice as arguments of an obstore store."""
    if key is None:
        return {"skip_signature": True}
    if options.access_key_id:
        fixed = {
            "access_key_id": options.access_key_id,
            "secret_access_key": options.secret_access_key,
        }
        return fixed | ({"session_token": options.session_token} if options.session_token else {})

    async def provide() -> dict[str, Any]:
        found = await key()
        return {
            "access_key_id": found.access_key_id,
            "secret_access_key": found.secret_access_key,
            "token": found.session_token or None,
            "expires_at": None,
        }

    return {"credential_provider": provide}


def _constant(key: AccessKey) -> KeyProvider:
    async def provide() -> AccessKey:
        return key

    return provide


class _BotocoreKeys:
    """Keys that botocore finds and renews."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._credentials: Any = None

    async def key(self) -> AccessKey:
        if self._credentials is None:
            try:
                session = importlib.import_module("aiobotocore.session")
            except ImportError as error:
                raise SourceConfigurationError(
                    f"mount {self._label}: credentials is environment, AWS_ACCESS_KEY_ID is not "
                    "set, and aiobotocore, which finds roles and profiles, is not installed",
                    cure=f"Install fluidpy[s3], or set AWS_ACCESS_KEY_ID. {_WHOSE}",
                ) from error
            self._credentials = await session.get_session().get_credentials()
        if self._credentials is None:
            raise SourceAccessError(
                f"mount {self._label}: no credentials were found in the environment",
                cure="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role. "
                f"{_WHOSE}",
            )
        frozen = await self._credentials.get_frozen_credentials()
        return AccessKey(frozen.access_key, frozen.secret_key, frozen.token or "")
