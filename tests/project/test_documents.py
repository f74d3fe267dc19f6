"""The documents tell the truth: commands, settings, links, changelog."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from fluidpy.api.document import load_documents
from fluidpy.api.texts import YamlText
from fluidpy.cli.application import build
from fluidpy.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
GROUPS = ("cache", "runtime")
"""Commands that have commands of their own."""
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def _blocks(language: str) -> dict[str, str]:
    """The blocks of a language in all documents, by the document and the line they begin after."""
    found = {}
    for document in [*DOCUMENTS, *sorted((ROOT / "runtimes").rglob("*.md"))]:
        text = document.read_text()
        for block in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, block.start()) + 1
            found[f"{document.relative_to(ROOT)}:{line}"] = block[1]
    return found


OBJECTS = {place: text for place, text in _blocks("yaml").items() if "data.fluid.io/" in text}


def _commands() -> dict[str, set[str]]:
    """Every command (`cache ls` as two words) and its options."""
    found: dict[str, set[str]] = {}

    def walk(command: object, words: tuple[str, ...]) -> None:
        options = {flag for p in getattr(command, "params", []) for flag in getattr(p, "opts", [])}
        found[" ".join(words)] = options
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*words, name))

    walk(typer.main.get_command(build()), ())
    return found


def _code(text: str) -> Iterator[str]:
    """Lines of console blocks, and inline code, each a command line perhaps."""
    for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", text, re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", text)


def _uses(text: str) -> Iterator[list[str]]:
    for line in _code(text):
        for part in re.split(r"[|;&]", line.split(" #")[0]):
            words = part.strip().removeprefix("$ ").split()
            if len(words) > 1 and words[0] == "fluidpy":
                yield words[1:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_documents_show_are_there(document: Path) -> None:
    commands = _commands()
    for words in _uses(document.read_text()):
        if words[0].startswith("-") or not re.fullmatch(r"[a-z]+", words[0]):
            continue
        name = " ".join(words[:2]) if words[0] in GROUPS and len(words) > 1 else words[0]
        name = words[0] if name.startswith(f"{words[0]} -") else name
        assert name in commands, f"{document.name}: fluidpy {' '.join(words)}"
        options = {word.split("=")[0] for word in words if word.startswith("-") and word != "-"}
        known = commands[name] | {"--help", "--version"}
        assert options <= known, f"{document.name}: fluidpy {' '.join(words)}"


def test_the_command_line_page_has_every_command() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text()
    for name, options in _commands().items():
        if name in ("", "worker", "fuse", *GROUPS):
            continue
        assert f"fluidpy {name}" in text, name
        for option in options - {"--install-completion", "--show-completion"}:
            if option.startswith("--") and option != "--help":
                assert option in text, f"{name} {option}"


def test_the_configuration_page_has_every_setting_and_its_default() -> None:
    rows = dict(
        re.findall(
            r"^\| `([a-z_]+)` \| ([^|]*?) \|",
            (ROOT / "docs" / "configuration.md").read_text(),
            re.MULTILINE,
        )
    )
    names = {field.name for field in fields(Settings)}
    assert set(rows) == names
    for field in fields(Settings):
        if isinstance(field.default, bool):
            assert rows[field.name] == str(field.default).lower(), field.name
        elif isinstance(field.default, int | float):
            shown = rows[field.name].split(" (")[0]
            assert float(shown) == float(field.default), field.name


@pytest.mark.parametrize("place", OBJECTS)
def test_objects_that_documents_show_are_valid(place: str) -> None:
    result = load_documents(YamlText(OBJECTS[place], place))
    assert result.objects
    assert [str(one) for one in (*result.problems, *result.warnings)] == []


def test_documents_show_objects_where_they_explain_them() -> None:
    shown = {place.rpartition(":")[0] for place in OBJECTS}
    assert shown >= {"README.md", "docs/tutorial.md", "docs/dataset.md", "docs/runtimes.md"}


def test_a_mistake_in_the_tutorials_file_is_told_in_the_words_it_shows() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    (shown,) = re.findall(r"^(photos\.yaml:.*)$", text, re.MULTILINE)
    (block,) = (one for place, one in OBJECTS.items() if place.startswith("docs/tutorial.md"))
    wrong = block.replace("mountPoint", "mountpoint", 1)
    assert str(load_documents(YamlText(wrong, "photos.yaml")).problems[0]) == shown


@pytest.mark.parametrize(("place", "text"), _blocks("python").items())
def test_python_that_documents_show_compiles(place: str, text: str) -> None:
    compile(text, place, "exec")


def test_the_configuration_file_that_is_shown_is_accepted(tmp_path: Path) -> None:
    (text,) = _blocks("toml").values()
    file = tmp_path / "config.toml"
    file.write_text(text)
    settings = load_settings({"HOME": str(tmp_path), "FLUIDPY_CONFIG": str(file)})
    assert settings.cache_dir == Path("/nvme/fluidpy")
    assert settings.pvc_directories == {"training-data": "/mnt/training-data"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_readme_needs_two_make_targets_only() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^make (\w+)", text, re.MULTILINE))
    assert targets == {"quickstart", "test"}
    for target in targets:
        dry = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert dry.returncode == 0, dry.stderr


def test_the_changelog_keeps_its_format() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    for heading in headings[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading)
    allowed = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= allowed


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def _texts() -> list[str]:
    """Every text of the source, f-strings in pieces."""
    return [
        node.value
        for path in (ROOT / "fluidpy").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_the_messages_explained_are_those_that_are_said() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    texts = _texts()
    rows = re.findall(r"^\| `([^`]+)`[^|]*\|", page, re.MULTILINE)
    assert len(rows) > 20
    for message in rows:
        if message == "Transport endpoint is not connected":  # the kernel's
            continue
        for piece in re.split(r" ?… ?|\?$", message):
            words = piece.strip(" :")
            assert any(words in text for text in texts), f"{message}: {words!r} is said nowhere"
