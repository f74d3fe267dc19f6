"""What a runtime says of itself: counts, phases, and which of its settings count here. Pure.

fluidpy's own engine serves every kind of runtime. Where another engine was asked for, the
condition `EngineSubstituted` says so, and which settings were honoured and which ignored, by the
names of their fields; values may be secrets and are not repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fluidpy.api.conditions import RuntimeCondition, RuntimePhase
from fluidpy.api.dataset import Mount
from fluidpy.api.metadata import Resource
from fluidpy.api.model import Model
from fluidpy.api.runtimes.cache import CacheRuntime
from fluidpy.api.runtimes.status import (
    CacheRuntimeStatus,
    RuntimeComponentStatus,
    RuntimeStatus,
)
from fluidpy.api.runtimes.thin import ThinRuntime
from fluidpy.control.conditions import set_condition, status_of
from fluidpy.control.moments import duration, timestamp

NATIVE_CLASS: Final = "fluidpy"
"""The CacheRuntimeClass of fluidpy's own engine."""

IMAGE_NOT_RUN: Final = "ImageNotRun"
"""A condition of a ThinRuntime whose image a plug-in's program stands for."""

SUBSTITUTED: Final = "EngineSubstituted"

_HONOURED: Final = (
    "spec.replicas",
    "spec.tieredstore.levels.mediumtype",
    "spec.tieredstore.levels.path",
    "spec.tieredstore.levels.quota",
    "spec.tieredstore.levels.quotaList",
    "spec.tieredstore.levels.high",
    "spec.tieredstore.levels.low",
    "spec.tieredstore.levels.volumeType",
    "spec.worker.replicas",
    "spec.data.replicas",
    "spec.worker.tieredStore.levels",
    "spec.management.metadataSyncPolicy.autoSync",
    "spec.runtimeClassName",
)
"""Settings that fluidpy's own engine follows, whatever the kind; a prefix stands for all in it."""


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """What is known of a runtime: workers wanted, placed, ready; mounts wanted and ready.

    `setup_seconds` is the time from creation to the first worker that was ready.
    """

    desired_workers: int
    current_workers: int
    ready_workers: int
    desired_mounts: int = 0
    ready_mounts: int = 0
    setup_seconds: float | None = None
    cache_states: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    mount_time: float | None = None
    reason: str = ""
    """Why workers are not ready, for people."""
    engine: str = ""
    """The plug-in that serves; empty for fluidpy's own engine."""
    missing: str = ""
    """Why fluidpy's own engine serves in place of the one that was asked for."""
    image: str = ""
    """The image that is declared where a plug-in's program runs in its place."""


def wanted_workers(runtime: Resource) -> int:
    """How many workers a runtime declares, by the rules of its kind; one if it says nothing.

    A ThinRuntime without a worker of its own still needs one here: somebody has to read.
    """
    spec: Any = getattr(runtime, "spec", None)
    worker = getattr(spec, "worker", None)
    if isinstance(runtime, CacheRuntime):
        return worker.replicas if worker is not None and not worker.disabled else 1
    own: int | None = getattr(spec, "replicas", None)
    of_worker: int | None = getattr(worker, "replicas", None)
    wanted = own if own is not None else of_worker
    if isinstance(runtime, ThinRuntime):
        return max(1, wanted or 1)
    return 1 if wanted is None else wanted


def is_native(runtime: Resource) -> bool:
    """Whether fluidpy's own engine is what the runtime asks for."""
    return isinstance(runtime, CacheRuntime) and runtime.spec.runtime_class_name == NATIVE_CLASS


def runtime_status(
    runtime: Resource, facts: RuntimeFacts, now: float
) -> RuntimeStatus | CacheRuntimeStatus:
    """The status of a runtime of any kind, following from its last one and the facts."""
    last: RuntimeStatus | CacheRuntimeStatus = runtime.status  # type: ignore[attr-defined]
    conditions = _conditions(runtime, last.conditions, facts, now)
    if isinstance(last, CacheRuntimeStatus):
        return _cache_runtime_status(runtime, last, facts, conditions)
    return _engine_status(runtime, last, facts, conditions)


