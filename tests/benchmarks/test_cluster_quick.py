"""The scenarios of a pool run, tiny, and keep what they promise."""

from __future__ import annotations

import pytest

from benchmarks.cluster.command import main


def test_a_source_gives_each_byte_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "once", "--quick"]) == 0
    assert "source bytes of the data set" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("grow", "bytes moved by the least possible"),
        ("shrink", "hit ratio of the next epoch"),
        ("kill", "slowest read"),
    ],
)
def test_members_change_and_readers_go_on(
    name: str, figure: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", name, "--quick"]) == 0
    assert figure in capfd.readouterr().out


@pytest.mark.timeout(120)
def test_a_control_plane_is_brought_up_and_ends(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "up", "--quick"]) == 0
    said = capfd.readouterr().out
    assert "one Dataset: up to first byte" in said
    assert "3 Datasets at rest" in said


def test_an_unknown_scenario_is_a_wrong_usage(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "twice"])
    assert ended.value.code == 2
    assert "twice" in capfd.readouterr().err
