"""What an fsspec file system raises, as errors of fluidpy, without any secret of the mount."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fluidpy.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceConfigurationError,
    SourceError,
    SourceNotFoundError,
    SourceTimeoutError,
    SourceUnavailableError,
)

_LONGEST_TEXT = 300
_SKEWED = "RequestTimeTooSkewed"
"""What S3 and OSS answer to a request that is signed for another time."""
_REFUSED = ("SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied", "Forbidden")


def redact(text: str, secrets: Iterable[str]) -> str:
    """One line of `text`, cut, with every secret value replaced."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return " ".join(text.split())[:_LONGEST_TEXT]


def error_of_fsspec(error: Exception, shown: str, secrets: Iterable[str]) -> SourceError:
    """The error for whatever a file system raised about `shown`."""
    if isinstance(error, SourceError):
        return error
    said = redact(str(error), secrets) or type(error).__name__
    if _SKEWED in f"{error} {error.__cause__}":  # s3fs tells the message of the cause only
        return SourceAccessError(
            f"{shown} may not be read: this machine's clock is off ({_SKEWED})",
            cure="Set the clock of this machine (NTP).",
        )
    status = _status(error)
    refused = any(word in said or word in type(error).__name__ for word in _REFUSED)
    if isinstance(error, PermissionError) or status in (401, 403) or refused:
        return SourceAccessError(
            f"{shown} may not be read: {said}", cure="Check the mount's credentials."
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError | KeyError) or (
        status == 404
    ):
        return SourceNotFoundError(
            f"{shown} is not there: {said}", cure="Look at the path at its source."
        )
    if status in (412, 416):
        return SourceChangedError(
            f"{shown} is no longer the version that was listed", cure="Open it again."
        )
    if isinstance(error, TimeoutError):
        return SourceTimeoutError(
            f"{shown} was not answered in time: {said}",
            cure="Look whether the source is up; raise deadline_seconds if it is slow.",
        )
    if isinstance(error, NotImplementedError | TypeError | ImportError | ValueError):
        return SourceConfigurationError(
            f"{shown} cannot be read by its file system: {type(error).__name__}: {said}",
            cure="Check the mount's options, and the package that implements its protocol.",
        )
    return SourceUnavailableError(f"{shown} failed: {said}", cure="Look whether the source is up.")


def _status(error: Exception) -> int:
    """The HTTP status an exception of oss2, aiohttp or botocore carries; 0 for others."""
    for raised in (error, error.__cause__):
        status = getattr(raised, "status", 0)
        response = getattr(raised, "response", None)
        if isinstance(response, Mapping):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if isinstance(status, int) and status:
            return status
    return 0
