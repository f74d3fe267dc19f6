"""`runtime.yaml`: what is accepted, and everything that is said of what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.errors import ValidationError
from fluidpy.runtime.manifest import load_manifest
from fluidpy.runtime.placeholders import PlaceholderSyntaxError, filled, placeholders

STORAGE = """\
apiVersion: runtime.fluidpy.io/v1
kind: storage
name: starfs
version: 0.1.0
options:
  - {name: root, required: true}
  - {name: token, secret: true}
storage:
  protocols: [starfs]
  class: starfs.filesystem:StarFileSystem
"""
MOUNT = """\
apiVersion: runtime.fluidpy.io/v1
kind: mount
name: sshfs
version: 0.1.0
options:
  - {name: port, default: "22"}
  - {name: key, secret: true}
mount:
  command:
    [sshfs, -f, "{source}", "{target}", -p, "{options.port}", "-oIdentityFile={secretFile.key}"]
  environment: {KEY: "{secret.key}"}
  filesystemType: fuse.sshfs
"""


def _problems(text: str, tmp_path: Path) -> list[str]:
    file = tmp_path / "runtime.yaml"
    file.write_text(text)
    with pytest.raises(ValidationError) as raised:
        load_manifest(tmp_path)
    return [line.removeprefix(f"{file}:") for line in raised.value.message.splitlines()]


def test_a_storage_plugin_is_read(tmp_path: Path) -> None:
    (tmp_path / "runtime.yaml").write_text(STORAGE)
    manifest = load_manifest(tmp_path)
    assert manifest.name == "starfs"
    assert manifest.storage is not None
    assert manifest.storage.class_ == "starfs.filesystem:StarFileSystem"
    assert manifest.protocols == ("starfs",)


def test_a_mount_plugin_is_read(tmp_path: Path) -> None:
    (tmp_path / "runtime.yaml").write_text(MOUNT)
    mount = load_manifest(tmp_path).mount
    assert mount is not None
    assert mount.command[2] == "{source}"
    assert (mount.ready_seconds, mount.stop_seconds, mount.unmount) == (30, 10, [])


def test_a_missing_field_is_told_with_its_place(tmp_path: Path) -> None:
    text = STORAGE.replace("  class: starfs.filesystem:StarFileSystem\n", "")
    assert _problems(text, tmp_path) == ["9:3: storage.class: is required; add the field"]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = (
        MOUNT.replace("name: sshfs", "name: SSH_fs")
        .replace("{options.port}", "{options.prot}")
        .replace("IdentityFile={secretFile.key}", "password={secret.key}")
        .replace('"22"', "22")
        .replace("filesystemType:", "filesystemTyp:")
    )
    told = _problems(text, tmp_path)
    assert [line.split(": ", 2)[1] for line in told] == [
        "name",
        "options[0].default",
        "mount.command[5]",
        "mount.command[6]",
        "mount.filesystemTyp",
    ]
    assert "did you mean 'port'?" in told[2]
    assert "would show the secret to all users of the machine" in told[3]
    assert "did you mean 'filesystemType'?" in told[4]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: storage", "kind: mount", "is required by kind mount"),
        ("protocols: [starfs]", "protocols: [s3]", "'s3' is read by fluidpy itself"),
        ("protocols: [starfs]", "protocols: ['starfs://']", "is no scheme of a URL"),
        ("starfs.filesystem:Star", "starfs.filesystem.Star", "is not MODULE:NAME"),
        ("{name: token, secret: true}", "{name: root}", "'root' is there twice"),
        ("secret: true}", "secret: true, default: x}", "a secret has no default"),
        ("fluidpy.io/v1", "fluidpy.io/v2", "must be 'runtime.fluidpy.io/v1'"),
        ("kind: storage", "kind: storag", "did you mean 'storage'?"),
        ("name: starfs\n", "name: starfs\nname: other\n", "name"),
    ],
)
def test_a_mistake_names_the_cure(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert any(said in line for line in _problems(STORAGE.replace(old, new), tmp_path))


def test_a_command_without_a_target_is_refused(tmp_path: Path) -> None:
    (told,) = _problems(MOUNT.replace('"{target}", ', ""), tmp_path)
    assert told.endswith("the program is not told where to mount; add the argument '{target}'")


def test_a_folder_without_a_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"runtime\.yaml: there is no such file"):
        load_manifest(tmp_path)


@given(st.dictionaries(st.sampled_from(["a", "b.c"]), st.text(), min_size=2), st.text())
def test_values_are_put_in_as_they_are(values: dict[str, str], around: str) -> None:
    escaped = around.replace("{", "{{").replace("}", "}}")
    text = f"{escaped}{{a}}{escaped}{{b.c}}"
    assert list(placeholders(text)) == ["a", "b.c"]
    assert filled(text, values.__getitem__) == f"{around}{values['a']}{around}{values['b.c']}"


@pytest.mark.parametrize("text", ["{", "a}b", "{a"])
def test_a_single_brace_is_told(text: str) -> None:
    with pytest.raises(PlaceholderSyntaxError):
        filled(text, str)
