from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.mount.command import fails
from benchmarks.mount.plot import svg
from benchmarks.mount.promises import Promise
from benchmarks.mount.reading import Sample
from benchmarks.mount.request_trace import count_requests
from benchmarks.mount.rounds import Outcome, Row, Series, outcome, take_rounds
from benchmarks.mount.running import as_kept
from benchmarks.mount.scenarios import PROMISES, scenarios
from benchmarks.mount.source_requests import parse_requests
from benchmarks.mount.table import table
from benchmarks.mount.tree import QUICK


def _sample(amount: int, seconds: float, *, requests: int = 0, finished: bool = True) -> Sample:
    return Sample(amount, seconds, seconds / 4, seconds / 4, seconds / 2, requests, 2**24, finished)


def _outcome() -> Outcome:
    plain = Series("plain", [_sample(1000, 1.0), _sample(1000, 2.0), _sample(1000, 1.0)])
    ours = Series("fluidpy no-open", [_sample(1000, s) for s in (2.0, 2.0, 1.25)])
    peer = Series("peer", [_sample(100, 1.0, requests=7, finished=False)], "it\nfell <over>")
    gone = Series("gone", [], "not installed")
    series = [plain, ours, peer, gone]
    promises = {"fluidpy no-open": Promise(at_least=0.8)}
    return outcome("small-warm", "files, warm", "files/s", 1.0, series, promises)


OURS = "fluidpy passthrough"
ADDED = Promise(at_most_added=80)
TWICE = Promise(times_best_peer=2)
AHEAD = Promise(ahead_of_peers=True)


def _judged(promise: Promise, seconds: float, peers: dict[str, float | str]) -> Outcome:
    """fluidpy needs `seconds` for what the plain directory does in one; so do `peers`, or fail."""
    series = [Series("plain", [_sample(10_000, 1.0)]), Series(OURS, [_sample(10_000, seconds)])]
    for name, value in peers.items():
        failed = isinstance(value, str)
        samples = [] if isinstance(value, str) else [_sample(10_000, value)]
        series.append(Series(name, samples, str(value) if failed else ""))
    return outcome("small", "files", "files/s", 1.0, series, {OURS: promise})


def _ours(found: Outcome) -> Row:
    return next(row for row in found.rows if row.is_ours)


@pytest.mark.parametrize(
    ("promise", "seconds", "peers", "said"),
    [
        (ADDED, 1.8, {}, ""),
        (ADDED, 1.9, {}, "NOT REACHED: 80 µs added at most"),
        (TWICE, 1.5, {"JuiceFS": 3.0, "s3fs": 9.0}, ""),
        (TWICE, 1.5, {"JuiceFS": 2.9, "s3fs": 9.0}, "NOT REACHED: 2 × the best peer"),
        (AHEAD, 1.5, {"JuiceFS": 9.0, "s3fs": 1.6}, ""),
        (AHEAD, 1.5, {"JuiceFS": 9.0, "s3fs": 1.4}, "NOT REACHED: ahead of every peer"),
        (AHEAD, 1.5, {"JuiceFS": 9.0, "s3fs": "gone"}, "peers that failed: s3fs"),
        (
            Promise(at_least=0.7, ahead_of_peers=True),
            1.5,
            {"s3fs": 1.4},
            "NOT REACHED: 0.7 × plain and ahead of every peer",
        ),
        (AHEAD, 1.5, {}, "no peer to judge by"),
        (TWICE, 1.5, {"s3fs": "gone"}, "no peer to judge by, peers that failed: s3fs"),
    ],
)
def test_each_promise_shows_in_the_table_and_in_the_exit_status(
    promise: Promise, seconds: float, peers: dict[str, float | str], said: str
) -> None:
    found = _judged(promise, seconds, peers)
    line = next(line for line in table([found]).splitlines() if line.startswith(OURS))
    assert line.endswith(said or line)
    assert ("NOT REACHED" in line) == fails([found]) == said.startswith("NOT REACHED")


def test_a_system_is_measured_by_the_peer_that_is_fastest() -> None:
    found = _judged(TWICE, 2.0, {"JuiceFS": 3.0, "s3fs": 9.0, "rclone": "gone"})
    document = _ours(found).to_document()
    assert document["best_peer"] == {"name": "JuiceFS", "ratio": pytest.approx(1.5)}
    assert document["failed_peers"] == ["rclone"]
    assert document["promises"] == [{"promise": "2 × the best peer", "reached": False}]
    line = next(line for line in table([found]).splitlines() if line.startswith(OURS))
    assert line.split()[5:9] == ["2", "×", "peers", "1.50"]


def test_peers_and_the_plain_directory_promise_nothing() -> None:
    found = _judged(AHEAD, 1.5, {"JuiceFS": 9.0})
    assert [row.system for row in found.rows if row.verdicts or row.best_peer] == [OURS]


def test_fluidpy_that_fails_is_a_failure_whatever_it_promised() -> None:
    series = [Series("plain", [_sample(1, 1.0)]), Series(OURS, [], "not mounted")]
    assert fails([outcome("x", "x", "files/s", 1.0, series, {})])


def test_every_promise_belongs_to_a_scenario() -> None:
    known = [one for group in scenarios(QUICK).values() for one in group]
    assert {one.name: one.promises for one in known if one.promises} == PROMISES


