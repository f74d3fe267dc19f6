"""Programs that read go on by another worker when theirs leaves the pool."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fluidpy.client.file import ObjectReader
from tests.control.conftest import LocalControlPlane, dataset
from tests.control.test_life_of_a_dataset import await_true, phase, ready_workers, session

FILES = 20
LARGE = 256 * 1024 * 1024
"""More than is read ahead, so that its end has to be asked for."""


@pytest.mark.slow
def test_readers_go_on_when_their_worker_is_scaled_away(
    control: LocalControlPlane, tmp_path: Path
) -> None:
    source = tmp_path / "nas"
    source.mkdir()
    for number in range(FILES):
        (source / f"{number}.bin").write_bytes(bytes([number]) * 50_000)
    with (source / "large.tar").open("wb") as stream:
        stream.write(b"first")
        os.truncate(stream.fileno(), LARGE - 4)
        stream.seek(LARGE - 4)
        stream.write(b"last")
    control.client.create("datasets", "default", dataset("pets", f"local://{source}"))
    await_true(lambda: phase(control) == "Bound")
    control.client.scale("datasets", "default", "pets", 3)
    await_true(lambda: len(ready_workers(control)) == 3)
    with session(control) as pets:
        large = ObjectReader(pets, pets.open_object("large.tar"))
        assert large.read_range(0, 5) == b"first"
        own = pets.settings.runtime_dir.name
        others = sorted({"worker-0", "worker-1", "worker-2"} - {own})
        wrong, reads, stop = [], [0], threading.Event()

        def read_on() -> None:
            while not stop.is_set():
                number = reads[0] % FILES
                try:
                    if pets.read(f"{number}.bin") != bytes([number]) * 50_000:
                        wrong.append(f"{number}.bin has wrong bytes")
                except Exception as error:  # noqa: BLE001 - what a reader would see
                    wrong.append(repr(error))
                reads[0] += 1

        reader = threading.Thread(target=read_on)
        reader.start()
        try:
            control.client.scale("datasets", "default", "pets", 1, [own, others[0]])
            await_true(
                lambda: [w["name"] for w in control.client.status()["workers"]] == [others[1]], 60
            )
            before = reads[0]
            await_true(lambda: reads[0] >= before + FILES or wrong)
        finally:
            stop.set()
            reader.join()
        assert not wrong, wrong[:5]
        assert large.read_range(LARGE - 4, LARGE) == b"last"
        assert pets.settings.runtime_dir.name == others[1]
        large.close()
