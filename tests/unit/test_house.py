"""The house rules that no linter knows: who prints, who ends the program, who reads the environment."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import chroma_cli

HOUSE = Path(chroma_cli.__file__).parent
MODULES = sorted(path.relative_to(HOUSE) for path in HOUSE.rglob("*.py"))
BELOW_CLI = [path for path in MODULES if path.parts[0] not in ("cli", "__main__.py")]


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse((HOUSE / module).read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> str:
    """``os.environ`` for that attribute, ``print`` for that name, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


@cache
def uses(module: Path) -> set[str]:
    """Return the dotted names in a module, and what it takes from others."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Name | ast.Attribute):
            found.add(dotted(node))
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{name.name}" for name in node.names)
    return found


def imports(module: Path) -> set[str]:
    """Return the libraries that are imported when the program runs, anywhere in the module."""
    typing = {
        id(inner)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.If) and dotted(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree(module)):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            found.update(name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).split(".")[0])
    return found


def offenders(forbidden: set[str], modules: list[Path]) -> dict[str, set[str]]:
    return {str(module): forbidden & uses(module) for module in modules if forbidden & uses(module)}


def test_the_modules_are_found() -> None:
    assert Path("cli/main.py") in MODULES
    assert Path("settings.py") in BELOW_CLI
    assert "os.environ" in uses(Path("settings.py"))


def test_nothing_below_cli_prints_or_ends_the_program() -> None:
    forbidden = {"print", "input", "exit", "quit", "breakpoint", "SystemExit", "os._exit", "os.abort"}
    forbidden |= {"sys.exit", "sys.stdout", "sys.stdin", "sys.argv", "sys.__stdout__", "sys.__stderr__"}
    assert offenders(forbidden, BELOW_CLI) == {}


def test_only_settings_reads_the_environment() -> None:
    forbidden = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}
    assert set(offenders(forbidden, MODULES)) <= {"settings.py"}


def test_typer_and_rich_stay_in_cli() -> None:
    assert {str(one) for one in BELOW_CLI if {"typer", "click", "rich"} & imports(one)} == set()


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("requests", {"gateway/transport.py"}),
        ("sqlite3", {"jobs/ledger.py", "jobs/salvage.py"}),
        ("rich", {"cli/output.py"}),
    ],
)
def test_each_library_has_its_owner(library: str, owners: set[str]) -> None:
    assert {str(module) for module in MODULES if library in imports(module)} <= owners


def test_each_module_says_what_it_owns() -> None:
    for module in MODULES:
        words = ast.get_docstring(tree(module)) or ""
        if module != Path("__init__.py"):
            assert words.split("\n\n")[0].rstrip().endswith((".", ":")), module


def test_nothing_swallows_every_error() -> None:
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{module}:{node.lineno} catches everything"
                catches_all = dotted(node.type) in ("Exception", "BaseException")
                idle = all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
                assert not (catches_all and idle), f"{module}:{node.lineno}"


def test_a_command_fits_on_a_screen_or_two() -> None:
    for module in MODULES:
        if module.parts[:2] == ("cli", "commands"):
            for node in tree(module).body:
                if isinstance(node, ast.FunctionDef):
                    assert (node.end_lineno or 0) - node.lineno < 60, f"{module}: {node.name}"
