"""Each error that is raised in the source says what to do about it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy import errors

SOURCE = Path(errors.__file__).parent

WITHOUT_CURE = {
    "LostConnectionError": "internal: the call is made again, or WorkerTimeoutError is raised",
    "LinkLostError": "internal: the request is asked of the next worker",
}
"""Classes that may be raised without a cure, and why."""

LISTS_OF_PROBLEMS = {"api/document.py", "control/admission.py", "namespace/resolve.py"}
"""Where a ValidationError joins problems, each of which has its own cure in its text."""

KINDS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.FluidpyError)
}


def _kinds_of(tree: ast.Module) -> set[str]:
    """The classes of errors, with those that a module derives for itself."""
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in KINDS for base in node.bases)
    }
    return KINDS | own


def _errors_without_cure(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = _kinds_of(tree) - set(WITHOUT_CURE)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id not in kinds:
            continue
        joined = path.relative_to(SOURCE).as_posix() in LISTS_OF_PROBLEMS
        if joined and node.func.id == "ValidationError":
            continue
        given = [word.value for word in node.keywords if word.arg in ("cure", None)]
        if not given or any(isinstance(v, ast.Constant) and not v.value for v in given):
            yield f"{path.relative_to(SOURCE)}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("package", sorted(p.name for p in SOURCE.iterdir() if p.name[0] != "_"))
def test_each_error_has_a_cure(package: str) -> None:
    top = SOURCE / package
    files = sorted(top.rglob("*.py")) if top.is_dir() else [top]
    found = [line for path in files if path.suffix == ".py" for line in _errors_without_cure(path)]
    assert not found, "\n".join(found)


def test_the_check_sees_a_missing_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    source = tmp_path / "module.py"
    source.write_text("class Own(MountError): pass\nraise Own('x')\nraise CacheError('y', cure='')")
    assert len(list(_errors_without_cure(source))) == 2
