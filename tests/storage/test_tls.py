"""Sources behind TLS: who is trusted, and what is said when nobody is."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from fluidpy.errors import SourceConfigurationError
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.certificates import Certificate, make_certificate
from fluidpy.testing.servers.http_thread import serve
from fluidpy.testing.servers.seaweedfs import SeaweedServer, seaweedfs
from fluidpy.testing.storage_suite import listed
from tests.cli.conftest import command_line_in

CONTENT = b"over TLS" * 400_000
FIND_AUTHORITY = "Give ca_bundle, the PEM file of the authority that signed it."


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def s3(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SeaweedServer]:
    folder = tmp_path_factory.mktemp("s3")
    with seaweedfs(folder, volumes=4, certificate=certificate) as server:
        server.make_bucket("sealed")
        server.put_objects("sealed", {"folder/file.bin": CONTENT})
        yield server


@contextlib.contextmanager
def web_folder(certificate: Certificate) -> Iterator[str]:
    """The URL of an index of one file."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.url.path == "/":
            return web.Response(text='<a href="file.bin">file</a>', content_type="text/html")
        data = CONTENT[request.http_range]
        headers = {"ETag": '"one"', "Content-Range": f"bytes 0-{len(data) - 1}/{len(CONTENT)}"}
        if request.method == "HEAD":
            return web.Response(headers={"ETag": '"one"', "Content-Length": str(len(CONTENT))})
        return web.Response(status=206, body=data, headers=headers)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with serve(answer, context) as server:
        yield f"{server.endpoint}/"


async def look_into(source: MountSource, settings: Settings) -> None:
    storage = open_storage(source, settings)
    try:
        await listed(storage, "")
    finally:
        await storage.close()


async def said(source: MountSource, settings: Settings) -> str:
    """The error of a source that cannot be used, with its cure."""
    with pytest.raises(SourceConfigurationError) as caught:
        await look_into(source, settings)
    return f"{caught.value.message} | {caught.value.cure}"


@pytest.mark.parametrize("client", [{}, {"client": "fsspec"}], ids=["obstore", "s3fs"])
async def test_s3_is_read_over_tls(
    s3: SeaweedServer, settings: Settings, client: dict[str, str]
) -> None:
    assert s3.endpoint.startswith("https://")
    storage = open_storage(s3.source("sealed", **client), settings)
    entries, _ = await listed(storage, "folder")
    (info,) = entries
    assert bytes(await storage.read(info.path, 0, info.size, info.version)) == CONTENT
    await storage.close()


async def test_an_index_is_read_over_tls(certificate: Certificate, settings: Settings) -> None:
    with web_folder(certificate) as url:
        trusted = {"ca_bundle": str(certificate.authority)}
        storage = open_storage(MountSource(url, "web", trusted), settings)
        entries, _ = await listed(storage, "")
        assert [(entry.path, entry.size) for entry in entries] == [("file.bin", len(CONTENT))]
        assert bytes(await storage.read("file.bin", 0, 100, entries[0].version)) == CONTENT[:100]
        await storage.close()


async def test_a_stranger_s_signature_is_told(
    s3: SeaweedServer, certificate: Certificate, settings: Settings, tmp_path: Path
) -> None:
    stranger = make_certificate(tmp_path).authority
    with web_folder(certificate) as url:
        for trusted in ({}, {"ca_bundle": str(stranger)}):
            bucket = MountSource(
                "s3://sealed", "s3", {"endpoint": s3.endpoint, **trusted}, s3.secrets()
            )
            message = f"the certificate of {s3.endpoint} is not trusted: "
            assert (await said(bucket, settings)).startswith(message)
            index = await said(MountSource(url, "web", trusted), settings)
            assert index.startswith(f"the certificate of {url} is not trusted: ")
            assert index.endswith(FIND_AUTHORITY)


async def test_a_wrong_name_and_an_old_certificate_have_cures_of_their_own(
    settings: Settings, tmp_path: Path
) -> None:
    cures = {
        "Write the host": make_certificate(tmp_path / "name", "DNS:files.example"),
        "Renew the server's certificate": make_certificate(tmp_path / "old", days=-1),
    }
    for cure, certificate in cures.items():
        with web_folder(certificate) as url:
            source = MountSource(url, "web", {"ca_bundle": str(certificate.authority)})
            assert f"| {cure}" in await said(source, settings)


async def test_a_bundle_that_is_none_is_told(
    s3: SeaweedServer, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no certificate")
    for name, why in (("text", "holds no certificate in PEM form"), ("gone", "No such file")):
        bundle = str(tmp_path / name)
        for source in (
            s3.source("sealed", ca_bundle=bundle),
            MountSource("https://localhost:1/", "sealed", {"ca_bundle": bundle}),
        ):
            text = await said(source, settings)
            assert text.startswith(f"mount sealed: ca_bundle {bundle} cannot be used: ")
            assert why in text


async def test_an_endpoint_without_tls_is_told(
    s3: SeaweedServer, certificate: Certificate, settings: Settings, seaweedfs_server: SeaweedServer
) -> None:
    plain = seaweedfs_server.endpoint.replace("http:", "https:")
    source = seaweedfs_server.source("sealed", endpoint=plain)
    assert await said(source, settings) == (
        f"{plain} does not speak TLS | Write the URL with http://."
    )
    sealed = s3.endpoint.replace("https:", "http:")
    assert "http:// or https://" in await said(s3.source("sealed", endpoint=sealed), settings)


def test_the_command_line_trusts_a_file_beside_the_dataset_and_the_environment(
    s3: SeaweedServer, certificate: Certificate, tmp_path: Path
) -> None:
    (tmp_path / "authority.pem").write_bytes(certificate.authority.read_bytes())
    for name, option in (("by-option", ", ca_bundle: ./authority.pem"), ("by-variable", "")):
        (tmp_path / f"{name}.yaml").write_text(
            "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\n"
            f"metadata: {{name: {name}}}\nspec:\n  mounts:\n    - mountPoint: s3://sealed\n"
            f"      options: {{endpoint: '{s3.endpoint}'{option}}}\n      name: sealed\n"
            "      encryptOptions:\n"
            "        - {name: access_key_id, valueFrom: {secretKeyRef: {name: k, key: id}}}\n"
            "        - {name: secret_access_key, valueFrom: {secretKeyRef: {name: k, key: key}}}\n"
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: k}\n"
            f"stringData: {{id: {s3.access_key}, key: {s3.secret_key}}}\n"
        )
    with command_line_in(tmp_path) as line:
        line.environment["SSL_CERT_FILE"] = "/dev/null"
        file = "sealed/folder/file.bin"
        url = f"fluid://by-option/{file}"
        assert line.done("cat", url, "-f", tmp_path / "by-option.yaml").encode() == CONTENT
        line.run("worker", "--stop")
        line.environment["SSL_CERT_FILE"] = str(certificate.authority)
        url = f"fluid://by-variable/{file}"
        assert line.done("cat", url, "-f", tmp_path / "by-variable.yaml").encode() == CONTENT
