"""The web servers of Debian, on a free port, with the index of a folder and TLS."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.testing.servers.certificates import Certificate
from fluidpy.testing.servers.process_group import free_ports, server_process, wait_until

_SYSTEM_PROGRAMS = ":/usr/sbin:/usr/local/sbin"
"""Not in everybody's PATH."""
_APACHE_MODULES = Path("/usr/lib/apache2/modules")

_NGINX = """
daemon off; worker_processes 1; pid {own}/pid; error_log {own}/log;
events {{ }}
http {{
  access_log off; default_type application/octet-stream; types {{ text/html html; }}
  client_body_temp_path {own}/a; proxy_temp_path {own}/b; fastcgi_temp_path {own}/c;
  uwsgi_temp_path {own}/d; scgi_temp_path {own}/e;
  server {{
    listen 127.0.0.1:{port} ssl; root {folder}; autoindex on;
    ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};
  }}
}}
"""

_APACHE = """
ServerRoot {own}
ServerName localhost
PidFile {own}/pid
DefaultRuntimeDir {own}
ErrorLog {own}/log
Listen 127.0.0.1:{port}
User nobody
Group nogroup
{modules}
TypesConfig /dev/null
DocumentRoot {folder}
<Directory {folder}>
  Options Indexes
  Require all granted
  IndexOptions FancyIndexing NameWidth=20
</Directory>
SSLEngine on
SSLCertificateFile {certificate.certificate}
SSLCertificateKeyFile {certificate.key}
"""
_MODULES = ("mpm_event", "authz_core", "mime", "dir", "autoindex", "ssl")


@contextlib.contextmanager
def web_server(program: str, folder: Path, own: Path, certificate: Certificate) -> Iterator[str]:
    """The URL at which `nginx` or `apache2` serves a folder; `own` is for its own files.

    Skips the test where the program is not installed.
    """
    path = shutil.which(program, path=os.environ.get("PATH", "") + _SYSTEM_PROGRAMS)
    if path is None:
        package = {"nginx": "nginx-light", "apache2": "apache2-bin"}[program]
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    own.mkdir()
    (port,) = free_ports(1)
    modules = "\n".join(
        f"LoadModule {name}_module {_APACHE_MODULES}/mod_{name}.so" for name in _MODULES
    )
    text = {"nginx": _NGINX, "apache2": _APACHE}[program]
    configuration = own / "configuration"
    configuration.write_text(
        text.format(own=own, port=port, folder=folder, certificate=certificate, modules=modules)
    )
    more = {"nginx": ["-c", configuration], "apache2": ["-f", configuration, "-DFOREGROUND"]}
    arguments = [path, *map(str, more[program])]
    with server_process(arguments, own / "output") as process:
        wait_until(lambda: _listens(port), process, own / "output", seconds=60)
        yield f"https://localhost:{port}/"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
