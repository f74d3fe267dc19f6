"""Answers of a web server, and aiohttp's exceptions, as errors of fluidpy."""

from __future__ import annotations

import ssl

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

_NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's reasons for an answer that is no TLS; others, such as an early end, may pass."""
_REACH = "Check the URL, and that the host can be reached from this machine."


def error_for_status(url: str, status: int) -> SourceError:
    """The error for an answer that is no success."""
    if status in (401, 403):
        return SourceAccessError(
            f"{url} may not be read ({status})",
            cure="Give username and password, or bearer_token.",
        )
    if status in (404, 410):
        return SourceNotFoundError(f"{url} is not there ({status})", cure="Check the URL.")
    if status in (412, 416):
        return SourceChangedError(
            f"{url} is no longer the version that was listed",
            cure="Open it again to read the new version.",
        )
    if status == 429 or status >= 500 or status == 408:
        return SourceUnavailableError(
            f"{url} was answered with {status}",
            cure="Look at the server; a status from 500 on is its own failure.",
        )
    return SourceConfigurationError(
        f"{url} was answered with {status}",
        cure="Check that the URL serves files, and whether it begins with http:// or https://.",
    )


def error_of_tls(where: str, error: BaseException) -> SourceConfigurationError | None:
    """The error for a connection that was refused before anything was asked; else None."""
    certificate = getattr(error, "certificate_error", error)
    if isinstance(certificate, ssl.SSLCertVerificationError):
        why = certificate.verify_message.rstrip(".")
        return SourceConfigurationError(
            f"the certificate of {where} is not trusted: {why}", cure=_certificate_cure(why)
        )
    broken = getattr(error, "os_error", error)
    if isinstance(broken, ssl.SSLError) and broken.reason in _NO_TLS:
        return SourceConfigurationError(
            f"{where} does not speak TLS", cure="Write the URL with http://."
        )
    return None


def _certificate_cure(why: str) -> str:
    """What to do about a reason of OpenSSL's (X509_verify_cert_error_string(3))."""
    if "mismatch" in why:
        return "Write the host as the certificate has it, or give the server one for this name."
    if "expired" in why or "not yet valid" in why:
        return "Renew the server's certificate, and check the clock of this machine."
    return "Give ca_bundle, the PEM file of the authority that signed it."


def error_of_aiohttp(url: str, error: BaseException) -> SourceError:
    """The error for an exception of aiohttp about `url`."""
    if (refused := error_of_tls(url, error)) is not None:
        return refused
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return SourceUnavailableError(f"the host of {url} cannot be resolved", cure=_REACH)
    if isinstance(error, TimeoutError):
        return SourceTimeoutError(f"{url} did not answer in time", cure=_REACH)
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return SourceUnavailableError(f"{url}: connection refused", cure=_REACH)
        return SourceUnavailableError(f"{url} cannot be reached", cure=_REACH)
    if isinstance(error, aiohttp.TooManyRedirects | aiohttp.InvalidURL):
        return SourceConfigurationError(f"{url} leads nowhere (redirects)", cure="Check the URL.")
    return SourceUnavailableError(
        f"{url}: the connection broke while it was answered", cure="Look whether the server is up."
    )
