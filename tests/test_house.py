"""The house rules that no linter knows: who prints, who ends the program, who reads the environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import chroma_cli

HOUSE = Path(chroma_cli.__file__).parent
MODULES = sorted(path.relative_to(HOUSE) for path in HOUSE.rglob("*.py"))
BELOW_CLI = [path for path in MODULES if path.parts[0] not in ("cli", "__main__.py")]


def tree(module: Path) -> ast.Module:
    return ast.parse((HOUSE / module).read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> str:
    """``os.environ`` for that attribute, ``print`` for that name, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def uses(module: Path) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Name | ast.Attribute):
            yield dotted(node)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imports(module: Path) -> Iterator[str]:
    """Top-level names of what is imported when the program runs, anywhere in the module."""
    whole = tree(module)
    for node in ast.walk(whole):
        if isinstance(node, ast.If) and dotted(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(whole):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).split(".")[0]


def test_the_modules_are_found() -> None:
    assert Path("cli/main.py") in MODULES
    assert Path("settings.py") in BELOW_CLI
    assert list(uses(Path("settings.py"))).count("os.environ") == 1


@pytest.mark.parametrize("module", BELOW_CLI, ids=str)
def test_nothing_below_cli_prints_or_ends_the_program(module: Path) -> None:
    forbidden = {"print", "input", "exit", "quit", "breakpoint", "SystemExit", "os._exit", "os.abort"}
    forbidden |= {"sys.exit", "sys.stdout", "sys.stdin", "sys.argv", "sys.__stdout__", "sys.__stderr__"}
    assert not forbidden & set(uses(module))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_settings_reads_the_environment(module: Path) -> None:
    forbidden = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}
    if module != Path("settings.py"):
        assert not forbidden & set(uses(module))


@pytest.mark.parametrize("module", BELOW_CLI, ids=str)
def test_typer_and_rich_stay_in_cli(module: Path) -> None:
    assert not {"typer", "click", "rich"} & set(imports(module))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_each_library_has_its_owner(module: Path) -> None:
    owners = {
        "requests": {Path("gateway/transport.py")},
        "sqlite3": {Path("jobs/ledger.py"), Path("jobs/salvage.py")},
        "rich": {Path("cli/output.py")},
    }
    for library, owned in owners.items():
        if library in set(imports(module)):
            assert module in owned


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_each_module_says_what_it_owns(module: Path) -> None:
    words = ast.get_docstring(tree(module))
    if module != Path("__init__.py"):
        assert words
        assert words.split("\n\n")[0].rstrip().endswith((".", ":"))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_swallows_every_error(module: Path) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"
            catches_all = dotted(node.type) in ("Exception", "BaseException")
            idle = all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
            assert not (catches_all and idle), f"line {node.lineno}"


@pytest.mark.parametrize(
    "module", sorted((HOUSE / "cli" / "commands").glob("*.py")), ids=lambda path: path.name
)
def test_a_command_fits_on_a_screen_or_two(module: Path) -> None:
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60
