"""Data operations: targets in the own namespace, schedules, and exactly one of what excludes."""

from __future__ import annotations

from typing import TypeAlias

from fluidpy.api.checks.encrypt_options import check_encrypt_options
from fluidpy.api.checks.findings import Findings, Surroundings
from fluidpy.api.cron import cron_error
from fluidpy.api.operations import (
    DataBackup,
    DataLoad,
    DataMigrate,
    DataProcess,
    DataToMigrate,
    Processor,
)
from fluidpy.api.problem import FieldPath, LoadedObject

Scheduled: TypeAlias = DataLoad | DataMigrate | DataProcess
Operation: TypeAlias = Scheduled | DataBackup
_BACKUP_SCHEMES = ("local:///", "pvc://")
_AFFINITY_ANNOTATION = "affinity.dataflow.fluid.io/labels"
_STALE_ANNOTATION = "data-operation.fluid.io/affinity.labels"
"""Named by Fluid's documents, read by nothing."""


def check_operation(one: LoadedObject, around: Surroundings, findings: Findings) -> None:
    """Everything about one data operation."""
    operation = one.object
    assert isinstance(operation, Operation)
    _check_run_after(one, operation, around, findings)
    if _STALE_ANNOTATION in operation.metadata.annotations:
        reason = f"the annotation that counts is {_AFFINITY_ANNOTATION}"
        findings.ignored(one, ("metadata", "annotations", _STALE_ANNOTATION), reason)
    if isinstance(operation, DataBackup):
        _check_backup(one, operation, findings)
        return
    _check_schedule(one, operation, findings)
    if isinstance(operation, DataLoad):
        _check_load(one, operation, findings)
    elif isinstance(operation, DataMigrate):
        _check_migrate(one, operation, around, findings)
    else:
        _check_process(one, operation, findings)


def _check_schedule(one: LoadedObject, operation: Scheduled, findings: Findings) -> None:
    spec = operation.spec
    path: FieldPath = ("spec", "schedule")
    if spec.policy == "Cron":
        if not spec.schedule:
            cure = 'write a cron expression, such as "0 2 * * *" for two o\'clock each night'
            findings.problem(one, path, "is required with policy Cron", cure)
        elif why := cron_error(spec.schedule):
            cure = 'write minute, hour, day, month and weekday, such as "0 2 * * *"'
            findings.problem(one, path, why, cure)
    elif spec.schedule:
        findings.ignored(one, path, f"the policy is {spec.policy}, not Cron")
    if spec.ttl_seconds_after_finished is not None and spec.policy != "Once":
        reason = f"the policy is {spec.policy}, not Once"
        findings.ignored(one, ("spec", "ttlSecondsAfterFinished"), reason)


def _check_namespace(
    one: LoadedObject, at: FieldPath, namespace: str | None, findings: Findings
) -> None:
    own = one.object.namespace
    path = (*at, "namespace")
    if not namespace:
        findings.problem(one, path, "is required", f"write 'namespace: {own}'")
    elif namespace != own:
        message = f"the Dataset is in namespace '{namespace}', the {one.object.kind} in '{own}'"
        findings.problem(one, path, message, "put both in one namespace")


def _check_load(one: LoadedObject, load: DataLoad, findings: Findings) -> None:
    dataset = load.spec.dataset
    if dataset is None:
        cure = "name the Dataset to load, with name and namespace"
        findings.problem(one, ("spec", "dataset"), "is required", cure)
    else:
        _check_namespace(one, ("spec", "dataset"), dataset.namespace, findings)
    for index, target in enumerate(load.spec.target):
        if not target.path.startswith("/"):
            path = ("spec", "target", index, "path")
            message = "is not a path from the Dataset's root"
            findings.problem(one, path, message, "write it with a '/' in front")


def _check_migrate(
    one: LoadedObject, migrate: DataMigrate, around: Surroundings, findings: Findings
) -> None:
    spec = migrate.spec
    for name, side in (("from", spec.from_), ("to", spec.to)):
        _check_side(one, ("spec", name), side, around, findings)
    if spec.from_.dataset is None and spec.to.dataset is None:
        message = "neither side is a Dataset"
        findings.problem(one, ("spec", "to"), message, "make one side a Dataset")
    if spec.parallelism > 1 and not spec.parallel_options.get("sshSecretName"):
        path: FieldPath = ("spec", "parallelOptions", "sshSecretName")
        message = "is required with parallelism above 1"
        findings.problem(one, path, message, "name the Secret with the SSH keys")
    if "block" in spec.model_fields_set:
        findings.ignored(one, ("spec", "block"), "nothing blocks a Dataset during a migration")


