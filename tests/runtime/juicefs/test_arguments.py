"""From YAML of Fluid's users to the arguments of `juicefs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.runtimes.juicefs import JuiceFSRuntime
from fluidpy.errors import ValidationError
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.juicefs.arguments import (
    CachePlace,
    format_arguments,
    mount_arguments,
    operation_seconds,
    quota_arguments,
    size_in_bytes,
    warmup_arguments,
)
from fluidpy.runtime.juicefs.volume import Volume, read_volume
from fluidpy.storage.under_storage import MountSource

TARGET = Path("/run/target")
CACHE = CachePlace((Path("/disk/a"), Path("/disk/b")), 10 * 2**30)
SECRETS = {
    "metaurl": "redis://:meta-secret@redis:6379/1",
    "access-key": "key-secret",
    "secret-key": "other-secret",
}
STORE = {"storage": "minio", "bucket": "http://minio:9000/jfs"}


def mounted(
    url: str = "juicefs:///",
    options: dict[str, str] | None = None,
    secrets: dict[str, str] | None = None,
    name: str = "minio",
) -> MountDefinition:
    source = MountSource(url, name, options or {}, SECRETS if secrets is None else secrets)
    return MountDefinition(name, "/", source)


def runtime(**spec: Any) -> JuiceFSRuntime:
    values = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "JuiceFSRuntime",
        "metadata": {"name": "jfs"},
        "spec": spec,
    }
    return JuiceFSRuntime.model_validate(values)


def volume(mount: MountDefinition, **spec: Any) -> Volume:
    return read_volume([mount], runtime(**spec))


def test_fluids_sample_becomes_a_volume_and_a_read_only_mount() -> None:
    # docs/en/samples/juicefs_runtime.md: metaurl, keys in a Secret; storage, bucket as options.
    one = volume(mounted(options=STORE), configs=["--trash-days=0", "block-size=4M"])
    assert format_arguments("juicefs", one) == (
        "juicefs",
        "format",
        "--no-update",
        "--storage=minio",
        "--bucket=http://minio:9000/jfs",
        "--trash-days=0",
        "--block-size=4M",
        "redis://:@redis:6379/1",
        "minio",
    )
    found = mount_arguments("juicefs", one, CACHE, TARGET)
    assert found[:2] == ("juicefs", "mount")
    assert found[-2:] == ("redis://:@redis:6379/1", str(TARGET))
    assert {"--read-only", "--cache-dir=/disk/a:/disk/b", "--cache-size=10240"} <= set(found)
    assert not any(one.startswith("--subdir") for one in found)
    assert one.keys == {"ACCESS_KEY": "key-secret", "SECRET_KEY": "other-secret"}


def test_options_of_client_worker_and_mount_are_options_of_the_mount() -> None:
    one = volume(
        mounted("juicefs:///a/b/", {"prefetch": "1", "attr-cache": "7200"}),
        worker={"options": {"buffer-size": "512", "prefetch": "3"}},
        fuse={
            "options": {"buffer-size": "1024", "ro": "", "max_read": "99", "cache-size": "7"},
            "env": [{"name": "GOMAXPROCS", "value": "2"}],
        },
    )
    found = mount_arguments("juicefs", one, CACHE, TARGET)
    assert {"--prefetch=1", "--attr-cache=7200", "--buffer-size=1024"} <= set(found)
    assert {"--cache-size=7", "--subdir=/a/b"} <= set(found)
    assert found[found.index("-o") + 1] == "max_read=99"
    assert one.environment == {"GOMAXPROCS": "2"}


def test_a_volume_without_a_store_is_asked_for_and_not_made() -> None:
    assert format_arguments("juicefs", volume(mounted())) == (
        "juicefs",
        "status",
        "redis://:@redis:6379/1",
    )


def test_the_enterprise_edition_is_mounted_by_its_name() -> None:
    one = volume(mounted(secrets={}, name="console-volume"))
    assert format_arguments("juicefs", one) is None
    assert quota_arguments("juicefs", one) is None
    assert mount_arguments("juicefs", one, CACHE, TARGET)[-2:] == ("console-volume", str(TARGET))


def test_a_quota_bounds_the_folder_that_is_shown() -> None:
    one = volume(mounted("juicefs:///a", {"quota": "1536Mi"}))
    assert quota_arguments("juicefs", one) == (
        *("juicefs", "quota", "set", "redis://:@redis:6379/1"),
        *("--path", "/a", "--capacity", "2"),
    )
    assert quota_arguments("juicefs", volume(mounted())) is None


@given(
    st.dictionaries(st.sampled_from([*SECRETS, "token"]), st.uuids().map(str), min_size=1),
    st.booleans(),
)
def test_no_secret_is_ever_an_argument_or_shown(secrets: dict[str, str], stored: bool) -> None:
    values = dict(secrets)
    if "metaurl" in values:
        values["metaurl"] = f"mysql://u:{values['metaurl']}@(h:1)/d"
    try:
        one = volume(mounted(options=STORE if stored else {}, secrets=values))
    except ValidationError as error:
        shown = str(error)
    else:
        found = [*(format_arguments("juicefs", one) or ())]
        found += mount_arguments("juicefs", one, CACHE, TARGET)
        shown = f"{found} {one!r}"
    assert not [secret for secret in secrets.values() if secret in shown]


def test_everything_wrong_is_told_at_once() -> None:
    options = {**STORE, "secret-key": "open", "log": "/x", "quota": "5Mi"}
    mount = mounted("s3://bucket/x", options, {**SECRETS, "sas": "unknown-secret"}, name="M")
    with pytest.raises(ValidationError) as caught:
        volume(mount, configs=["session-token=abc", "Bad Option"])
    lines = caught.value.message.splitlines()
    for word in ("secret-key", "log", "quota", "mountPoint", "sas", "name", "session-", "'Bad Opt"):
        assert any(word in line for line in lines), word
    assert all("; " in line for line in lines), "each has its cure"
    assert "unknown-secret" not in str(caught.value)


def test_a_load_is_a_warmup_of_places_below_the_mount() -> None:
    found = warmup_arguments("juicefs", TARGET, ["/", "a b/c"], {"timeout": "5m", "threads": "8"})
    assert found == ("juicefs", "warmup", "--threads=8", "/run/target", "/run/target/a b/c")


def test_the_time_of_an_operation_is_fluids() -> None:
    assert operation_seconds({}) == 1800
    assert operation_seconds({"timeout": "1m30s"}) == 90
    with pytest.raises(ValidationError, match="timeout"):
        operation_seconds({"timeout": "soon"})


def test_sizes_are_juicefs_own() -> None:
    assert size_in_bytes("100") == 100 * 2**20
    assert size_in_bytes("1.5G") == 1536 * 2**20
    with pytest.raises(ValidationError, match="no size of JuiceFS"):
        size_in_bytes("much")
