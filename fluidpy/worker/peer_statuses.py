"""Errors as HTTP statuses, and the answers that carry them to a peer."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from fluidpy.cluster import peer_protocol as protocol
from fluidpy.errors import (
    FluidpyError,
    PeerAbsentError,
    PeerBusyError,
    PeerDefinitionError,
    PeerRefusedError,
    PeerTimeoutError,
    SourceChangedError,
    SourceTimeoutError,
    UsageError,
)

RETRY_SECONDS: Final = 1
"""When to ask a busy worker again: a turn takes less."""

_STATUSES: Final[tuple[tuple[type[FluidpyError], int], ...]] = (
    (PeerBusyError, 503),
    (PeerDefinitionError, 409),
    (PeerAbsentError, 404),
    (PeerTimeoutError, 504),
    (SourceTimeoutError, 504),
    (SourceChangedError, 410),
    (UsageError, 400),
    (PeerRefusedError, 403),
)
"""The status of an error; what is not listed is a failure behind this worker: 502."""


def status_of(error: FluidpyError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 502)


def refusal(error: FluidpyError, status: int = 0) -> web.Response:
    """The answer that tells an error, by its own status or another one."""
    status = status or status_of(error)
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else None
    return web.Response(
        status=status,
        body=protocol.error_body(error),
        content_type="application/json",
        headers=headers,
    )


def unauthorised() -> web.Response:
    """The answer to a request without the right token; the same for a Dataset unknown here."""
    error = PeerRefusedError(
        "the request does not carry the Dataset's token",
        cure="Apply the Dataset again, so that its workers learn the token.",
    )
    response = refusal(error, 401)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def not_allowed(method: str) -> web.Response:
    """The answer to another method than the one a target has."""
    response = refusal(protocol.malformed(f"only {method} may be asked there"), 405)
    response.headers["Allow"] = method
    return response


def late() -> PeerTimeoutError:
    """The error for bytes that did not come in time."""
    return PeerTimeoutError(
        "the bytes did not come within the request's deadline", cure="Give it a longer one."
    )
