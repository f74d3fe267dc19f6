"""The pool of workers as DataLoads see it: who has a Dataset, who is ready, how each is asked."""

from __future__ import annotations

from fluidpy.control.load_runs import WorkerAccess
from fluidpy.control.pool_worker import PoolWorker
from fluidpy.control.reconciler import Reconciler
from fluidpy.control.worker_pool import WorkerPool
from fluidpy.errors import ObjectNotFoundError


class LoadingWorkers:
    """See `data_loads.LoadPool`."""

    def __init__(self, pool: WorkerPool, reconciler: Reconciler) -> None:
        """Asks these two each time."""
        self._pool, self._reconciler = pool, reconciler

    def members_of(self, dataset: str) -> frozenset[str]:
        """The workers that `namespace/name` is placed on, without those that are draining."""
        placed = self._pool.membership.datasets.get(dataset)
        draining = {one.name for one in self._pool.membership.members if one.draining}
        return frozenset(() if placed is None else placed.members) - draining

    def ready_members_of(self, dataset: str) -> frozenset[str]:
        """Those of them that serve the Dataset as it is declared."""
        members = self.members_of(dataset)
        return frozenset(
            worker.name
            for worker in self._reconciler.workers_of(dataset)
            if worker.name in members and self._serves(worker, dataset)
        )

    def access_to(self, dataset: str, member: str) -> WorkerAccess:
        """How a worker is asked about a Dataset. Raises ObjectNotFoundError."""
        definition = self._reconciler.definitions.get(dataset)
        worker = self._pool.workers.get(member)
        if definition is None or worker is None:
            raise ObjectNotFoundError(
                f"{member} has no Dataset {dataset} any more", cure="The load starts again."
            )
        return WorkerAccess(definition, worker.settings, self._reconciler.engine_of(dataset))

    def _serves(self, worker: PoolWorker, dataset: str) -> bool:
        definition = self._reconciler.definitions.get(dataset)
        readable = self._reconciler.is_readable(dataset)
        return readable and definition is not None and worker.is_ready and worker.serves(definition)