def phase_of(desired: int, ready: int) -> RuntimePhase:
    """Fluid's phase of a component."""
    if ready >= desired:
        return "Ready"
    return "PartialReady" if ready else "NotReady"


def _engine_status(
    runtime: Resource,
    last: RuntimeStatus,
    facts: RuntimeFacts,
    conditions: list[RuntimeCondition],
) -> RuntimeStatus:
    phase = phase_of(facts.desired_workers, facts.ready_workers)
    return RuntimeStatus(
        worker_phase=phase,
        worker_reason=facts.reason if phase != "Ready" and facts.reason else None,
        # The engine has no master: what there is of it is ready (Fluid's readers ask for it).
        master_phase="Ready" if facts.ready_workers else "NotReady",
        fuse_phase=phase_of(facts.desired_mounts, facts.ready_mounts),
        desired_worker_number_scheduled=facts.desired_workers,
        current_worker_number_scheduled=facts.current_workers,
        worker_number_ready=facts.ready_workers,
        worker_number_available=facts.ready_workers,
        worker_number_unavailable=max(0, facts.desired_workers - facts.ready_workers),
        desired_fuse_number_scheduled=facts.desired_mounts,
        current_fuse_number_scheduled=facts.desired_mounts,
        fuse_number_ready=facts.ready_mounts,
        fuse_number_available=facts.ready_mounts,
        fuse_number_unavailable=max(0, facts.desired_mounts - facts.ready_mounts),
        setup_duration=_setup(last.setup_duration, facts),
        conditions=conditions,
        cache_states=dict(facts.cache_states),
        mount_time=timestamp(facts.mount_time) if facts.mount_time is not None else last.mount_time,
        mounts=[mount.model_copy(update={"options": {}}) for mount in facts.mounts],
        observed_generation=runtime.metadata.generation,
    )


def _cache_runtime_status(
    runtime: Resource,
    last: CacheRuntimeStatus,
    facts: RuntimeFacts,
    conditions: list[RuntimeCondition],
) -> CacheRuntimeStatus:
    return CacheRuntimeStatus(
        setup_duration=_setup(last.setup_duration, facts),
        conditions=conditions,
        mount_time=timestamp(facts.mount_time) if facts.mount_time is not None else last.mount_time,
        worker=_component(
            facts.desired_workers, facts.current_workers, facts.ready_workers, facts.reason
        ),
        client=_component(facts.desired_mounts, facts.desired_mounts, facts.ready_mounts, ""),
        observed_generation=runtime.metadata.generation,
    )


def _component(desired: int, current: int, ready: int, why: str) -> RuntimeComponentStatus:
    phase = phase_of(desired, ready)
    return RuntimeComponentStatus(
        phase=phase,
        reason="WorkersNotReady" if phase != "Ready" and why else None,
        message=why if phase != "Ready" and why else None,
        desired_replicas=desired,
        current_replicas=current,
        ready_replicas=ready,
        available_replicas=ready,
        unavailable_replicas=max(0, desired - ready),
    )


def _setup(last: str | None, facts: RuntimeFacts) -> str | None:
    """Set once: later restarts are not the setup."""
    return last or (duration(facts.setup_seconds) if facts.setup_seconds is not None else None)


def _conditions(
    runtime: Resource, last: Sequence[RuntimeCondition], facts: RuntimeFacts, now: float
) -> list[RuntimeCondition]:
    stale = {SUBSTITUTED} if facts.engine else set()
    stale |= set() if facts.engine and facts.image else {IMAGE_NOT_RUN}
    conditions: Sequence[RuntimeCondition] = [one for one in last if one.type not in stale]
    before = _placed_before(runtime)
    for kind, holds, reason, message in _findings(runtime, facts, before):
        new = RuntimeCondition(
            type=kind,
            status=status_of(holds),
            reason=reason,
            message=message,
            last_probe_time=timestamp(now),
            last_transition_time=timestamp(now),
            observed_generation=runtime.metadata.generation,
        )
        if kind.startswith("WorkersScaled"):  # each time is a transition
            conditions = [one for one in conditions if one.type != kind]
        conditions = set_condition(conditions, new)
    return list(conditions)


