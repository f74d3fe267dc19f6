from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.quantity import Quantity, format_bytes, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10Gi", 10 * 2**30),
        ("100Pi", 100 * 2**50),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("1.5Ki", 1536),
        ("1500m", 2),
        ("-1500m", -2),
        (".5k", 500),
        ("5.", 5),
        ("+3M", 3_000_000),
        ("0", 0),
        (1048576, 1048576),
        (0.5, 1),
        ("1n", 1),
        ("7e-2", 1),
    ],
)
def test_a_quantity_has_kubernetes_value_in_whole_units(text: str | float, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "Gi", "10gi", "10 Gi", "1GiB", "10K", "1.2.3", "--1", "1e", "0x10", "٣", "9Ei", "1e99"],
)
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="10Gi, 500M or 1500m"):
        parse_quantity(text)


@pytest.mark.parametrize("number", [True, float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(number)


def test_a_billionth_is_the_smallest_step_and_less_is_rounded_up() -> None:
    assert Quantity("0.0000000001").exact == Fraction(1, 10**9)
    assert Quantity("-0.0000000001").exact == -Fraction(1, 10**9)


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.booleans())
def test_whole_values_survive_formatting(value: int, binary: bool) -> None:
    assert Quantity(format_quantity(value, binary=binary)).exact == value


@given(st.integers(-(10**20), 10**20), st.booleans())
def test_fractions_survive_formatting(billionths: int, binary: bool) -> None:
    value = Fraction(billionths, 10**9)
    assert Quantity(format_quantity(value, binary=binary)).exact == value


@given(
    st.decimals(-(10**6), 10**6, places=3).map(lambda d: format(d, "f")),
    st.sampled_from(["", "Ki", "Mi", "Gi", "n", "u", "m", "k", "M", "G", "e3", "E-2"]),
)
def test_the_canonical_text_means_the_same_and_stays(number: str, suffix: str) -> None:
    quantity = Quantity(number + suffix)
    assert Quantity(quantity.canonical()).exact == quantity.exact
    assert Quantity(quantity.canonical()).canonical() == quantity.canonical()


def test_canonical_texts_take_the_largest_suffix_of_their_family() -> None:
    assert Quantity("1024Mi").canonical() == "1Gi"
    assert Quantity("1000M").canonical() == "1G"
    assert Quantity("0.5").canonical() == "500m"
    assert Quantity("1500m").whole == 2


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.00B"),
        (1023, "1023.00B"),
        (1024, "1.00KiB"),
        (2061584302, "1.92GiB"),
        (2**20 - 1, "1.00MiB"),
        (2**60 * 3, "3.00EiB"),
        (-1536, "-1.50KiB"),
    ],
)
def test_sizes_for_people_look_as_fluid_prints_them(count: int, text: str) -> None:
    assert format_bytes(count) == text
