"""What a client that was written for Fluid finds: config.json, secret files, environment."""

from __future__ import annotations

import contextlib
import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.dataset import Dataset
from fluidpy.api.runtimes.thin import ThinRuntime, ThinRuntimeProfile
from fluidpy.errors import ValidationError
from fluidpy.runtime.thin_contract import (
    FLUID_PLACE,
    ThinDeclaration,
    thin_config,
    thin_environment,
    thin_files,
)

TARGET = "/runtime-mnt/thin/default/data/thin-fuse"


def encrypted(name: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def declared(
    spec: dict[str, Any],
    runtime: dict[str, Any] | None = None,
    profile: dict[str, Any] | None = None,
) -> ThinDeclaration:
    metadata = {"name": "data"}
    return ThinDeclaration(
        Dataset.model_validate({"metadata": metadata, "spec": spec}),
        ThinRuntime.model_validate({"metadata": metadata, "spec": {"fuse": runtime or {}}}),
        ThinRuntimeProfile.model_validate(
            {"metadata": metadata, "spec": {"fileSystemType": "fuse", "fuse": profile or {}}}
        ),
    )


def test_config_json_is_fluids() -> None:
    one = declared(
        {
            "mounts": [
                {
                    "mountPoint": "host:/export",
                    "name": "a",
                    "options": {"vers": "4"},
                    "encryptOptions": [encrypted("password", "creds", "pass")],
                },
                {"mountPoint": "other:/x", "path": "/b", "readOnly": True, "shared": True},
            ],
            "sharedOptions": {"vers": "3", "soft": "true"},
            "sharedEncryptOptions": [encrypted("user", "creds", "user")],
        },
        runtime={"options": {"ttl": "5"}},
    )
    secrets = {("creds", "pass"): "hunter22", ("creds", "user"): "ann"}
    files = thin_files(one, TARGET, FLUID_PLACE, secrets)
    text = files["config/config.json"].decode()
    assert "\n" not in text
    assert "hunter22" not in text
    user = "/etc/fluid/secrets/creds/user"
    assert json.loads(text) == {
        "mounts": [
            {
                "mountPoint": "host:/export",
                "options": {
                    "vers": "4",
                    "soft": "true",
                    "user": user,
                    "password": "/etc/fluid/secrets/creds/pass",
                },
                "name": "a",
            },
            {
                "mountPoint": "other:/x",
                "options": {"vers": "3", "soft": "true", "user": user},
                "path": "/b",
                "readOnly": True,
                "shared": True,
            },
        ],
        "targetPath": TARGET,
        "runtimeOptions": {"ttl": "5"},
        "accessModes": ["ReadOnlyMany"],
    }
    assert list(json.loads(text)) == ["mounts", "targetPath", "runtimeOptions", "accessModes"]
    assert files["secrets/creds/pass"] == b"hunter22"
    assert files["secrets/creds/user"] == b"ann"


def test_what_is_empty_is_left_out() -> None:
    config = thin_config(declared({"mounts": [{"mountPoint": "host:/x"}]}), TARGET, FLUID_PLACE)
    assert config["mounts"] == [{"mountPoint": "host:/x", "options": {}}]
    assert "runtimeOptions" not in config


@pytest.mark.parametrize(
    ("modes", "profile", "runtime", "expected"),
    [
        ([], {}, {}, "ro"),
        ([], {}, {"b": "2"}, "b=2,ro"),
        ([], {"a": "1", "allow_other": ""}, {"b": "2"}, "a=1,allow_other,b=2"),
        ([], {"a": "1"}, {"a": "2"}, "a=2"),
        (["ReadWriteMany"], {}, {}, ""),
    ],
)
def test_mount_options(
    modes: list[str], profile: dict[str, str], runtime: dict[str, str], expected: str
) -> None:
    spec = {"mounts": [{"mountPoint": "host:/x"}], "accessModes": modes}
    one = declared(spec, {"options": runtime}, {"options": profile})
    environment = thin_environment(one, TARGET, {})
    assert environment["MOUNT_OPTIONS"] == expected
    assert environment["MOUNT_POINT"] == TARGET
    assert environment["FLUID_RUNTIME_TYPE"] == "thin"
    assert environment["FLUID_RUNTIME_NS"] == "default"
    assert environment["FLUID_RUNTIME_NAME"] == "data"


def test_variables_of_the_yaml_win_and_may_come_from_secrets() -> None:
    token = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "creds", "key": "t"}}}
    one = declared(
        {"mounts": [{"mountPoint": "host:/x"}]},
        {"env": [{"name": "LEVEL", "value": "debug"}, token]},
        {"env": [{"name": "LEVEL", "value": "info"}, {"name": "ZONE", "value": "b"}]},
    )
    environment = thin_environment(one, TARGET, {("creds", "t"): "abc"})
    assert environment["LEVEL"] == "debug"
    assert environment["ZONE"] == "b"
    assert environment["TOKEN"] == "abc"
    assert list(one.secrets_of_variables) == [("creds", "t")]


@given(st.text(min_size=1, max_size=20))
def test_no_key_of_a_secret_leads_out_of_its_folder(key: str) -> None:
    spec = {"mounts": [{"mountPoint": "host:/x", "encryptOptions": [encrypted("p", "creds", key)]}]}
    one = declared(spec)
    with contextlib.suppress(ValidationError):
        files = thin_files(one, TARGET, FLUID_PLACE, {("creds", key): "v"})
        path = PurePosixPath(next(name for name in files if name.startswith("secrets")))
        assert path.parts[:2] == ("secrets", "creds")
        assert len(path.parts) == 3
        assert path.name not in (".", "..")


def test_a_key_that_is_no_file_name() -> None:
    spec = {"mounts": [{"mountPoint": "host:/x", "encryptOptions": [encrypted("p", "c", "../x")]}]}
    with pytest.raises(ValidationError, match="is no name of a Secret"):
        thin_files(declared(spec), TARGET, FLUID_PLACE, {("c", "../x"): "v"})
