"""What is seen of a runtime."""

from __future__ import annotations

from fluidpy.api.conditions import RuntimeCondition, RuntimePhase
from fluidpy.api.dataset import Mount
from fluidpy.api.model import (
    Int32,
    Int64,
    Model,
    OpenMapping,
    StringMap,
    Timestamp,
    defaulted,
    mapping,
    optional,
    sequence,
)


class APIGatewayStatus(Model):
    """Where the engine's HTTP gateway answers."""

    endpoint: str | None = optional("Host and port.")


class RuntimeStatus(Model):
    """State of a runtime of any kind but CacheRuntime; numbers count pods or processes."""

    value_file: str | None = optional("Where the rendered values lie.")
    master_phase: RuntimePhase = defaulted("", "State of the masters.")
    master_reason: str | None = optional("Why the masters are in that state.")
    worker_phase: RuntimePhase = defaulted("", "State of the workers.")
    worker_reason: str | None = optional("Why the workers are in that state.")
    fuse_phase: RuntimePhase = defaulted("", "State of the FUSE clients.")
    fuse_reason: str | None = optional("Why the FUSE clients are in that state.")
    desired_master_number_scheduled: Int32 = defaulted(0, "Masters wanted.")
    current_master_number_scheduled: Int32 = defaulted(0, "Masters placed.")
    master_number_ready: Int32 | None = optional("Masters ready.")
    desired_worker_number_scheduled: Int32 = defaulted(0, "Workers wanted.")
    current_worker_number_scheduled: Int32 = defaulted(0, "Workers placed.")
    worker_number_ready: Int32 | None = optional("Workers ready.")
    worker_number_available: Int32 | None = optional("Workers in service.")
    worker_number_unavailable: Int32 | None = optional("Workers wanted and not in service.")
    desired_fuse_number_scheduled: Int32 = defaulted(0, "FUSE clients wanted.")
    current_fuse_number_scheduled: Int32 = defaulted(0, "FUSE clients placed.")
    fuse_number_ready: Int32 | None = optional("FUSE clients ready.")
    fuse_number_available: Int32 | None = optional("FUSE clients in service.")
    fuse_number_unavailable: Int32 | None = optional("FUSE clients wanted and not in service.")
    setup_duration: str | None = optional("Time it took to set up, such as 1m30s.")
    conditions: list[RuntimeCondition] = sequence("State in detail.")
    cache_states: StringMap = mapping("Figures of the cache, such as cached and cacheCapacity.")
    selector: str | None = optional("Label selector of the workers, for scaling.")
    api_gateway: APIGatewayStatus | None = optional("The engine's HTTP gateway.")
    mount_time: Timestamp | None = optional("When the sources were last mounted.")
    mounts: list[Mount] = sequence("Mounts that are served.")
    cache_affinity: OpenMapping | None = optional("Nodes that may hold the cache.")
    observed_generation: Int64 | None = optional("Generation of the spec that is carried out.")


class RuntimeComponentStatus(Model):
    """State of one component of a CacheRuntime."""

    phase: RuntimePhase = defaulted("", "State of the component.")
    reason: str | None = optional("Why it is in that state, as one word.")
    message: str | None = optional("Why it is in that state, for people.")
    desired_replicas: Int32 = defaulted(0, "Replicas wanted.")
    current_replicas: Int32 = defaulted(0, "Replicas placed.")
    ready_replicas: Int32 = defaulted(0, "Replicas ready.")
    available_replicas: Int32 = defaulted(0, "Replicas in service.")
    unavailable_replicas: Int32 = defaulted(0, "Replicas wanted and not in service.")


class CacheRuntimeStatus(Model):
    """State of a CacheRuntime."""

    value_file: str | None = optional("Where the rendered values lie.")
    setup_duration: str | None = optional("Time it took to set up, such as 1m30s.")
    conditions: list[RuntimeCondition] = sequence("State in detail.")
    selector: str | None = optional("Label selector of the workers, for scaling.")
    cache_affinity: OpenMapping | None = optional("Nodes that may hold the cache.")
    mount_time: Timestamp | None = optional("When the sources were last mounted.")
    master: RuntimeComponentStatus | None = optional("The masters.")
    worker: RuntimeComponentStatus | None = optional("The workers.")
    client: RuntimeComponentStatus | None = optional("The clients.")
    observed_generation: Int64 | None = optional("Generation of the spec that is carried out.")
