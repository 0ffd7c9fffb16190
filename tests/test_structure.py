"""The rules that keep ten chapters one book: who imports whom, and how long a file may be."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(p.parent for p in ROOT.glob("*/__init__.py"))
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
CHAPTER = re.compile(r"chapter_(\d\d)_")
EXTRAS = {  # where a real integration is
    "chapter_09_scaling/mpi.py": {"mpi4py"},
    "chapter_10_production/app.py": {"starlette"},
    "chapter_10_production/attention_view.py": {"starlette"},
    "chapter_10_production/graceful_server.py": {"uvicorn"},
    "chapter_10_production/hugging_face_export.py": {"torch", "transformers"},
    "chapter_10_production/metrics.py": {"prometheus_client"},
    "chapter_10_production/onnx_export.py": {"onnx", "onnxruntime"},
    "chapter_10_production/protocol.py": {"h11", "uvicorn"},
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def chapter_of(name: str) -> int:
    """The number of a chapter's module; `utils` comes before all chapters."""
    found = CHAPTER.match(name)
    return int(found.group(1)) if found else 0


def imported_by(path: Path) -> list[str]:
    """The absolute names of the modules that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def is_script(path: Path) -> bool:
    return '__name__ == "__main__"' in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path):
    own = chapter_of(name_of(path))
    for module in imported_by(path):
        number = chapter_of(module)
        assert number == 0 or own > 0, f"utils imports a chapter: {module}"
        assert number <= own, f"chapter {own} imports the later chapter {number}: {module}"


def test_the_book_s_map_of_imports_is_true():
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What imports what")[2]
    rows = re.findall(r"^\| (\d+) · [^|]+ \| ([^|]*)\|", text, re.MULTILINE)
    said = {
        int(chapter): {int(other) for other in re.findall(r"\d+", cell)} for chapter, cell in rows
    }
    for package in PACKAGES:
        own = chapter_of(package.name)
        found = {
            chapter_of(module) for path in package.glob("*.py") for module in imported_by(path)
        }
        if own > 0:
            assert said[own] == found - {0, own}, f"of chapter {own}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_run_time_dependencies_are_few(path):
    allowed = {"numpy", "matplotlib", "cycler", "tqdm", "utils"} | standard_library()
    allowed |= EXTRAS.get(name_of(path), set())
    for module in imported_by(path):
        top = module.partition(".")[0]
        assert top in allowed or CHAPTER.match(top), f"{module} is not among the dependencies"


def standard_library() -> set:
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:
        pytest.skip("this Python does not list its standard library (3.10 does)")
    return set(names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_named_after_the_standard_library(path):
    assert path.stem not in standard_library() - {"__init__"}


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_packages_never_import_their_scripts(package):
    scripts = {path.stem for path in package.glob("*.py") if is_script(path)}
    for module in imported_by(package / "__init__.py"):
        assert module.rpartition(".")[2] not in scripts, f"{module} is a script"


@pytest.mark.parametrize("path", [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))], ids=name_of)
def test_files_are_short(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 400, f"{name_of(path)} has {lines} lines: one idea a file"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_open_with_their_idea_and_say_nothing_aloud(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{name_of(path)} does not say what it is about"
    if not is_script(path):
        calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
        printing = [f for f in calls if isinstance(f, ast.Name) and f.id == "print"]
        allowed = name_of(path) == "utils/commandline.py"
        assert allowed or not printing, "modules define, scripts run: return it instead"


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_public_names_exist_and_are_sorted(package):
    module = __import__(package.name)
    names = getattr(module, "__all__", None)
    assert names == sorted(names), f"{package.name}.__all__ is not sorted"
    for name in names:
        assert hasattr(module, name), f"{package.name}.{name} does not exist"
