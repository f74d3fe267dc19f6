"""Answers of an object store, and of obstore and aiohttp about it, as errors of fluidpy.

One table (`_BY_CODE`, then `_BY_STATUS`) decides for both ways of asking. The texts of obstore are
long and hold its internals; only status, S3 code and the cause of a broken connection are taken
from them.
"""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

import aiohttp

from fluidpy.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceConfigurationError,
    SourceError,
    SourceNotFoundError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from fluidpy.storage.http_errors import error_of_tls


class StorePlace(NamedTuple):
    """What messages call the store: never holds a secret."""

    label: str
    bucket: str
    endpoint: str
    signed: bool


_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]+)</Code>")

_BAD_KEY = "Check access_key_id and secret_access_key."
_CLOCK = "Set the clock of this machine (NTP)."


def error_for_answer(place: StorePlace, status: int, code: str, subject: str) -> SourceError:
    """The error for an answer with this HTTP status and S3 code, about `subject` (a path)."""
    where = f"bucket {place.bucket} at {place.endpoint}"
    if code == "NoSuchBucket":
        return SourceNotFoundError(
            f"bucket {place.bucket} does not exist at {place.endpoint}",
            cure="Check the bucket's name in mountPoint, and the endpoint.",
        )
    if code in ("SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidSecurity"):
        what = "access key id" if code == "InvalidAccessKeyId" else "secret access key"
        return SourceAccessError(f"{where}: the {what} is wrong ({code})", cure=_BAD_KEY)
    if code in ("ExpiredToken", "InvalidToken", "SecurityTokenExpired"):
        return SourceAccessError(
            f"{where}: the session token is expired or wrong ({code})", cure="Renew it."
        )
    if code == "RequestTimeTooSkewed":
        return SourceAccessError(f"{where}: this machine's clock is off ({code})", cure=_CLOCK)
    return _error_for_status(place, status, code, subject, where)


def _error_for_status(
    place: StorePlace, status: int, code: str, subject: str, where: str
) -> SourceError:
    said = f"{status} {code}".strip()
    if status in (401, 403):
        if not place.signed:
            return SourceAccessError(
                f"{where}: {subject} may not be read without credentials ({said})",
                cure="Give access_key_id and secret_access_key, or credentials: environment.",
            )
        return SourceAccessError(
            f"{where}: these credentials may not read {subject} ({said})",
            cure="Check the keys, and the bucket's policy.",
        )
    if status == 404:
        return SourceNotFoundError(
            f"{where}: {subject} is not there", cure="Look at mountPoint, the bucket and the key."
        )
    if status in (412, 416):
        return SourceChangedError(
            f"{where}: {subject} is no longer the version that was listed",
            cure="Open it again to read the new version.",
        )
    if status in (301, 307, 308):
        return SourceConfigurationError(
            f"{where}: the bucket lies at another endpoint or region ({said})",
            cure="Set endpoint and region to the bucket's own.",
        )
    if status == 400:
        return SourceConfigurationError(
            f"{where}: the request for {subject} was refused ({said})",
            cure="Check endpoint (http:// or https://), region and path_style.",
        )
    return SourceUnavailableError(
        f"{where}: {subject} was answered with {said}",
        cure="Look at the store; a status from 500 on is its own failure.",
    )


def error_of_obstore(place: StorePlace, error: BaseException, subject: str) -> SourceError:
    """The error for an exception of obstore."""
    text = str(error)
    if match := _STATUS.search(text):
        code = _CODE.search(text)
        return error_for_answer(place, int(match[1]), code[1] if code else "", subject)
    return _error_of_connection(place, text, subject)


def error_of_aiohttp(place: StorePlace, error: BaseException, subject: str) -> SourceError:
    """The error for an exception of aiohttp."""
    if (refused := error_of_tls(place.endpoint, error)) is not None:
        return refused
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _error_of_connection(place, "dns error", subject)
    if isinstance(error, TimeoutError):
        return _error_of_connection(place, "TimedOut", subject)
    if isinstance(error, aiohttp.ClientConnectorError):
        text = "ConnectionRefused" if isinstance(error.os_error, ConnectionRefusedError) else ""
        return _error_of_connection(place, text or "Connect", subject)
    return _error_of_connection(place, str(error), subject)


def error_of_socket(place: StorePlace, error: BaseException, subject: str) -> SourceError:
    """The error for an exception of a plain connection (`socket`, `http.client`)."""
    if isinstance(error, TimeoutError):
        return _error_of_connection(place, "TimedOut", subject)
    if isinstance(error, ConnectionRefusedError):
        return _error_of_connection(place, "ConnectionRefused", subject)
    if isinstance(error, socket.gaierror):
        return _error_of_connection(place, "dns error", subject)
    return _error_of_connection(place, str(error), subject)


def _error_of_connection(place: StorePlace, text: str, subject: str) -> SourceError:
    check = "Check the endpoint, and that it can be reached from this machine."
    where = place.endpoint
    if "ConnectionRefused" in text:
        return SourceUnavailableError(f"{where} refuses connections", cure=check)
    if "dns error" in text or "failed to lookup" in text:
        return SourceUnavailableError(f"the host of {where} cannot be resolved", cure=check)
    if "certificate" in text or "InvalidCertificate" in text:
        return SourceConfigurationError(
            f"the certificate of {where} is not trusted",
            cure="Give ca_bundle, the PEM file of the authority that signed it.",
        )
    if "WRONG_VERSION" in text or "InvalidContentType" in text or "corrupt message" in text:
        return SourceConfigurationError(
            f"{where} does not speak TLS", cure="Write the endpoint with http://."
        )
    if "TimedOut" in text or "kind: Timeout" in text or "timed out" in text:
        return SourceTimeoutError(f"{where} did not answer in time about {subject}", cure=check)
    if "kind: Connect" in text or text == "Connect":
        return SourceUnavailableError(f"{where} cannot be reached", cure=check)
    if "Could not parse path" in text:
        return SourceNotFoundError(
            f"bucket {place.bucket}: {subject} cannot be a key", cure="Correct the path."
        )
    return SourceUnavailableError(
        f"{where} broke the connection while answering {subject}",
        cure="Look whether the endpoint is up.",
    )
