"""The scenarios of a pool run, tiny, and keep what they promise."""

from __future__ import annotations

import pytest

from benchmarks.cluster.command import main


def test_a_source_gives_each_byte_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "once", "--quick"]) == 0
    assert "source bytes of the data set" in capfd.readouterr().out


def test_an_unknown_scenario_is_a_wrong_usage(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "twice"])
    assert ended.value.code == 2
    assert "twice" in capfd.readouterr().err
