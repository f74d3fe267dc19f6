"""Options whose values lie in Secrets: each set once, each Secret there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fluidpy.api.checks.findings import Findings, Surroundings
from fluidpy.api.dataset import EncryptOption
from fluidpy.api.problem import FieldPath, LoadedObject


def check_encrypt_options(
    one: LoadedObject,
    path: FieldPath,
    options: Sequence[EncryptOption],
    plain: Mapping[str, str],
    around: Surroundings,
    findings: Findings,
) -> None:
    """No option in Secrets twice, nor in clear text (`plain`: name → where it is set) as well."""
    seen: set[str] = set()
    for index, option in enumerate(options):
        at = (*path, index)
        if option.name in seen or option.name in plain:
            where = plain.get(option.name, "another item of this list")
            message = f"the option '{option.name}' is set more than one times, here and in {where}"
            findings.problem(one, (*at, "name"), message, "keep one of them")
        seen.add(option.name)
        ref = option.value_from.secret_key_ref
        if why := around.secret_missing(one.object.namespace, ref.name, ref.key):
            cure = "add the Secret to the files, or give its values where your Secrets are kept"
            findings.problem(one, (*at, "valueFrom", "secretKeyRef"), why, cure)
