"""The control plane's interface as its clients see it; what is refused changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.control_client import ControlClient
from fluidpy.errors import (
    ControlPlaneAbsentError,
    ControlPlaneError,
    ObjectConflictError,
    ObjectExistsError,
    ObjectNotFoundError,
    UsageError,
    ValidationError,
    WatchExpiredError,
)
from fluidpy.settings import Settings
from tests.control.conftest import LocalControlPlane, dataset, local_control_plane, secret


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with local_control_plane(tmp_path_factory.mktemp("control")) as control:
        yield control


@pytest.fixture
def client(shared: LocalControlPlane) -> ControlClient:
    return shared.client


def test_objects_have_kubernetes_metadata(client: ControlClient) -> None:
    made = client.create("cacheruntimeclasses", "", runtime_class("meta"))
    metadata = made["metadata"]
    assert metadata["generation"] == 1
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert client.get("cacheruntimeclasses", "", "meta") == made
    listed = client.list_objects("cacheruntimeclasses")
    assert listed["kind"] == "CacheRuntimeClassList"
    assert made in listed["items"]


def runtime_class(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "CacheRuntimeClass",
        "metadata": {"name": name},
        "fileSystemType": "x",
    }


def wrong_documents() -> list[Any]:
    return [
        pytest.param({"spec": {"mounts": [{"mountpoint": "s3://b"}]}}, "mountPoint", id="typo"),
        pytest.param({"spec": {"placement": "Alone"}}, "placement", id="enum"),
        pytest.param(
            {"spec": {"mounts": [{"mountPoint": "s3://b", "options": {"endpont": "x"}}]}},
            "endpont",
            id="option of the source",
        ),
        pytest.param({"sepc": {}}, "sepc", id="unknown field"),
        pytest.param({"metadata": {"name": "1pets"}}, "name", id="name"),
        pytest.param({"metadata": {"name": "../x"}}, "name", id="path"),
    ]


@pytest.mark.parametrize(("change", "said"), wrong_documents())
def test_what_is_wrong_is_refused_and_says_where(
    client: ControlClient, change: dict[str, Any], said: str
) -> None:
    before = client.list_objects("datasets")["metadata"]["resourceVersion"]
    with pytest.raises(ValidationError, match=said):
        client.create("datasets", "wrong", {**dataset("pets", "s3://bucket", "wrong"), **change})
    assert client.list_objects("datasets", "wrong")["items"] == []
    assert client.list_objects("datasets")["metadata"]["resourceVersion"] == before


def test_all_problems_are_told_at_once(client: ControlClient) -> None:
    wrong = dataset("pets", "s3://bucket", "many", placement="Alone", acessModes=[])
    with pytest.raises(ValidationError) as caught:
        client.create("datasets", "many", wrong)
    assert len(caught.value.message.splitlines()) == 2


def test_objects_are_validated_together(client: ControlClient) -> None:
    documents: list[Any] = [dataset("good", "s3://bucket"), dataset("bad", "s3://b", x=1), 7]
    found = client.validate(documents)
    assert [(p["kind"], p["name"]) for p in found["problems"] if p["name"]] == [("Dataset", "bad")]
    assert len(found["problems"]) == 2


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"null", b"{}", b'{"metadata": 3}', b'{"kind": "Dataset"}']
)
def test_bodies_that_are_no_objects_are_refused(shared: LocalControlPlane, body: bytes) -> None:
    connection = shared.client._connection(10.0)
    connection.request("POST", "/apis/data.fluid.io/v1alpha1/namespaces/x/datasets", body)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status in (400, 422)
    assert answer["kind"] == "Status"
    assert answer["error"]["cure"]


def test_path_and_object_must_agree(client: ControlClient) -> None:
    with pytest.raises(UsageError, match="namespace"):
        client.create("datasets", "here", dataset("pets", "s3://bucket", "there"))
    with pytest.raises(UsageError, match="kind"):
        client.create("dataloads", "here", dataset("pets", "s3://bucket", "here"))
    with pytest.raises(UsageError, match="plural"):
        client.list_objects("pods")
    with pytest.raises(UsageError):
        client.request("GET", "/nowhere")


def test_secrets_go_in_and_not_out(shared: LocalControlPlane, client: ControlClient) -> None:
    told = [client.create("secrets", "default", secret("keys", token="hunter2"))]
    told.append(client.get("secrets", "default", "keys"))
    told.append(client.list_objects("secrets"))
    told.append(client.replace("secrets", "default", "keys", secret("keys", token="hunter3")))
    text = json.dumps(told) + shared.log()
    for value in ("hunter", "aHVudGVy"):
        assert value not in text
    assert told[1]["data"] == {"token": "<hidden>"}


def test_a_hidden_secret_cannot_be_put_back_by_mistake(client: ControlClient) -> None:
    client.create("secrets", "default", secret("safe", token="hunter2"))
    with pytest.raises(ValidationError, match="base64"):
        client.replace("secrets", "default", "safe", client.get("secrets", "default", "safe"))


def test_a_refused_edit_changes_nothing(client: ControlClient) -> None:
    made = client.create("cacheruntimeclasses", "", runtime_class("edited"))
    for wrong in ({"fileSystemType": 3}, {"nonsense": True}):
        with pytest.raises(ValidationError):
            client.replace("cacheruntimeclasses", "", "edited", {**made, **wrong})
    stale = {**made, "metadata": {**made["metadata"], "resourceVersion": "1"}}
    with pytest.raises(ObjectConflictError):
        client.replace("cacheruntimeclasses", "", "edited", {**stale, "fileSystemType": "y"})
    assert client.get("cacheruntimeclasses", "", "edited") == made


def test_dry_runs_change_nothing(client: ControlClient) -> None:
    client.create("secrets", "default", secret("dry", a="b"), dry_run=True)
    with pytest.raises(ObjectNotFoundError, match="secrets dry"):
        client.get("secrets", "default", "dry")


def test_the_same_name_twice_is_refused(client: ControlClient) -> None:
    client.create("secrets", "default", secret("twice", a="b"))
    with pytest.raises(ObjectExistsError):
        client.create("secrets", "default", secret("twice", a="b"))


def test_a_watch_tells_changes_as_they_happen(client: ControlClient) -> None:
    since = client.list_objects("secrets", "watched")["metadata"]["resourceVersion"]
    seen: list[tuple[str, str]] = []

    def watch() -> None:
        for change in client.watch("secrets", "watched", since, seconds=60):
            seen.append((change["type"], change["object"]["metadata"]["name"]))
            if change["type"] == "DELETED":
                return

    thread = threading.Thread(target=watch)
    thread.start()
    value = secret("w", a="b")
    value["metadata"]["namespace"] = "watched"
    client.create("secrets", "watched", value)
    client.create("secrets", "default", secret("elsewhere", a="b"))
    client.delete("secrets", "watched", "w")
    thread.join(60)
    assert seen == [("ADDED", "w"), ("DELETED", "w")]
    with pytest.raises(WatchExpiredError):
        next(client.watch("secrets", None, "999999", seconds=1))


def test_the_socket_is_private(shared: LocalControlPlane) -> None:
    assert shared.settings.control_socket.stat().st_mode & 0o777 == 0o600


def test_objects_outlive_the_process(control: LocalControlPlane) -> None:
    made = control.client.create("secrets", "default", secret("kept", a="b"))
    control.kill()
    with pytest.raises(ControlPlaneAbsentError, match="no control plane"):
        control.client.get("secrets", "default", "kept")
    control.up()
    assert control.client.get("secrets", "default", "kept") == made


def test_a_second_control_plane_is_refused(control: LocalControlPlane) -> None:
    with pytest.raises(ControlPlaneError, match="runs already"):
        control.up()


def test_an_importing_process_stays_light() -> None:
    code = "import sys, fluidpy.client.control_client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "aiohttp", "asyncio", "yaml"} & set(done.stdout.split())


def test_another_runtime_directory_has_no_control_plane(tmp_path: Path) -> None:
    nobody = Settings(cache_dir=tmp_path, runtime_dir=tmp_path)
    assert not ControlClient(nobody).is_running()
