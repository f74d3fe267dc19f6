"""Files that declare nothing usable: what a user reads, and that nothing happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.conftest import Refusals, dataset

NEVER_READ = "local:///never-read"
TWO = f"{dataset(NEVER_READ, 'one')}---\n{dataset(NEVER_READ, 'two')}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"",
            "the files declare no Dataset\n"
            "cure: Give a file with an object of kind: Dataset; docs/dataset.md has examples.",
        ),
        (b"\x80PNG", "FILE:1:1: byte 0x80 is not UTF-8; save the file as UTF-8"),
        (
            b"a: \0",
            "FILE:1:4: not YAML: character U+0000: special characters are not allowed; "
            "remove the character, or write it as an escape in double quotes",
        ),
        (
            b"[" * 5000,
            "FILE:1:101: not YAML: nested more than 100 levels deep; mend the YAML there",
        ),
        (
            dataset("http://user:pass-word@host/x/").encode(),
            "FILE:9:19: spec.mounts[0].mountPoint: has a password in it; "
            "put it in a Secret and name it under encryptOptions",
        ),
        (
            dataset(NEVER_READ).replace("kind: Dataset", "kind: AlluxioRuntimes").encode(),
            "FILE:2:7: kind: unknown kind 'AlluxioRuntimes'; did you mean 'AlluxioRuntime'?",
        ),
    ],
    ids=["empty", "binary", "nul", "deep", "password", "kind"],
)
@pytest.mark.parametrize("verb", ["mount", "ls"])
def test_a_file_that_is_none(
    refusals: Refusals, tmp_path: Path, verb: str, content: bytes, message: str
) -> None:
    file, directory = tmp_path / "d.yaml", tmp_path / "data"
    file.write_bytes(content)
    directory.mkdir()
    target = directory if verb == "mount" else "fluid://pets/"
    said = refusals.said(verb, "-f", file, target).replace(str(file), "FILE")
    if verb == "ls" and not content:
        assert said.startswith("the files declare no Dataset")
    else:
        assert said == message


def test_aliases_that_explode(refusals: Refusals, tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    file = tmp_path / "d.yaml"
    file.write_text("\n".join(lines))
    said = refusals.said("mount", "-f", file, tmp_path)
    assert "aliases expand to more than 10000 values; write the values out" in said


def test_a_folder_with_one_bad_file(refusals: Refusals, tmp_path: Path) -> None:
    folder = tmp_path / "yaml"
    folder.mkdir()
    (folder / "a.yaml").write_text(dataset(NEVER_READ))
    (folder / "b.yaml").write_text("kind: [\n")
    assert refusals.said("mount", "-f", folder, tmp_path) == (
        f"{folder}/b.yaml:2:1: not YAML: while parsing a flow node, expected the node content, "
        "but found '<stream end>'; mend the YAML there"
    )


def test_files_that_are_not_there(refusals: Refusals, tmp_path: Path) -> None:
    said = refusals.said("mount", "-f", "nowhere.yaml", tmp_path)
    assert said == "nowhere.yaml: there is no such file; check the path"


def test_which_dataset_is_meant(refusals: Refusals, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(TWO)
    assert refusals.said("mount", "-f", file, tmp_path, code=2) == (
        "several Datasets could be meant: default/one, default/two\n"
        "cure: Name one, with its namespace."
    )
    for verb in ("mount", "load"):
        words = (tmp_path,) if verb == "mount" else ()
        assert refusals.said(verb, "-f", file, "three", *words) == (
            "the files declare no Dataset three; they declare default/one, default/two\n"
            "cure: Give one of those names, or the file that declares it."
        )


def test_a_dataset_nobody_knows(refusals: Refusals, tmp_path: Path) -> None:
    known = (
        "cure: Name its YAML file (-f FILE; in Python storage_options={'file': FILE}), "
        "set FLUIDPY_PATH to folders of YAML, mount it, or apply it (`fluidpy up`)."
    )
    wanted = f"no Dataset pets; looked in the Datasets that are mounted; the control plane\n{known}"
    assert refusals.said("mount", "pets", tmp_path) == wanted
    assert refusals.said("cat", "fluid://pets/a") == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("mount", "nothing to mount is given\ncure: fluidpy mount -f FILE DIR, or: fluidpy mount "
                  "URL DIR"),
        ("mount -f d.yaml", "no directory is given\ncure: fluidpy mount -f FILE DIR, or: fluidpy "
                            "mount URL DIR"),
        ("mount a b c", "3 words are too many: a b c\ncure: Give what to mount and one directory."),
        ("cat", "no file is named\ncure: fluidpy cat fluid://NAME/PATH…"),
        ("ls fluid:///x", "fluid:///x names no Dataset\ncure: Write fluid://NAME/PATH"),
        ("ls s3://x", "s3://x is not a fluid:// URL\ncure: Write fluid://NAME/PATH"),
        ("nonsense", "no such command 'nonsense'\ncure: See fluidpy --help"),
        ("mount http://u:pass-word@host/ d", "the URL has a password in it, and URLs are shown in "
         "messages and records\ncure: take it out, and give user and password as options "
         "(encryptOptions in YAML)."),
    ],
)  # fmt: skip
def test_wrong_usage(refusals: Refusals, words: str, message: str) -> None:
    assert refusals.said(*words.split(), code=2) == message
    assert not list(refusals.runtime.iterdir())
