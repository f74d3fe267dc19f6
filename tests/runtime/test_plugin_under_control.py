"""A storage plug-in in the hands of the control plane: declared, bound, warmed, measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.locate import Locator
from fluidpy.client.session import DatasetSession
from fluidpy.errors import ValidationError
from fluidpy.runtime.installing import install
from tests.control.conftest import Document, LocalControlPlane, dataset, local_control_plane

PLUGIN = Path(__file__).parents[2] / "runtimes" / "starfs"
CONTENT = b"bright" * 20_000


@pytest.fixture
def control(tmp_path: Path) -> Iterator[LocalControlPlane]:
    with local_control_plane(tmp_path) as control:
        yield control


def _declared(root: Path, **options: str) -> Document:
    one = dataset("stars", "starfs://cluster")
    one["spec"]["mounts"][0]["options"] = {"root": str(root), **options}
    return one


def _await(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    limit = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < limit, "it did not come about in time"
        time.sleep(0.05)  # the control plane tells what it sees in steps
    return found


@pytest.mark.slow
def test_a_plugin_installed_while_it_runs_serves_bound_and_warmed(
    control: LocalControlPlane, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "sirius.bin").write_bytes(CONTENT)
    os.utime(store / "sirius.bin", (1_700_000_000,) * 2)
    client = control.client
    with pytest.raises(ValidationError, match="no driver for starfs://"):
        client.create("datasets", "default", _declared(store))
    install(PLUGIN, control.settings.plugins_dir)
    with pytest.raises(ValidationError, match="unknown option rot; did you mean root"):
        client.create("datasets", "default", _declared(store, rot="x"))
    client.create("datasets", "default", _declared(store))

    def status(plural: str, name: str) -> Any:
        return client.get(plural, "default", name).get("status", {})

    _await(lambda: status("datasets", "stars").get("phase") == "Bound")
    load = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "DataLoad",
        "metadata": {"name": "warm"},
        "spec": {"dataset": {"name": "stars", "namespace": "default"}},
    }
    client.create("dataloads", "default", load)
    _await(lambda: status("dataloads", "warm").get("phase") == "Complete")
    _await(lambda: _percentage(status("datasets", "stars")) == "100.0%")
    assert 'dataset="default/stars"' in client.metrics()
    (store / "sirius.bin").rename(tmp_path / "away")  # what is read now is what was warmed
    session = DatasetSession(Locator(control.settings, environ={}).find("stars"), control.settings)
    assert bytes(session.read("sirius.bin", 0, len(CONTENT))) == CONTENT


def _percentage(status: Document) -> str:
    return str(status.get("cacheStates", {}).get("cachedPercentage", ""))
