from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError

from fluidpy.api.dataset import Mount
from fluidpy.api.document import YamlText, load_documents
from fluidpy.api.secret import Secret

TEXT = """
apiVersion: v1
kind: Secret
metadata: {name: keys}
data:
  id: YWRtaW4=
  folded: |
    aHVudGVy
    Mg==
stringData: {id: clear, other: hunter2}
"""


def _secret() -> Secret:
    loaded = load_documents(YamlText(TEXT))
    assert loaded.problems == []
    secret = loaded.objects[0].object
    assert isinstance(secret, Secret)
    return secret


def test_values_are_decoded_and_clear_text_wins() -> None:
    secret = _secret()
    assert secret.value("id") == b"clear"
    assert secret.value("folded") == b"hunter2"
    assert secret.value("none") is None
    assert secret.key_names() == {"id", "folded", "other"}


@pytest.mark.parametrize(
    "show", [repr, str, lambda s: repr(s.model_dump()), lambda s: s.model_dump_json()]
)
def test_values_show_in_no_text_of_the_object(show: object) -> None:
    assert callable(show)
    text = show(_secret())
    for value in ("YWRtaW4", "aHVudGVy", "clear", "hunter2"):
        assert value not in text


def test_a_loaded_object_does_not_show_values_either() -> None:
    assert "hunter2" not in repr(load_documents(YamlText(TEXT)))


def test_an_error_of_pydantic_shows_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Secret.model_validate({"metadata": {"name": "a"}, "data": {"k": "hunter2!"}})
    assert "hunter2" not in str(caught.value)


def test_options_of_a_mount_do_not_show() -> None:
    mount = Mount(mount_point="s3://bucket/a", options={"secret_access_key": "hunter2"})
    assert "hunter2" not in repr(mount)


def test_an_object_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(_secret())) == _secret()
