"""What is pure: versions, keys, pages, ranges, options, addresses, signatures, budgets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.errors import SourceAccessError, SourceTimeoutError, SourceUnavailableError
from fluidpy.storage.coalescing import coalesce
from fluidpy.storage.etag_codec import decode_etag, encode_etag, normalise_etag
from fluidpy.storage.http_index import links_below
from fluidpy.storage.http_version import version_of
from fluidpy.storage.object_keys import omission
from fluidpy.storage.object_listing import KeyFolder
from fluidpy.storage.object_store_address import store_address
from fluidpy.storage.options import object_store_options, parse_quantity
from fluidpy.storage.retry_policy import RetryPolicy
from fluidpy.storage.s3_list_xml import MalformedListingError, RawObject, RawPage, parse_page
from fluidpy.storage.s3_signature import AccessKey, sign_request
from fluidpy.storage.throttled import ByteBudget, RequestSlots
from fluidpy.storage.under_storage import Kind, MountSource

HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
ETAGS = st.one_of(
    HEX,
    HEX.map(str.upper),
    st.tuples(HEX, st.integers(1, 10_000)).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    st.text(max_size=200),
)


@given(ETAGS)
def test_a_version_is_short_and_gives_the_tag_back(tag: str) -> None:
    version = encode_etag(f'"{tag}"')
    assert len(version) <= 64
    if (back := decode_etag(version)) is not None:
        assert normalise_etag(back) == tag


@given(ETAGS, ETAGS)
def test_other_tags_are_other_versions(one: str, other: str) -> None:
    same = normalise_etag(f'"{one}"') == normalise_etag(f'"{other}"')
    assert (encode_etag(f'"{one}"') == encode_etag(f'"{other}"')) == same


@pytest.mark.parametrize("tag", ['"0123"', '"' + "0" * 32 + '"', '"' + "A" * 32 + '-7"'])
def test_sendable_tags_are_sent_as_they_came(tag: str) -> None:
    assert decode_etag(encode_etag(tag)) == tag


@pytest.mark.parametrize("tag", ['W/"abc"', '"' + "x" * 100 + '"', '"ümlaut"'])
def test_weak_long_and_foreign_tags_are_only_compared(tag: str) -> None:
    assert encode_etag(tag)
    assert decode_etag(encode_etag(tag)) is None


RANGES = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=20)


@given(RANGES, st.integers(0, 50), st.integers(1, 100))
def test_coalesced_ranges_cover_all_and_little_else(
    ranges: list[tuple[int, int]], gap: int, limit: int
) -> None:
    merged = coalesce(ranges, gap, limit)
    wanted = {byte for start, end in ranges for byte in range(start, end)}
    asked = [byte for start, end in merged for byte in range(start, end)]
    assert wanted <= set(asked)
    assert len(asked) == len(set(asked))
    assert asked == sorted(asked)
    assert all(0 < end - start <= limit for start, end in merged)
    extra = sorted(set(asked) - wanted)
    runs = [n for n, byte in enumerate(extra) if n == 0 or byte != extra[n - 1] + 1]
    ends = [*runs[1:], len(extra)]
    assert all(end - start <= gap for start, end in zip(runs, ends, strict=False))


def test_near_ranges_become_one_request() -> None:
    assert coalesce([(100, 200), (0, 90)], gap=10, limit=1000) == [(0, 200)]
    assert coalesce([(100, 200), (0, 90)], gap=9, limit=1000) == [(0, 90), (100, 200)]
    with pytest.raises(ValueError, match="limit 0"):
        coalesce([], 0, 0)


@given(st.text(max_size=400))
def test_a_shown_key_is_a_path_any_file_system_takes(key: str) -> None:
    if omission(key) is None:
        parts = key.split("/")
        assert all(part and part not in (".", "..") for part in parts)
        assert all(len(part.encode()) <= 255 for part in parts)
        assert "\0" not in key


KEYS = st.lists(st.text("ab/-", min_size=1, max_size=5), unique=True, max_size=12)


@given(KEYS, st.integers(1, 5))
def test_each_key_is_shown_once_or_left_out_with_a_reason(keys: list[str], size: int) -> None:
    keys.sort()
    folder = KeyFolder("", "")
    entries, omitted = [], []
    pages = [keys[n : n + size] for n in range(0, len(keys), size)] or [[]]
    for number, page in enumerate(pages):
        token = "more" if number + 1 < len(pages) else ""
        objects = [RawObject(key, 1, 0, "e") for key in page]
        shown = folder.feed(RawPage(objects, [], token))
        entries += shown.entries
        omitted += shown.omitted
    files = {entry.path for entry in entries if entry.kind is Kind.FILE}
    left_out = [entry.key for entry in omitted]
    assert len(left_out) == len(set(left_out))
    assert files | set(left_out) == set(keys)
    assert not files & set(left_out)
    assert not any(other.startswith(f"{path}/") for path in files for other in keys)


PAGE = """<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{token}{rows}
<CommonPrefixes><Prefix>a%2Fb/</Prefix></CommonPrefixes></ListBucketResult>"""
ROWS = {
    "AWS": "<Contents><Key>a+b%2Bc</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    "<ETag>&quot;abc&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Size>7</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>",
    "SeaweedFS": "<Contents><Key>a%20b%2Bc</Key><ETag>&#34;abc&#34;</ETag><Size>7</Size>"
    "<StorageClass>STANDARD</StorageClass><LastModified>2026-01-02T03:04:05Z</LastModified>"
    "</Contents>",
    "another": "<Contents><Size>7</Size><Owner><ID>x</ID></Owner><Key>a%20b%2Bc</Key>"
    "<ETag>&quot;abc&quot;</ETag><LastModified>2026-01-02T03:04:05Z</LastModified></Contents>",
}


@pytest.mark.parametrize("server", ROWS)
def test_pages_of_all_servers_read_alike(server: str) -> None:
    page = parse_page(PAGE.format(more="false", token="", rows=ROWS[server] * 2).encode())
    moment = int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()) * 10**9
    assert page == RawPage([RawObject("a b+c", 7, moment, "abc")] * 2, ["a/b/"], "")


def test_a_page_that_is_none_is_an_error() -> None:
    for text in ("<html>hello</html>", PAGE.format(more="true", token="", rows="")):
        with pytest.raises(MalformedListingError):
            parse_page(text.encode())


def test_the_signature_is_that_of_the_published_example() -> None:
    # "Example: GET Bucket (List Objects)" of the S3 API reference.
    key = AccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    moment = datetime(2013, 5, 24, tzinfo=UTC)
    headers = sign_request(
        key,
        "us-east-1",
        "GET",
        "examplebucket.s3.amazonaws.com",
        "/",
        "max-keys=2&prefix=J",
        moment,
    )
    assert headers["authorization"].endswith(
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )
    assert "EXAMPLEKEY" not in repr(key)


@pytest.mark.parametrize(
    ("url", "options", "bucket_url", "region"),
    [
        ("s3://b/p", {}, "https://b.s3.us-east-1.amazonaws.com", "us-east-1"),
        ("s3://b", {"region": "eu-west-1"}, "https://b.s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3://b", {"endpoint": "http://h:9000"}, "http://h:9000/b", "us-east-1"),
        ("s3://b", {"endpoint": "h", "allow_http": "true"}, "http://h/b", "us-east-1"),
        ("s3://b.c", {}, "https://s3.us-east-1.amazonaws.com/b.c", "us-east-1"),
        (
            "oss://b/p",
            {"fs.oss.endpoint": "oss-cn-beijing-internal.aliyuncs.com"},
            "https://b.oss-cn-beijing-internal.aliyuncs.com",
            "cn-beijing",
        ),
        (
            "s3://b",
            {
                "alluxio.underfs.s3.endpoint": "http://minio:9000",
                "alluxio.underfs.s3.disable.dns.buckets": "true",
                "alluxio.underfs.s3.endpoint.region": "r",
            },
            "http://minio:9000/b",
            "r",
        ),
    ],
)
def test_where_a_bucket_is(url: str, options: dict[str, str], bucket_url: str, region: str) -> None:
    source = MountSource(url, "m", options)
    address = store_address(source, object_store_options(source)[0])
    assert (address.bucket_url, address.region) == (bucket_url, region)


def test_secrets_are_not_shown() -> None:
    secrets = {"fs.s3.accessKeyId": "AKIDxyz", "fs.s3.accessKeySecret": "hidden-secret"}
    source = MountSource("s3://b", "m", {}, secrets)
    options, _ = object_store_options(source)
    assert options.access_key_id == "AKIDxyz"
    for shown in (repr(options), repr(source)):
        assert "AKIDxyz" not in shown
        assert "hidden-secret" not in shown


def test_quantities() -> None:
    assert parse_quantity("50Mi") == 50 * 2**20
    assert parse_quantity("10MB/s") == 10_000_000
    assert parse_quantity("fast") is None


def test_an_index_gives_children_only() -> None:
    page = (
        '<a href="../">up</a><a href="?C=M;O=A">by date</a><a href="/pub/x/">deep/</a>'
        '<a href="a%20b.txt">a b</a><a href="a%20b.txt">twice</a><a href="http://other/pub/c">c</a>'
        '<a href="sub/">sub</a><a href="sub/deep">d</a><a href="./e">e</a><a href="a%2Fb">no</a>'
        '<a href="&amp;amp;">semicolon at its end</a>'
    )
    links = links_below(page, "http://host/pub/")
    assert [(link.name, link.is_folder) for link in links] == [
        ("x", True),
        ("a b.txt", False),
        ("sub", True),
        ("e", False),
        ("&amp;", False),
    ]


def test_a_date_of_just_now_tells_no_versions_apart() -> None:
    headers = {"Last-Modified": "Tue, 24 Nov 2026 20:00:00 GMT", "ETag": 'W/"one"'}
    settled = version_of(headers, 10)
    assert settled
    assert version_of({**headers, "Date": "Tue, 24 Nov 2026 20:00:02 GMT"}, 10) == settled
    assert version_of({**headers, "Date": "Tue, 24 Nov 2026 20:00:01 GMT"}, 10) == b""
    assert version_of({**headers, "ETag": '"one"', "Date": headers["Last-Modified"]}, 10)


async def test_slots_go_in_turn_and_survive_cancelling() -> None:
    slots, order = RequestSlots(1), []

    async def use(name: str) -> None:
        await slots.take()
        order.append(name)
        await asyncio.sleep(0)
        slots.give()

    tasks = [asyncio.ensure_future(use(name)) for name in "abcd"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "c", "d"]
    assert slots.free


def test_a_budget_keeps_to_its_rate() -> None:
    now = 0.0
    budget = ByteBudget(100, clock=lambda: now)
    assert budget.reserve(100) == 0
    assert budget.reserve(50) == pytest.approx(0)
    assert budget.reserve(100) == pytest.approx(0.5)
    assert budget.reserve(1) == pytest.approx(1.5)
    budget.cancel(1)
    assert budget.reserve(1) == pytest.approx(1.5)
    now = 100.0
    assert budget.reserve(100) == 0


async def test_final_errors_are_asked_once() -> None:
    calls = 0

    async def fail() -> None:
        nonlocal calls
        calls += 1
        raise SourceAccessError("no")

    with pytest.raises(SourceAccessError, match="no"):
        await RetryPolicy("m").run(fail, "reading a")
    assert calls == 1


async def test_a_call_that_hangs_ends_at_the_deadline() -> None:
    policy = RetryPolicy("m", deadline_seconds=0.05)
    with pytest.raises(SourceTimeoutError, match=r"mount m: reading a took longer than 0\.05 s"):
        await policy.run(lambda: asyncio.sleep(10), "reading a")


@given(st.integers(0, 20), st.floats(0, 1, exclude_max=True))
def test_waits_grow_and_stay_bounded(attempt: int, fraction: float) -> None:
    policy = RetryPolicy("m", fraction=lambda: fraction)
    longest = min(5.0, 0.1 * 2**attempt)
    assert longest / 2 <= policy.delay(attempt) <= longest


async def test_the_last_cause_is_named() -> None:
    async def fail() -> None:
        raise SourceUnavailableError("the host is down", cure="Start it.")

    policy = RetryPolicy("m", retries=1, first_delay_seconds=0.001)
    with pytest.raises(SourceUnavailableError) as caught:
        await policy.run(fail, "reading a")
    assert str(caught.value) == "mount m: reading a failed 2 times: the host is down. Start it."
