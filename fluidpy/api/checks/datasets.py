"""Datasets: mounts that can stand in one tree, options set once, paths and URLs that make sense."""

from __future__ import annotations

import re

from fluidpy.api.checks.encrypt_options import check_encrypt_options
from fluidpy.api.checks.findings import Findings, Surroundings
from fluidpy.api.dataset import Dataset, Mount
from fluidpy.api.problem import FieldPath, LoadedObject

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://.*")
_HOST_PATH = re.compile(r"[^/:\s]+(?::\d+)?:/.*")
"""`host:/export`, as NFS and GlusterFS write a source."""
_SINGLE_MOUNT_RUNTIMES = ("JuiceFSRuntime", "EFCRuntime")
_VERBATIM_RUNTIMES = ("ThinRuntime", "CacheRuntime")
_BACKUP_SCHEMES = ("local://", "pvc://")


def check_dataset(one: LoadedObject, around: Surroundings, findings: Findings) -> None:
    """Everything about one Dataset."""
    dataset = one.object
    assert isinstance(dataset, Dataset)
    spec = dataset.spec
    for index, mount in enumerate(spec.mounts):
        at: FieldPath = ("spec", "mounts", index)
        _check_mount_point(one, at, mount, around, findings)
        _check_mount_path(one, at, mount, len(spec.mounts), findings)
        _check_mount_options(one, at, mount, around, findings)
    _check_clashes(one, dataset, findings)
    _check_reference(one, dataset, findings)
    check_encrypt_options(
        one,
        ("spec", "sharedEncryptOptions"),
        spec.shared_encrypt_options,
        dict.fromkeys(spec.shared_options, "spec.sharedOptions"),
        around,
        findings,
    )
    _check_single_mount(one, dataset, around, findings)
    _warn(one, dataset, findings)


def _check_mount_point(
    one: LoadedObject, at: FieldPath, mount: Mount, around: Surroundings, findings: Findings
) -> None:
    point = mount.mount_point
    path = (*at, "mountPoint")
    if point != point.strip() or any(ord(c) < 32 for c in point):
        findings.problem(one, path, "has blanks or control characters around it", "remove them")
    elif _URL.fullmatch(point):
        scheme, _, rest = point.partition("://")
        if not rest.strip("/") and scheme.lower() not in ("juicefs", "local", "memory"):
            cure = f"write it like {scheme}://NAME/PATH"
            findings.problem(one, path, f"'{scheme}://' names nothing", cure)
        if "@" in rest.split("/", 1)[0] and ":" in rest.split("@", 1)[0]:
            cure = "put it in a Secret and name it under encryptOptions"
            findings.problem(one, path, "has a password in it", cure)
    elif not point.startswith("/") and not _HOST_PATH.fullmatch(point):
        namespace, name = one.object.namespace, one.object.name
        if not any(around.has(kind, namespace, name) for kind in _VERBATIM_RUNTIMES):
            cure = (
                "write a URL such as s3://bucket/prefix, or an absolute path; other texts need a "
                f"ThinRuntime or CacheRuntime named '{name}' in the same files"
            )
            findings.problem(one, path, "is neither a URL nor an absolute path", cure)


def _check_mount_path(
    one: LoadedObject, at: FieldPath, mount: Mount, count: int, findings: Findings
) -> None:
    if mount.path and not mount.path.startswith("/"):
        message = f"the path '{mount.path}' is relative"
        findings.problem(one, (*at, "path"), message, f"write '/{mount.path}'")
    elif ".." in mount.path.split("/") or "." in mount.path.split("/"):
        findings.problem(one, (*at, "path"), "has '.' or '..' in it", "write the path without")
    if not mount.path and not mount.name and count > 1:
        message = "the mount has neither name nor path, and the Dataset has several mounts"
        findings.problem(one, at, message, "give each mount a name or a path")
    if "/" in mount.name or mount.name in (".", ".."):
        message = f"'{mount.name}' is no name for a mount"
        findings.problem(one, (*at, "name"), message, "use one word, and path for deeper places")


