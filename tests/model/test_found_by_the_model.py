"""Failures that the model test found, each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.cli.attachment import ask
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.storage.under_storage import MountSource
from tests.model.place import Place, new_place


@pytest.fixture
def place() -> Iterator[Place]:
    with new_place() as made:
        yield made


def test_a_load_of_a_folder_that_only_leads_to_a_mount(place: Place) -> None:
    """`b` is there for the mount `/b/a`; that the outer source has no `b` is no failure."""
    outer, inner = place.base / "outer", place.base / "inner"
    for directory in (outer, inner):
        directory.mkdir()
    Path(inner / "file").write_bytes(b"bytes")
    definition = DatasetDefinition(
        name="ways",
        namespace="default",
        mounts=(
            MountDefinition("outer", "/", MountSource(f"local://{outer}", "outer")),
            MountDefinition("inner", "/b/a", MountSource(f"local://{inner}", "inner")),
        ),
    )
    session = place.session(definition)
    for metadata_only in (True, False):
        done = ask(session, "load", deadline=60.0, paths=["b"], metadata_only=metadata_only)
        assert (done["files"], done["failed"]) == (1, 0), done
