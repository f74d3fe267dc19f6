"""Runtimes: cache levels that add up, and fields that have no effect."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fluidpy.api.checks.findings import Findings
from fluidpy.api.problem import FieldPath, LoadedObject
from fluidpy.api.quantity import parse_quantity
from fluidpy.api.runtimes.cache import CacheRuntime, CacheRuntimeClass
from fluidpy.api.runtimes.components import CLEAN_POLICIES
from fluidpy.api.runtimes.jindo import JindoRuntime
from fluidpy.api.runtimes.thin import ThinRuntime, ThinRuntimeProfile
from fluidpy.api.runtimes.tiered_store import Level, RuntimeTieredStoreLevel, TieredStore
from fluidpy.api.schema_problems import suggestion


def check_runtime(one: LoadedObject, findings: Findings) -> None:
    """Everything about one runtime, profile or class."""
    resource = one.object
    if isinstance(resource, CacheRuntimeClass):
        _check_class(one, resource, findings)
        return
    if isinstance(resource, CacheRuntime):
        _check_cache_runtime(one, resource, findings)
        return
    spec: Any = getattr(resource, "spec", None)
    _check_clean_policy(one, spec, findings)
    if isinstance(resource, ThinRuntime | ThinRuntimeProfile):
        _check_thin(one, resource, findings)
    store: TieredStore | None = getattr(spec, "tieredstore", None)
    if store is not None and not isinstance(resource, ThinRuntime):
        for index, level in enumerate(store.levels):
            check_level(one, ("spec", "tieredstore", "levels", index), level, findings)
    if isinstance(resource, JindoRuntime):
        _warn_jindo(one, resource, findings)


def _check_clean_policy(one: LoadedObject, spec: Any, findings: Findings) -> None:
    policy = getattr(getattr(spec, "fuse", None), "clean_policy", "")
    path: FieldPath = ("spec", "fuse", "cleanPolicy")
    if policy not in CLEAN_POLICIES:
        hint = suggestion(policy, CLEAN_POLICIES)
        findings.problem(one, path, f"'{policy[:64]}' is no clean policy", hint)
    elif policy == "OnFuseChanged" and one.object.kind != "JuiceFSRuntime":
        message = "OnFuseChanged has an effect with JuiceFSRuntime only"
        findings.warning(one, path, message, "use OnRuntimeDeleted or OnDemand")


def check_level(one: LoadedObject, at: FieldPath, level: Level, findings: Findings) -> None:
    """One level of a `tieredstore`."""
    if level.quota is None and not level.quota_list:
        cure = "give quota: 10Gi for the level, or quotaList: 5Gi,5Gi with one for each path"
        findings.problem(one, (*at, "quota"), "the level has no quota", cure)
    if level.quota is not None and level.quota.exact <= 0:
        findings.problem(one, (*at, "quota"), "must be above zero", "write it like 10Gi")
    if level.quota_list:
        _check_quota_list(one, at, level, findings)
    for index, path in enumerate(level.paths):
        if not path.startswith("/"):
            message = f"path {index + 1} of the level is not absolute"
            findings.problem(one, (*at, "path"), message, "write paths that start with '/'")
    if len(set(level.paths)) < len(level.paths):
        findings.problem(one, (*at, "path"), "names a directory twice", "name each once")
    if level.volume_source is not None and level.volume_type == "hostPath":
        findings.ignored(one, (*at, "volumeSource"), "it belongs to volumeType emptyDir")
    check_watermarks(one, at, level.high, level.low, findings)


def _check_quota_list(one: LoadedObject, at: FieldPath, level: Level, findings: Findings) -> None:
    path = (*at, "quotaList")
    for index, text in enumerate(level.quotas):
        try:
            positive = parse_quantity(text) > 0
        except ValueError as error:
            message, _, cure = str(error).partition("; ")
            findings.problem(one, path, message, cure)
        else:
            if not positive:
                message = f"quota {index + 1} must be above zero"
                findings.problem(one, path, message, "write it like 10Gi")
    if level.paths and len(level.quotas) != len(level.paths):
        message = f"has {len(level.quotas)} quotas for {len(level.paths)} paths"
        findings.problem(one, path, message, "give one quota for each path, joined by commas")


def check_watermarks(
    one: LoadedObject, at: FieldPath, high: str | None, low: str | None, findings: Findings
) -> None:
    """Two shares from 0 to 1, `high` above `low`."""
    shares = {}
    for name, text in (("high", high), ("low", low)):
        if text is None:
            continue
        try:
            share = Fraction(text)
        except (ValueError, ZeroDivisionError):
            findings.problem(one, (*at, name), "is not a number", 'write a share such as "0.95"')
            continue
        if not 0 <= share <= 1:
            message = "must be a share from 0 to 1"
            findings.problem(one, (*at, name), message, 'write "0.95" for 95 percent')
        else:
            shares[name] = share
    if len(shares) == 2 and shares["high"] <= shares["low"]:
        message = f"high ({high}) must be above low ({low})"
        findings.problem(one, (*at, "high"), message, "eviction starts at high and ends at low")


def _check_thin(
    one: LoadedObject, resource: ThinRuntime | ThinRuntimeProfile, findings: Findings
) -> None:
    fuse = resource.spec.fuse
    if fuse is not None and fuse.lifecycle and "postStart" in fuse.lifecycle:
        path: FieldPath = ("spec", "fuse", "lifecycle", "postStart")
        findings.problem(one, path, "is not allowed", "leave it out; only preStop may be given")
    if isinstance(resource, ThinRuntime) and resource.spec.tieredstore is not None:
        for index in range(len(resource.spec.tieredstore.levels)):
            at: FieldPath = ("spec", "tieredstore", "levels", index)
            if index:
                findings.ignored(one, at, "a ThinRuntime uses the first level only")
                continue
            for name in ("quota", "quotaList", "high", "low"):
                if one.has((*at, name)):
                    reason = "a ThinRuntime uses the path of its level only"
                    findings.ignored(one, (*at, name), reason)


def _warn_jindo(one: LoadedObject, resource: JindoRuntime, findings: Findings) -> None:
    spec = resource.spec
    places: list[tuple[FieldPath, Any]] = [(("spec",), spec)]
    for name in ("master", "worker", "fuse"):
        places.append((("spec", name), getattr(spec, name)))
    for path, part in places:
        if part is not None and part.labels:
            message = "is deprecated"
            findings.warning(one, (*path, "labels"), message, "use podMetadata.labels")
    if spec.fuse is not None and spec.fuse.metrics is not None:
        target = spec.fuse.metrics.scrape_target
        allowed = ("All", "None", "MountPod", "Sidecar", "")
        for word in (target or "").split(","):
            if word.strip() not in allowed:
                at: FieldPath = ("spec", "fuse", "metrics", "scrapeTarget")
                message = f"'{word.strip()[:64]}' is no scrape target"
                findings.problem(one, at, message, suggestion(word.strip(), allowed))


def _check_cache_runtime(one: LoadedObject, runtime: CacheRuntime, findings: Findings) -> None:
    for name, part in (("worker", runtime.spec.worker), ("client", runtime.spec.client)):
        if part is None or part.tiered_store is None:
            continue
        at: FieldPath = ("spec", name, "tieredStore", "levels")
        memory = 0
        for index, level in enumerate(part.tiered_store.levels):
            _check_runtime_level(one, (*at, index), level, findings)
            memory += level.process_memory is not None
            if level.process_memory is not None and memory == 2:
                message = "is the second level in process memory"
                findings.problem(one, (*at, index), message, "join the two into one")


def _check_runtime_level(
    one: LoadedObject, at: FieldPath, level: RuntimeTieredStoreLevel, findings: Findings
) -> None:
    given = [
        name
        for name, part in (
            ("processMemory", level.process_memory),
            ("emptyDir", level.empty_dir),
            ("hostPath", level.host_path),
        )
        if part is not None
    ]
    if len(given) != 1:
        message = f"has {' and '.join(given)}" if given else "has no medium"
        cure = "give exactly one of processMemory, emptyDir, hostPath"
        findings.problem(one, at, message, cure)
    host = level.host_path
    if host is not None:
        if len(host.paths) != len(host.quotas):
            message = f"has {len(host.quotas)} quotas for {len(host.paths)} paths"
            cure = "give one quota for each path"
            findings.problem(one, (*at, "hostPath", "quotas"), message, cure)
        for index, path in enumerate(host.paths):
            if not path.startswith("/"):
                place = (*at, "hostPath", "paths", index)
                findings.problem(one, place, "is not absolute", "write a path from '/' on")
    check_watermarks(one, at, level.high, level.low, findings)


def _check_class(one: LoadedObject, runtime_class: CacheRuntimeClass, findings: Findings) -> None:
    seen: set[str] = set()
    for index, operation in enumerate(runtime_class.data_operation_specs):
        at: FieldPath = ("dataOperationSpecs", index)
        if not operation.command and not operation.args:
            cure = "give command, args or both"
            findings.problem(one, at, "has neither command nor args", cure)
        if operation.name in seen:
            message = f"{operation.name} is given twice"
            findings.problem(one, (*at, "name"), message, "keep one of them")
        seen.add(operation.name)
