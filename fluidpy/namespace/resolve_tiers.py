"""Cache tiers out of a runtime's `tieredstore`, whichever kind the runtime is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fluidpy.api.problem import FieldPath, LoadedObject, Problem
from fluidpy.api.quantity import parse_quantity
from fluidpy.api.runtimes.cache import CacheRuntime
from fluidpy.api.runtimes.tiered_store import Level, RuntimeTieredStoreLevel, TieredStore
from fluidpy.cache.tier import DEFAULT_HIGH, DEFAULT_LOW, TierDefinition
from fluidpy.errors import ValidationError
from fluidpy.settings import Settings

MEMORY = "/dev/shm"
"""Where memory levels lie that name no path: Linux's tmpfs for everybody (shm_overview(7))."""


class TierReader:
    """Reads the tiers of one runtime; what is wrong goes to `problems`."""

    def __init__(self, runtime: LoadedObject, settings: Settings, problems: list[Problem]) -> None:
        """`runtime` is any object with levels of a cache."""
        self._runtime, self._settings, self._problems = runtime, settings, problems

    def tiers(self) -> tuple[TierDefinition, ...]:
        """The tiers, fastest first as they are written; none when there are no levels."""
        runtime = self._runtime.object
        if isinstance(runtime, CacheRuntime):
            return tuple(self._cache_runtime(runtime))
        store = getattr(getattr(runtime, "spec", None), "tieredstore", None)
        if not isinstance(store, TieredStore):
            return ()
        at: FieldPath = ("spec", "tieredstore", "levels")
        return tuple(
            tier for i, level in enumerate(store.levels) for tier in self._level(level, (*at, i))
        )

    def _level(self, level: Level, at: FieldPath) -> Iterator[TierDefinition]:
        paths = level.paths or ([MEMORY] if level.mediumtype == "MEM" else [])
        if not paths:
            self._report(at, "has no path", "name the directory that the cache may use")
            return
        quotas = self._quotas(level, len(paths), at)
        if quotas is None:
            return
        for path, quota in zip(paths, quotas, strict=True):
            if not path.startswith("/"):
                self._report((*at, "path"), f"{path!r} is relative", "write an absolute path")
                continue
            yield from self._tier(path, quota, level.mediumtype, level.high, level.low, at)

    def _quotas(self, level: Level, count: int, at: FieldPath) -> list[int | None] | None:
        if level.quotas:
            if len(level.quotas) != count:
                message = f"has {len(level.quotas)} quotas for {count} paths"
                self._report((*at, "quotaList"), message, "write one for each path")
                return None
            try:
                return [parse_quantity(quota) for quota in level.quotas]
            except ValueError as error:
                self._report((*at, "quotaList"), str(error), "")
                return None
        if level.quota is None:
            return [None] * count
        return [level.quota.whole // count] * count

    def _cache_runtime(self, runtime: CacheRuntime) -> Iterator[TierDefinition]:
        worker = runtime.spec.worker
        if worker is None or worker.tiered_store is None:
            return
        for index, level in enumerate(worker.tiered_store.levels):
            at: FieldPath = ("spec", "worker", "tieredStore", "levels", index)
            for path, quota, medium in self._places(level, index):
                yield from self._tier(path, quota, medium, level.high, level.low, at)

    def _places(self, level: RuntimeTieredStoreLevel, index: int) -> list[tuple[str, int, str]]:
        if level.process_memory is not None:
            return [(MEMORY, level.process_memory.quota.whole, "MEM")]
        if level.empty_dir is not None:
            quota = level.empty_dir.quota.whole
            if level.empty_dir.medium == "Memory":
                return [(MEMORY, quota, "MEM")]
            runtime = self._runtime.object
            name = f"{runtime.namespace}.{runtime.name}-{index}"
            return [(str(self._settings.cache_dir / "empty-dir" / name), quota, "SSD")]
        if level.host_path is not None:
            pairs = zip(level.host_path.paths, level.host_path.quotas, strict=False)
            return [(path, quota.whole, "SSD") for path, quota in pairs]
        return []

    def _tier(
        self,
        path: str,
        quota: int | None,
        medium: str,
        high: str | None,
        low: str | None,
        at: FieldPath,
    ) -> Iterator[TierDefinition]:
        try:
            yield TierDefinition.in_directory(
                _own(path),
                self._share(path) if quota is None else quota,
                high=DEFAULT_HIGH if high is None else float(high),
                low=DEFAULT_LOW if low is None else float(low),
                medium=medium,
            )
        except ValidationError as error:
            self._report(at, error.message, error.cure)
        except ValueError:
            message = f"high {high!r} or low {low!r} is not a number"
            self._report(at, message, "write shares of the quota such as '0.95'")

    def _share(self, path: str) -> int:
        """For a level without a quota: a share of the whole file system, which does not vary."""
        place = Path(path)
        while not place.exists() and place != place.parent:
            place = place.parent
        facts = os.statvfs(place)
        return int(facts.f_blocks * facts.f_frsize * self._settings.default_quota_share)

    def _report(self, path: FieldPath, message: str, cure: str) -> None:
        self._problems.append(self._runtime.problem(path, message, cure))


def _own(path: str) -> str:
    """The directory, or, of the tmpfs that all users share, a part that is this user's."""
    normal = os.path.normpath(path)
    return f"{MEMORY}/fluidpy-{os.getuid()}" if normal == MEMORY else normal