def _placed_before(runtime: Resource) -> int | None:
    """Workers that the last status counted; None before the first."""
    status = getattr(runtime, "status", None)
    if isinstance(status, CacheRuntimeStatus):
        return status.worker.current_replicas if status.worker is not None else None
    if isinstance(status, RuntimeStatus) and status.worker_phase:
        return status.current_worker_number_scheduled
    return None


def _findings(
    runtime: Resource, facts: RuntimeFacts, before: int | None
) -> Iterator[tuple[str, bool, str, str]]:
    """Type, status, reason and message of each condition; reasons are Fluid's, in one word."""
    yield (
        "WorkersInitialized",
        facts.current_workers > 0 or facts.desired_workers == 0,
        "WorkersInitialized" if facts.current_workers else "WorkersNotInitialized",
        f"{facts.current_workers} of {facts.desired_workers} workers are placed",
    )
    ready = facts.ready_workers >= facts.desired_workers
    message = f"{facts.ready_workers} of {facts.desired_workers} workers are ready"
    if not ready and facts.reason:
        message += f": {facts.reason}"
    yield "WorkersReady", ready, "WorkersReady" if ready else "WorkersNotReady", message
    if before is not None and facts.current_workers > before:
        words = f"from {before} to {facts.current_workers} workers"
        yield "WorkersScaledOut", True, "WorkersScaledOut", words
    elif before is not None and facts.current_workers < before:
        words = f"from {before} to {facts.current_workers} workers"
        yield "WorkersScaledIn", True, "WorkersScaledIn", words
    if facts.engine and facts.image:
        message = (
            f"the image {facts.image} is not run on one machine; the plug-in {facts.engine} runs "
            "its own program in its place"
        )
        yield IMAGE_NOT_RUN, True, "ServedByPlugin", message
    if not is_native(runtime) and not facts.engine:
        yield SUBSTITUTED, True, "ServedByFluidpy", substitution(runtime, facts.missing)


def substitution(runtime: Resource, missing: str = "") -> str:
    """What is said of a runtime whose engine is not there: why, and what of its settings counts."""
    honoured, ignored = settings_by_effect(runtime)
    why = f": {missing}" if missing else ""
    return (
        f"fluidpy's own engine serves in place of the {runtime.kind}{why}; "
        f"honoured: {', '.join(honoured) or 'nothing was set'}; "
        f"ignored: {', '.join(ignored) or 'nothing'}"
    )


def settings_by_effect(runtime: Resource) -> tuple[list[str], list[str]]:
    """The settings that a runtime gives, honoured and ignored, by the names of their fields.

    Lists stand for all their items. Keys of maps (`spec.properties`) are named, values never.
    """
    honoured: dict[str, None] = {}
    ignored: dict[str, None] = {}
    spec = getattr(runtime, "spec", None)
    for path in _given(spec, "spec") if isinstance(spec, Model) else ():
        counts = any(path == one or path.startswith(f"{one}.") for one in _HONOURED)
        (honoured if counts else ignored)[path] = None
    return list(honoured), list(ignored)


def _given(value: object, path: str) -> Iterator[str]:
    if isinstance(value, Model):
        fields = type(value).model_fields
        for name in fields:
            if name in value.model_fields_set:
                yield from _given(getattr(value, name), f"{path}.{fields[name].alias or name}")
    elif isinstance(value, list) and any(isinstance(item, Model) for item in value):
        for item in value:
            yield from _given(item, path)
    elif isinstance(value, dict) and value and all(isinstance(v, str) for v in value.values()):
        yield from (f"{path}[{key}]" for key in value)
    else:
        yield path
