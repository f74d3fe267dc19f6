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
        f"{url} was answered with {status}", cure="Check that the URL serves files."
    )


def error_of_aiohttp(url: str, error: BaseException) -> SourceError:
    """The error for an exception of aiohttp about `url`."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return SourceConfigurationError(
            f"the certificate of {url} is not trusted",
            cure="Give ca_bundle, the PEM file of the authority that signed it.",
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return SourceConfigurationError(
            f"{url} does not speak TLS", cure="Write the URL with http://."
        )
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
