"""The address of a volume's metadata never shows the password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.runtime.juicefs.meta_address import MetaAddress, meta_address

PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1
).filter(lambda text: "?" not in text and text.strip() == text)
HOSTS = st.sampled_from(["h", "10.0.0.1:6379", "(127.0.0.1:3306)", "[::1]:6379", "a:1,b:2"])


@given(st.sampled_from(["redis", "mysql", "postgres"]), PASSWORDS, HOSTS)
def test_a_password_is_taken_out_whatever_it_holds(scheme: str, password: str, host: str) -> None:
    found = meta_address(f"{scheme}://user:{password}@{host}/db?x=1")
    assert found.password == password
    assert found.url == f"{scheme}://user:@{host}/db?x=1"
    assert found.environment == {"META_PASSWORD": password}
    assert password == "" or f"password={password!r}" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost/1",
        "sqlite3:///var/lib/meta.db",
        "mysql://user:@(127.0.0.1:3306)/juicefs",
        "postgres://user@host/db?sslmode=disable",
        "sqlite3:///a@b:c.db",
    ],
)
def test_an_address_without_a_password_stays_as_it_is(url: str) -> None:
    assert meta_address(url) == MetaAddress(url)
    assert meta_address(url).environment == {}


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("localhost:6379", "does not begin with one of redis"),
        ("http://:secret-1@host", "does not begin with one of redis"),
        ("sqlite3://meta.db", "write sqlite3:///DIRECTORY/FILE"),
        ("redis://", "names nothing"),
        ("redis://:secret-1?x@host/1", "write %40 for '@'"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_without_a_secret(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="metaurl") as caught:
        meta_address(url)
    assert sentence in str(caught.value)
    assert "secret-1" not in str(caught.value)
