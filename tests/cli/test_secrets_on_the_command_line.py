"""Secrets do not belong on a command line, which every user of the machine can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluidpy.cli.options import read_secret_files
from fluidpy.errors import UsageError
from fluidpy.namespace.resolve import is_secret_option


@pytest.mark.parametrize("name", ["secret_access_key", "fs.oss.accessKeySecret", "token"])
def test_a_secret_in_an_option_is_refused_without_repeating_it(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_secret_files({name: "hunter2"}, is_secret_option)
    assert f"-o {name}=@FILE" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_secret_is_read_from_a_file_and_other_options_are_kept(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    given = {"secret_access_key": f"@{tmp_path}/key", "endpoint": "@here"}
    assert read_secret_files(given, is_secret_option) == {
        "secret_access_key": "hunter2",
        "endpoint": "@here",
    }


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing cannot be read: No such file"):
        read_secret_files({"token": f"@{tmp_path}/missing"}, is_secret_option)
