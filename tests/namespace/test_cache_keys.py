from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.namespace.cache_keys import CacheKeys

_quadruples = st.tuples(
    st.text("ab/", max_size=4), st.binary(max_size=3), st.binary(max_size=3), st.binary(max_size=3)
)


@given(_quadruples, _quadruples)
def test_each_source_identity_path_and_version_has_a_key_of_its_own(
    one: tuple[str, bytes, bytes, bytes], other: tuple[str, bytes, bytes, bytes]
) -> None:
    keys = [
        CacheKeys(source, who).key(path, version) for source, who, path, version in (one, other)
    ]
    assert (keys[0] == keys[1]) == (one == other)
    assert all(len(key) == 16 for key in keys)


def test_a_key_stays_the_same_for_caches_that_exist() -> None:
    keys = CacheKeys("s3:https://s3.example/bucket/prefix", b"i" * 16)
    assert keys.key(b"train/0.tar", b"\x01v").hex() == "d42a5586ad624518328ab09dcb6a9203"
    assert keys.key(b"train/0.tar", b"\x01v") == keys.key(b"train/0.tar", b"\x01v")
