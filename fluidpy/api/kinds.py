"""The registry of kinds: class, names, scope and the columns that `get` prints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fluidpy.api.dataset import Dataset
from fluidpy.api.metadata import API_VERSION, Resource
from fluidpy.api.operations import DataBackup, DataLoad, DataMigrate, DataProcess
from fluidpy.api.runtimes.alluxio import AlluxioRuntime
from fluidpy.api.runtimes.cache import CacheRuntime, CacheRuntimeClass
from fluidpy.api.runtimes.efc import EFCRuntime
from fluidpy.api.runtimes.jindo import JindoRuntime
from fluidpy.api.runtimes.juicefs import JuiceFSRuntime
from fluidpy.api.runtimes.thin import ThinRuntime, ThinRuntimeProfile
from fluidpy.api.runtimes.vineyard import VineyardRuntime
from fluidpy.api.secret import ConfigMap, PersistentVolumeClaim, Secret

REMOVED_KINDS = {
    "GooseFSRuntime": "was removed from Fluid in June 2026",
}
"""Kinds that old documents name, and what became of them."""


@dataclass(frozen=True, slots=True)
class Column:
    """A printed column: its title, and where its value lies (`.status.phase`)."""

    title: str
    json_path: str
    wide: bool = False
    """Whether it is printed with `-o wide` only."""


@dataclass(frozen=True, slots=True)
class KindInfo:
    """What there is to know of a kind besides its fields."""

    model: type[Resource]
    plural: str
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    columns: tuple[Column, ...] = ()
    api_version: str = API_VERSION
    status_subresource: bool = True
    scalable: bool = False
    """Whether it has Kubernetes' scale subresource (`.spec.replicas`)."""
    in_category: bool = True
    """Whether `kubectl get fluid` lists it."""

    @property
    def kind(self) -> str:
        """The name of the kind, such as `Dataset`."""
        return self.model.__name__


_AGE = Column("Age", ".metadata.creationTimestamp")


def _component(title: str, field: str) -> tuple[Column, ...]:
    lower = field.lower()
    return (
        Column(f"Ready {title}s", f".status.{lower}NumberReady"),
        Column(f"Desired {title}s", f".status.desired{field}NumberScheduled"),
        Column(f"{title} Phase", f".status.{lower}Phase"),
    )


_MASTERS = _component("Master", "Master")
_WORKERS = _component("Worker", "Worker")
_FUSES = _component("Fuse", "Fuse")
_GATEWAY = Column("API Gateway", ".status.apiGateway.endpoint", wide=True)
_DATASET = Column("Dataset", ".spec.dataset.name")
_PHASE = Column("Phase", ".status.phase")
_DURATION = Column("Duration", ".status.duration")
_DATASET_COLUMNS = (
    Column("Ufs Total Size", ".status.ufsTotal"),
    Column("Cached", ".status.cacheStates.cached"),
    Column("Cache Capacity", ".status.cacheStates.cacheCapacity"),
    Column("Cached Percentage", ".status.cacheStates.cachedPercentage"),
    _PHASE,
    Column("HCFS URL", ".status.hcfs.endpoint", wide=True),
    Column("TOTAL FILES", ".status.fileNum", wide=True),
    Column("CACHE HIT RATIO", ".status.cacheStates.cacheHitRatio", wide=True),
    _AGE,
)
_BACKUP_COLUMNS = (
    Column("Dataset", ".spec.dataset"),
    _PHASE,
    Column("Path", ".status.infos.BackupLocationPath"),
    Column("NodeName", ".status.infos.BackupLocationNodeName"),
    _DURATION,
    _AGE,
)
_OPERATION_COLUMNS = (_DATASET, _PHASE, _AGE, _DURATION)
_ENGINE_COLUMNS = (*_MASTERS, *_WORKERS, *_FUSES, _AGE)
_GATEWAY_COLUMNS = (*_MASTERS, *_WORKERS, *_FUSES, _GATEWAY, _AGE)

_FLUID = (
    KindInfo(Dataset, "datasets", ("dataset",), columns=_DATASET_COLUMNS),
    KindInfo(
        AlluxioRuntime, "alluxioruntimes", ("alluxio",), columns=_GATEWAY_COLUMNS, scalable=True
    ),
    KindInfo(JindoRuntime, "jindoruntimes", ("jindo",), columns=_ENGINE_COLUMNS, scalable=True),
    KindInfo(
        JuiceFSRuntime,
        "juicefsruntimes",
        ("juicefs",),
        columns=(*_WORKERS, *_FUSES, _AGE),
        scalable=True,
    ),
    KindInfo(EFCRuntime, "efcruntimes", ("efc",), columns=_ENGINE_COLUMNS, scalable=True),
    KindInfo(ThinRuntime, "thinruntimes", in_category=False),
    KindInfo(ThinRuntimeProfile, "thinruntimeprofiles", namespaced=False, in_category=False),
    KindInfo(
        VineyardRuntime, "vineyardruntimes", ("v6d",), columns=_GATEWAY_COLUMNS, scalable=True
    ),
    KindInfo(
        CacheRuntime,
        "cacheruntimes",
        # Fluid prints .status.phase, which a CacheRuntime has not; the workers' phase says it.
        columns=(_AGE, Column("Status", ".status.worker.phase")),
    ),
    KindInfo(CacheRuntimeClass, "cacheruntimeclasses", namespaced=False, status_subresource=False),
    KindInfo(DataLoad, "dataloads", ("load",), columns=_OPERATION_COLUMNS),
    KindInfo(DataMigrate, "datamigrates", ("migrate",), columns=(_PHASE, _AGE, _DURATION)),
    KindInfo(DataBackup, "databackups", ("backup",), columns=_BACKUP_COLUMNS),
    KindInfo(DataProcess, "dataprocesses", columns=_OPERATION_COLUMNS, in_category=False),
)
_CORE = (
    KindInfo(Secret, "secrets", api_version="v1", status_subresource=False, in_category=False),
    KindInfo(
        ConfigMap,
        "configmaps",
        ("cm",),
        api_version="v1",
        status_subresource=False,
        in_category=False,
    ),
    KindInfo(
        PersistentVolumeClaim,
        "persistentvolumeclaims",
        ("pvc",),
        api_version="v1",
        in_category=False,
    ),
)

FLUID_KINDS: dict[str, KindInfo] = {info.kind: info for info in _FLUID}
"""The fourteen kinds of `data.fluid.io/v1alpha1` by name."""

KINDS: dict[str, KindInfo] = {info.kind: info for info in (*_FLUID, *_CORE)}
"""Every kind that may stand in a file, the three of core `v1` too."""


@cache
def _spellings() -> dict[str, KindInfo]:
    found: dict[str, KindInfo] = {}
    for info in KINDS.values():
        group = info.api_version.partition("/")[0] if "/" in info.api_version else ""
        for name in (info.kind.lower(), info.plural, *info.short_names):
            found[name] = info
            if group:
                found[f"{name}.{group}"] = info
    return found


def find_kind(name: str) -> KindInfo | None:
    """The kind a user means by a name: kind, plural, short name, any with `.data.fluid.io`."""
    return _spellings().get(name.lower())


def key_of(resource: Resource) -> tuple[str, str, str]:
    """What makes an object unique: kind, namespace (`""` for kinds of the whole cluster), name."""
    namespaced = KINDS[resource.kind].namespaced
    return resource.kind, resource.namespace if namespaced else "", resource.name
