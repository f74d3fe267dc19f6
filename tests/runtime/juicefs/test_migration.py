"""`juicefs sync` of values alone: addresses, variables, options, and what it prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fluidpy.errors import ValidationError
from fluidpy.runtime.juicefs.meta_address import meta_address
from fluidpy.runtime.juicefs.migration import VolumeEnd, figures, figures_at, result, sync_command
from fluidpy.runtime.juicefs.volume import Volume
from fluidpy.runtime.migration import Copied, ExternalEnd

METAURL = "redis://user:meta-secret@redis:6379/1"
VOLUME = Volume("minio", "/", subdirectory="/data", meta=meta_address(METAURL))
STORE = ExternalEnd("s3://bucket/from/", {"access-key": "key", "secret-key": "store-secret"})


def test_addresses_and_secrets_are_apart() -> None:
    found = sync_command("juicefs", STORE, VolumeEnd(VOLUME, "a b#/"), {"threads": "4"})
    flags = ("juicefs", "sync", "--threads=4", "--metrics=127.0.0.1:0")
    ends = ("s3://bucket/from/", "jfs://FLUIDPY_DESTINATION/data/a%20b%23/")
    assert found.arguments == (*flags, *ends)
    assert found.environment["FLUIDPY_DESTINATION"] == "redis://user:@redis:6379/1"
    assert found.environment["META_PASSWORD"] == "meta-secret"
    assert found.environment["AWS_SECRET_ACCESS_KEY"] == "store-secret"
    assert set(found.redacted) == {"key", "store-secret", "meta-secret"}
    assert "secret" not in repr(found).replace("secret-key", "")


@pytest.mark.parametrize(
    ("source", "destination", "ends"),
    [
        ("/", "s3://b/x", ("jfs://FLUIDPY_SOURCE/data/", "s3://b/x/")),
        ("/a", "s3://b/x", ("jfs://FLUIDPY_SOURCE/data/a", "s3://b/x")),
        ("/a", "s3://b/x/", ("jfs://FLUIDPY_SOURCE/data/a/", "s3://b/x/")),
        ("/a/", "s3://b", ("jfs://FLUIDPY_SOURCE/data/a/", "s3://b/")),
    ],
)
def test_if_one_end_is_a_folder_the_other_is(
    source: str, destination: str, ends: tuple[str, str]
) -> None:
    found = sync_command("juicefs", VolumeEnd(VOLUME, source), ExternalEnd(destination), {})
    assert found.arguments[-2:] == ends


def test_between_two_volumes_each_has_a_variable() -> None:
    other = Volume("other", "/", meta=meta_address("sqlite3:///var/meta.db"))
    found = sync_command("juicefs", VolumeEnd(VOLUME, "/"), VolumeEnd(other, "/"), {})
    assert found.arguments[-2:] == ("jfs://FLUIDPY_SOURCE/data/", "jfs://FLUIDPY_DESTINATION/")
    assert found.environment["FLUIDPY_SOURCE"] == METAURL
    assert found.environment["FLUIDPY_DESTINATION"] == "sqlite3:///var/meta.db"


@pytest.mark.parametrize(
    ("scheme", "host", "encoded"),
    [
        ("redis", "h:6379", "a%2Fb%23%2541"),
        ("postgres", "h:5432", "a%2Fb%23%2541"),
        ("mysql", "(h:3306)", "a/b#%41"),
    ],
)
def test_a_password_with_marks_of_urls_breaks_no_address(
    scheme: str, host: str, encoded: str
) -> None:
    volume = Volume("v", "/", meta=meta_address(f"{scheme}://me:a/b#%41@{host}/1"))
    alone = sync_command("juicefs", STORE, VolumeEnd(volume, "/"), {})
    assert alone.environment["FLUIDPY_DESTINATION"] == f"{scheme}://me:@{host}/1"
    assert alone.environment["META_PASSWORD"] == "a/b#%41"
    two = sync_command("juicefs", VolumeEnd(volume, "/"), VolumeEnd(VOLUME, "/"), {})
    assert two.environment["FLUIDPY_SOURCE"] == f"{scheme}://me:{encoded}@{host}/1"
    assert "META_PASSWORD" not in two.environment
    assert {"a/b#%41", encoded} <= set(two.redacted)


@pytest.mark.parametrize("turned", [False, True])
def test_a_volume_without_keys_is_not_reached_with_those_of_another_store(turned: bool) -> None:
    volume = Volume("v", "/", meta=meta_address(METAURL), storage="s3", bucket="https://b.s3")
    end = VolumeEnd(volume, "/")
    ends = (end, STORE) if turned else (STORE, end)
    with pytest.raises(ValidationError, match="volume v lies in s3 and has no keys") as caught:
        sync_command("juicefs", ends[0], ends[1], {})
    assert "store-secret" not in str(caught.value)
    own = replace(volume, keys={"ACCESS_KEY": "k", "SECRET_KEY": "s"})
    sync_command("juicefs", STORE, VolumeEnd(own, "/"), {})
    sync_command("juicefs", ExternalEnd("s3://public/x"), VolumeEnd(volume, "/"), {})
    sync_command("juicefs", STORE, VolumeEnd(replace(volume, storage="minio"), "/"), {})


@pytest.mark.parametrize("turned", [False, True])
def test_secrets_win_over_variables_of_the_runtime_and_these_over_defaults(turned: bool) -> None:
    variables = {"AWS_SECRET_ACCESS_KEY": "of the runtime", "AWS_REGION": "eu-west-1"}
    end = VolumeEnd(replace(VOLUME, environment=variables), "/")
    ends = (end, STORE) if turned else (STORE, end)
    found = sync_command("juicefs", ends[0], ends[1], {})
    assert found.environment["AWS_SECRET_ACCESS_KEY"] == "store-secret"
    assert found.environment["AWS_REGION"] == "eu-west-1"


@pytest.mark.parametrize("option", ["quiet", "q", "log-level", "dry", "version", "help"])
def test_options_that_would_make_the_result_a_lie_are_refused(option: str) -> None:
    with pytest.raises(ValidationError, match=f"option {option} is set by fluidpy"):
        sync_command("juicefs", STORE, VolumeEnd(VOLUME, "/"), {option: ""})


def test_a_volume_of_the_enterprise_edition_is_named() -> None:
    found = sync_command("juicefs", VolumeEnd(Volume("console", "/"), "/"), STORE, {})
    assert found.arguments[-2] == "jfs://console/"


def test_all_that_is_wrong_is_said_at_once() -> None:
    source = ExternalEnd("sftp://me:hush@host/x", {"secret-key": "store-secret"})
    options = {"worker": "host", "Bad Opt": "", "update": "", "timeout": "1m"}
    with pytest.raises(ValidationError) as caught:
        sync_command("juicefs", source, VolumeEnd(VOLUME, "/../up"), options)
    lines = caught.value.message.splitlines()
    for word in ("has keys in it", "as arguments only", "worker", "Bad Opt", "'..'"):
        assert any(word in line for line in lines), word
    assert len(lines) == 5
    assert "store-secret" not in str(caught.value)


def test_a_store_that_knows_no_such_option_says_which_it_knows() -> None:
    source = ExternalEnd("minio://host/b/", {"token": "store-secret"})
    with pytest.raises(ValidationError, match="minio://; access-key, secret-key do"):
        sync_command("juicefs", source, VolumeEnd(VOLUME, "/"), {})


LOG = """\
2026/11/30 11:04:55 juicefs[1] <INFO>: Prometheus metrics listening on "127.0.0.1:42179" [x@m.go:1]
2026/11/30 11:04:56 juicefs[1] <ERROR>: Failed to copy object a/b: no such key [worker@sync.go:1165]
2026/11/30 11:05:00 juicefs[1] <INFO>: Found: 9, excluded: 1 (2 B), skipped: 1 (1.00 KiB), \
copied: 6 (17.17 MiB), extra: 0 (0 B), failed: 1 [Sync@sync.go:2238]
"""


def test_the_log_says_where_figures_are_and_what_came_of_it() -> None:
    assert figures_at(LOG.splitlines()[0]) == "http://127.0.0.1:42179/metrics"
    assert figures_at(LOG.splitlines()[1]) == ""
    assert result(LOG) == Copied(
        found=9,
        done=7,
        failed=1,
        excluded=1,
        bytes=int(17.17 * 2**20) + 1024,
        failures=(("a/b", "no such key"),),
    )
    assert result("") == Copied()
    older = "<INFO>: Found: 3, skipped: 1, copied: 2 (3 B), failed: 0"
    assert result(older) == Copied(found=3, done=3, bytes=3)


def test_metrics_say_how_far_it_is() -> None:
    lines = {"scanned": "7", "copied": "2", "copied_bytes": "5.883584e+06", "skipped": "1"}
    text = "".join(f'juicefs_sync_{n}{{cmd="sync",pid="1"}} {v}\n' for n, v in lines.items())
    assert figures(text) == Copied(found=7, done=3, bytes=5883584)
    assert figures("") == Copied()
