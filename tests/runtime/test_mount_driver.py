"""From a manifest and a Dataset to the programs that mount: argument lists, files, what is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.dataset import Dataset
from fluidpy.errors import ValidationError
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.driver import RuntimePlace, RuntimeRequest, Seen, SeenProcess
from fluidpy.runtime.manifest import Manifest
from fluidpy.runtime.mount_driver import MountDriver, MountPlan
from fluidpy.storage.under_storage import MountSource

PLACE = RuntimePlace(Path("/p/work"), Path("/p/mount/fuse"), Path("/p/cache"))
FOLDER = Path("/plugins/nas")
OPTIONS = [
    {"name": "port", "default": "22"},
    {"name": "user", "required": True},
    {"name": "cipher"},
    {"name": "key", "secret": True},
]


def driver(command: list[str], **mount: Any) -> MountDriver:
    values = {
        "apiVersion": "runtime.fluidpy.io/v1",
        "kind": "mount",
        "name": "nas",
        "version": "1",
        "options": OPTIONS,
        "mount": {"command": command, "filesystemType": "fuse.nas", **mount},
    }
    return MountDriver(Manifest.model_validate(values, by_alias=True), FOLDER, own_view=True)


def request(*mounts: MountDefinition, spec: dict[str, Any] | None = None) -> RuntimeRequest:
    spec = spec or {"mounts": [{"mountPoint": one.source.url} for one in mounts]}
    dataset = Dataset.model_validate({"metadata": {"name": "data"}, "spec": spec})
    return RuntimeRequest(dataset, mounts, PLACE)


def nas(name: str = "nas", **options: str) -> MountDefinition:
    secrets = {"key": options.pop("key")} if "key" in options else {}
    source = MountSource("nas://host/export", name, {"user": "ann", **options}, secrets)
    return MountDefinition(name, f"/{name}", source)


def arguments(plan: MountPlan) -> list[tuple[str, ...]]:
    return [one.process.command.arguments for one in plan.clients]


def test_placeholders() -> None:
    command = ["./bin/client", "-p{options.port}", "--cipher={options.cipher}", "{source}",
               "{mountPoint}", "{target}", "{secretFile.key}", "{cacheDir}/x", "{{}}"]  # fmt: skip
    plan = driver(command).prepare(request(nas(key="hunter22")))
    expected = ("/plugins/nas/bin/client", "-p22", "host/export", "nas://host/export",
                "/p/mount/fuse", "/p/work/0/key", "/p/cache/0/x", "{}")  # fmt: skip
    assert arguments(plan) == [expected]
    process = plan.clients[0].process
    assert [(str(f.path), f.content) for f in process.command.files] == [
        ("/p/work/0/key", b"hunter22")
    ]
    assert process.redacted == ("hunter22",)
    assert "hunter22" not in repr(plan)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_value_stays_one_argument_and_is_no_option_of_the_program(user: str, more: str) -> None:
    one = nas(user=user)
    one = replace(one, source=replace(one.source, url=f"nas://{more}"))
    made = driver(["client", "{options.user}", "-o{mountPoint}", "{target}"])
    if "," in more:
        with pytest.raises(ValidationError, match="has a comma in it"):
            made.prepare(request(one))
    elif user.startswith("-") or "\0" in user + more:
        with pytest.raises(ValidationError, match="would be read as an option"):
            made.prepare(request(one))
    else:
        expected = ("client", user, f"-onas://{more}", "/p/mount/fuse")
        assert arguments(made.prepare(request(one))) == [expected]


def test_a_mount_point_is_no_option_of_the_program() -> None:
    one = nas()
    one = replace(one, source=replace(one.source, url="-oProxyCommand=touch /tmp/x"))
    with pytest.raises(ValidationError, match=r"ProxyCommand.* would be read as an option"):
        driver(["sshfs", "{mountPoint}", "{target}"]).prepare(request(one))


@pytest.mark.parametrize("words", [["-oport={options.user}"], ["-o", "port={options.user}"]])
def test_a_value_adds_no_mount_option_of_its_own(words: list[str]) -> None:
    made = driver(["sshfs", *words, "{target}"])
    assert "port=22" in arguments(made.prepare(request(nas(user="22"))))[0][-2]
    with pytest.raises(ValidationError, match="has a comma in it"):
        made.prepare(request(nas(user="22,ssh_command=/tmp/x")))


def test_everything_that_is_wrong_is_told_at_once() -> None:
    made = driver(["client", "{target}"])
    bare = MountDefinition("a", "/a", MountSource("nas://h/e", "a", {"usr": "ann"}))
    clear = MountDefinition("b", "/b", MountSource("nas://h/e", "b", {"user": "x", "key": "k"}))
    with pytest.raises(ValidationError) as caught:
        made.prepare(request(bare, clear))
    text = str(caught.value)
    assert "mount a: unknown option usr; did you mean user?; user is missing" in text
    assert "mount b: key is a secret and stands in options" in text


def test_a_secret_never_becomes_an_argument() -> None:
    one = MountDefinition("a", "/a", MountSource("nas://h/e", "a", {}, {"user": "ann"}))
    with pytest.raises(ValidationError, match="all users of the machine can see it"):
        driver(["client", "{options.user}", "{target}"]).prepare(request(one))


def test_one_mount_is_the_whole_tree_and_several_lie_at_their_paths() -> None:
    made = driver(["client", "{target}"])
    (shown,) = made.mount(made.prepare(request(nas("a"))))
    assert (shown.path, shown.source.url) == ("/", "mounted:///p/mount/fuse")
    spec = {"mounts": [{"mountPoint": "nas://host/export", "path": "/deep"}]}
    (shown,) = made.mount(made.prepare(request(replace(nas("a"), path="/deep"), spec=spec)))
    assert shown.path == "/deep"
    plan = made.prepare(request(nas("a"), nas("b")))
    shown_at = {one.path: one.source.url for one in made.mount(plan)}
    assert shown_at == {"/a": "mounted:///p/mount/0/fuse", "/b": "mounted:///p/mount/1/fuse"}
    names = [one.process.command.name for one in plan.clients]
    assert names == ["nas of a", "nas of b"]


def test_other_schemes_are_left_to_the_worker() -> None:
    made = driver(["client", "{target}"], protocols=["nas"])
    bucket = MountDefinition("b", "/b", MountSource("s3://bucket/x", "b"))
    plan = made.prepare(request(nas("a"), bucket))
    assert made.mount(plan)[1] is bucket
    with pytest.raises(ValidationError, match="takes nas:// and no mount is so"):
        made.prepare(request(bucket))


def test_cached_bytes_are_known_by_store_user_and_options() -> None:
    made = driver(["client", "{target}"])

    def known_by(one: MountDefinition) -> str:
        (shown,) = made.mount(made.prepare(request(one)))
        return shown.source.options["mounted_as"]

    other = replace(nas(), source=replace(nas().source, url="nas://host/other"))
    variants = [nas(), nas(key="k1"), nas(key="k2"), nas(port="23"), other]
    assert len({known_by(one) for one in variants}) == len(variants)
    assert known_by(nas()) == known_by(nas())


def test_limits_of_a_mount_hold_for_what_is_mounted() -> None:
    made = driver(["client", "{target}"])
    (shown,) = made.mount(made.prepare(request(nas(max_requests="3"))))
    assert shown.source.options["max_requests"] == "3"


def test_it_is_ready_when_all_mounts_are() -> None:
    made = driver(["client", "{target}"])
    plan = made.prepare(request(nas("a"), nas("b")))
    ready = SeenProcess(running=True, ready=True)
    assert not made.observe(plan, Seen()).ready
    lost = SeenProcess(running=False, ready=False, failure="no route")
    state = made.observe(plan, Seen({"nas of a": ready, "nas of b": lost}))
    assert (state.ready, state.reason) == (False, "no route")
    assert made.observe(plan, Seen({"nas of a": ready, "nas of b": ready})).ready


def test_fluids_contract_gives_the_program_its_files_at_their_places() -> None:
    made = driver(["./entrypoint.sh"], contract="fluid")
    reference = {"secretKeyRef": {"name": "creds", "key": "pass"}}
    spec = {
        "mounts": [
            {
                "mountPoint": "host:/export",
                "encryptOptions": [{"name": "password", "valueFrom": reference}],
            }
        ]
    }
    asked = replace(
        request(MountDefinition("data", "/", MountSource("host:/export", "data")), spec=spec),
        secrets={("creds", "pass"): "hunter22"},
    )
    plan = made.prepare(asked)
    process = plan.clients[0].process
    assert process.command.arguments == ("/plugins/nas/entrypoint.sh",)
    files = {str(file.path): file.content for file in process.command.files}
    assert files["/p/work/fluid/secrets/creds/pass"] == b"hunter22"
    assert (
        b'"password":"/etc/fluid/secrets/creds/pass"' in files["/p/work/fluid/config/config.json"]
    )
    assert process.binds == ((Path("/etc/fluid"), Path("/p/work/fluid")),)
    assert process.command.environment["MOUNT_POINT"] == "/p/mount/fuse"
    assert [one.path for one in made.mount(plan)] == ["/"]
    assert "hunter22" not in repr(plan)