def _check_mount_options(
    one: LoadedObject, at: FieldPath, mount: Mount, around: Surroundings, findings: Findings
) -> None:
    dataset = one.object
    assert isinstance(dataset, Dataset)
    plain = dict.fromkeys(dataset.spec.shared_options, "spec.sharedOptions")
    plain |= dict.fromkeys(mount.options, "the mount's options")
    path = (*at, "encryptOptions")
    check_encrypt_options(one, path, mount.encrypt_options, plain, around, findings)
    for index, option in enumerate(dataset.spec.shared_encrypt_options):
        if option.name in mount.options:
            message = (
                f"the option '{option.name}' is set more than one times, here and in "
                f"spec.sharedEncryptOptions[{index}]"
            )
            findings.problem(one, (*at, "options", option.name), message, "keep one of them")


def _title(index: int, mount: Mount) -> str:
    return f"'{mount.name}'" if mount.name else f"number {index + 1}"


def _check_clashes(one: LoadedObject, dataset: Dataset, findings: Findings) -> None:
    names: dict[str, int] = {}
    paths: dict[str, int] = {}
    for index, mount in enumerate(dataset.spec.mounts):
        at: FieldPath = ("spec", "mounts", index)
        if mount.name and mount.name in names:
            first = names[mount.name]
            message = f"the name '{mount.name}' is that of spec.mounts[{first}] too"
            findings.problem(one, (*at, "name"), message, "give each mount a name of its own")
        elif (mount.name or mount.path) and mount.mounted_path in paths:
            first = paths[mount.mounted_path]
            message = (
                f"the mounts {_title(first, dataset.spec.mounts[first])} and "
                f"{_title(index, mount)} both appear at {mount.mounted_path}"
            )
            field = "path" if mount.path else "name"
            findings.problem(one, (*at, field), message, "give one of them another path")
        names.setdefault(mount.name, index)
        paths.setdefault(mount.mounted_path, index)


def _check_reference(one: LoadedObject, dataset: Dataset, findings: Findings) -> None:
    """A mount `dataset://NAMESPACE/NAME` names a namespace and a Dataset, not itself."""
    for index, mount in enumerate(dataset.spec.mounts):
        if not mount.mount_point.startswith("dataset://"):
            continue
        path: FieldPath = ("spec", "mounts", index, "mountPoint")
        parts = mount.mount_point.removeprefix("dataset://").split("/")
        if len(parts) < 2 or not parts[0] or not parts[1]:
            cure = "write dataset://NAMESPACE/NAME"
            findings.problem(one, path, "names no Dataset", cure)
        elif (parts[0], parts[1]) == (dataset.namespace, dataset.name):
            findings.problem(one, path, "the Dataset refers to itself", "name another Dataset")


def _check_single_mount(
    one: LoadedObject, dataset: Dataset, around: Surroundings, findings: Findings
) -> None:
    for kind in _SINGLE_MOUNT_RUNTIMES:
        if len(dataset.spec.mounts) > 1 and around.has(kind, dataset.namespace, dataset.name):
            findings.ignored(one, ("spec", "mounts", 1), f"a {kind} serves the first mount only")


def _warn(one: LoadedObject, dataset: Dataset, findings: Findings) -> None:
    spec = dataset.spec
    if spec.runtimes:
        reason = "a runtime serves the Dataset of its own name and namespace"
        findings.ignored(one, ("spec", "runtimes"), reason)
    for index, mode in enumerate(spec.access_modes):
        if mode != "ReadOnlyMany":
            message = f"{mode} is accepted, and the mount stays read-only"
            cure = "write to the source, not through fluidpy"
            findings.warning(one, ("spec", "accessModes", index), message, cure)
    restore = spec.data_restore_location
    if restore is not None and restore.path and not restore.path.startswith(_BACKUP_SCHEMES):
        path = ("spec", "dataRestoreLocation", "path")
        message = "only local:// and pvc:// can be restored from"
        findings.problem(one, path, message, "write local:///DIR or pvc://CLAIM/DIR")