def _check_side(
    one: LoadedObject,
    at: FieldPath,
    side: DataToMigrate,
    around: Surroundings,
    findings: Findings,
) -> None:
    if (side.dataset is None) == (side.external_storage is None):
        message = "has both dataset and externalStorage" if side.dataset else "names nothing"
        cure = "give exactly one of dataset and externalStorage"
        findings.problem(one, at, message, cure)
    if side.dataset is not None:
        _check_namespace(one, (*at, "dataset"), side.dataset.namespace, findings)
    if side.external_storage is not None:
        path = (*at, "externalStorage")
        if "://" not in side.external_storage.uri:
            cure = "write it like s3://bucket/prefix or pvc://CLAIM/DIR"
            findings.problem(one, (*path, "uri"), "is not a URL", cure)
        options = side.external_storage.encrypt_options
        check_encrypt_options(one, (*path, "encryptOptions"), options, {}, around, findings)


def _check_backup(one: LoadedObject, backup: DataBackup, findings: Findings) -> None:
    if not backup.spec.dataset:
        message = "is required"
        findings.problem(one, ("spec", "dataset"), message, "name the Dataset to back up")
    path: FieldPath = ("spec", "backupPath")
    target = backup.spec.backup_path
    if not target.startswith(_BACKUP_SCHEMES) or target == "pvc://":
        message = "must be a path of a node or a claim" if target else "is required"
        findings.problem(one, path, message, "write local:///DIR or pvc://CLAIM/DIR")


def _check_process(one: LoadedObject, process: DataProcess, findings: Findings) -> None:
    spec = process.spec
    _check_namespace(one, ("spec", "dataset"), spec.dataset.namespace, findings)
    if not spec.dataset.mount_path.startswith("/"):
        path: FieldPath = ("spec", "dataset", "mountPath")
        findings.problem(one, path, "is not absolute", "write it with a '/' in front")
    if (spec.processor.job is None) == (spec.processor.script is None):
        message = "has both job and script" if spec.processor.job else "has neither job nor script"
        cure = "give exactly one of them"
        findings.problem(one, ("spec", "processor"), message, cure)
    for path, mount_path in _mount_paths(spec.processor):
        if mount_path.rstrip("/") == spec.dataset.mount_path.rstrip("/"):
            message = f"'{mount_path}' is where the Dataset appears too"
            findings.problem(one, path, message, "give one of them another path")


def _mount_paths(processor: Processor) -> list[tuple[FieldPath, str]]:
    """Every mountPath of the processor's containers and where it is given."""
    found: list[tuple[FieldPath, str]] = []
    at: FieldPath = ("spec", "processor")
    lists: list[tuple[FieldPath, object]] = []
    if processor.script is not None:
        lists.append(((*at, "script", "volumeMounts"), processor.script.volume_mounts))
    if processor.job is not None:
        for group in ("containers", "initContainers"):
            containers = (processor.job.pod_spec or {}).get(group)
            for index, one in enumerate(containers if isinstance(containers, list) else []):
                if isinstance(one, dict):
                    path = (*at, "job", "podSpec", group, index, "volumeMounts")
                    lists.append((path, one.get("volumeMounts")))
    for path, mounts in lists:
        for index, mount in enumerate(mounts if isinstance(mounts, list) else []):
            if isinstance(mount, dict) and isinstance(mount.get("mountPath"), str):
                found.append(((*path, index, "mountPath"), mount["mountPath"]))
    return found


def _predecessor(operation: Operation) -> tuple[str, str, str] | None:
    ref = operation.spec.run_after
    return (ref.kind, ref.namespace or operation.namespace, ref.name) if ref else None


def _check_run_after(
    one: LoadedObject, operation: Operation, around: Surroundings, findings: Findings
) -> None:
    """No operation waits for itself, directly or through others of the files."""
    own: tuple[str, str, str] = (operation.kind, operation.namespace, operation.name)
    chain: list[tuple[str, str, str]] = [own]
    after = _predecessor(operation)
    while after is not None and after not in chain:
        chain.append(after)
        found = around.by_key.get(after)
        after = (
            _predecessor(found.object) if found and isinstance(found.object, Operation) else None
        )
    if after == own:
        names = " after ".join(f"{kind} '{name}'" for kind, _, name in [*chain, own])
        message = f"the operations wait for each other: {names}"
        findings.problem(one, ("spec", "runAfter"), message, "break the circle")