def test_a_ratio_is_of_medians_and_its_quartiles_of_the_rounds() -> None:
    row = _outcome().rows[1]
    assert row.comparison is not None
    assert row.comparison.ratio == pytest.approx(0.5)
    assert (row.comparison.ratio_lower, row.comparison.ratio_upper) == pytest.approx((0.65, 0.9))
    assert row.comparison.reached is False
    assert row.cpu_ratio == pytest.approx(2.0)
    assert row.added_microseconds is not None
    assert row.added_microseconds.median == pytest.approx(250.0)


def test_a_system_with_fewer_rounds_is_compared_with_the_same_rounds() -> None:
    row = _outcome().rows[2]
    assert row.comparison is not None
    assert row.comparison.ratio == pytest.approx(0.1)
    assert (row.unfinished, row.source_requests) == (1, 7)


def test_a_figure_without_the_plain_directory_is_refused() -> None:
    with pytest.raises(RuntimeError, match="the plain directory failed: no disk"):
        outcome("x", "x", "x", 1.0, [Series("plain", [], "no disk")], {})


def test_the_table_says_what_went_wrong_and_fits_a_terminal() -> None:
    lines = table([_outcome()]).splitlines()
    plain, ours, peer, gone = lines[2:]
    assert plain.split() == ["plain", "1,000", "1.00", "1.00", "48", "MiB", "from", "disk"]
    assert "0.50" in ours
    assert ours.endswith("NOT REACHED: 0.8 × plain, 48 MiB from disk")
    assert (
        "stopped at its limit 1 ×, 7 requests to the source, 16 MiB from disk, failed: it" in peer
    )
    assert gone.endswith("failed: not installed")
    assert max(map(len, (plain, gone))) <= 100


def test_the_plot_is_an_svg_with_a_bar_a_system() -> None:
    root = ElementTree.fromstring(svg([_outcome(), _outcome()], "2 cores & more"))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}rect")) == 1 + 2 * 3  # the ground, and all but the failed
    words = [element.text for element in root.findall(f"{space}text")]
    assert words.count("failed") == 2
    assert words.count("0.10*") == 2


def test_systems_take_turns_and_one_that_fails_is_asked_no_more() -> None:
    turns: list[tuple[str, int]] = []

    def take(name: str, number: int) -> Sample:
        turns.append((name, number))
        if name == "b" and number == 1:
            raise OSError("gone")
        return _sample(1, 1.0, finished=name != "c")

    takes = {name: (lambda number, name=name: take(name, number)) for name in "abc"}
    series = take_rounds(takes, 3, lambda _: None, end_unfinished=True)
    assert turns == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1), ("a", 2)]
    assert [(s.system, len(s.samples), s.failure) for s in series] == [
        ("a", 3, ""),
        ("b", 1, "gone"),
        ("c", 1, ""),
    ]


def test_a_slow_system_takes_part_until_its_time_is_used_up() -> None:
    takes = {name: (lambda _: _sample(1, 2.0)) for name in "ab"}
    series = take_rounds(takes, 4, lambda _: None, seconds_of={"b": 3.0})
    assert [len(s.samples) for s in series] == [4, 2]


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (
            "/home/me/venv/bin/juicefs mount --cache-dir=/tmp/b/machines/j/cache "
            "redis://127.0.0.1:1/1 /tmp/b/machines/j/mnt",
            "juicefs mount --cache-dir=machines/j/cache redis://127.0.0.1:1/1 machines/j/mnt",
        ),
        ("/usr/bin/s3fs a /tmp/b/mnt -o ro,tmpdir=/tmp/b/tmp", "s3fs a mnt -o ro,tmpdir=tmp"),
        ("ext4 with a journal, noatime", "ext4 with a journal, noatime"),
    ],
)
def test_what_is_kept_of_a_command_names_no_place_of_the_machine(command: str, kept: str) -> None:
    assert as_kept(command, Path("/tmp/b")) == kept


def test_the_sources_requests_are_summed_over_all_kinds() -> None:
    text = (
        "# TYPE SeaweedFS_s3_request_total counter\n"
        'SeaweedFS_s3_request_total{bucket="a",code="200",type="GET"} 3\n'
        'SeaweedFS_s3_request_total{bucket="a",code="404",type="HEAD"} 1e+01\n'
        'SeaweedFS_s3_bucket_size_bytes{bucket="a"} 99\n'
    )
    assert parse_requests(text) == 13
    assert parse_requests("") == 0


def test_requests_of_a_trace_are_counted_by_opcode() -> None:
    head = "  python-1 [000] ..... "
    lines = [
        f"{head}10.000001: fuse_request_send: connection 9 req 2 opcode 1 (FUSE_LOOKUP) len 48",
        f"{head}10.000003: fuse_request_send: connection 9 req 4 opcode 15 (FUSE_READ) len 80",
        f"{head}10.000021: fuse_request_end: connection 9 req 2 len 144 error 0",
        f"{head}10.000083: fuse_request_end: connection 9 req 4 len 144 error 0",
        f"{head}10.000090: fuse_request_send: connection 9 req 6 opcode 15 (FUSE_READ) len 80",
        f"{head}10.000091: something_else: 5",
    ]
    found = count_requests(lines)
    assert list(found) == ["READ", "LOOKUP"]
    assert (found["READ"].count, found["LOOKUP"].count) == (1, 1)
    assert found["READ"].median_microseconds == pytest.approx(80, abs=0.5)
    assert found["LOOKUP"].share == pytest.approx(0.2, abs=0.01)
