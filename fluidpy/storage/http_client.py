"""The aiohttp session of a driver: time-outs, certificates, the environment's proxies."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import aiohttp
from yarl import URL

from fluidpy.errors import SourceConfigurationError

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 15.0
"""Without a byte for so long a request is given up and tried again; as for obstore."""


def open_session(
    label: str, *, ca_bundle: str = "", headers: Mapping[str, str] | None = None, limit: int = 64
) -> aiohttp.ClientSession:
    """A session for one mount; needs a running loop. Raises SourceConfigurationError."""
    context: ssl.SSLContext | bool = True
    if ca_bundle:
        context = _trusting(label, ca_bundle)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=limit),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
        ),
        headers=headers,
        # Not trust_env: that would also send keys found in ~/.netrc.
        trust_env=False,
    )


def read_certificates(label: str, ca_bundle: str) -> bytes:
    """The PEM file that a mount trusts besides the system's certificates.

    Raises SourceConfigurationError when it cannot be read or holds no certificate.
    """
    _trusting(label, ca_bundle)
    return Path(ca_bundle).read_bytes()


def _trusting(label: str, ca_bundle: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        no_pem = isinstance(error, ssl.SSLError)
        why = "it holds no certificate in PEM form" if no_pem else error.strerror
        raise SourceConfigurationError(
            f"mount {label}: ca_bundle {ca_bundle} cannot be used: {why}",
            cure="Give the path of a PEM file, absolute or from ./ on.",
        ) from error
    return context


def proxy_for(url: URL) -> str | None:
    """The proxy that the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) names for a URL."""
    if urllib.request.proxy_bypass(url.host or ""):
        return None
    return urllib.request.getproxies().get(url.scheme)
