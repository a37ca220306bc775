"""Who can spend, read from the syntax tree: a submit leaves in few places, each with a row of the ledger.

The sets below are today's truth. They may shrink, to one function each; whoever makes one grow has to say why
money may now leave by another door.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import chroma_cli

ROOT = Path(chroma_cli.__file__).parent

#: Functions that say POST to a gateway.
POSTING = {
    "gateway.client.Client.begin_submit",
    "gateway.client.Client.begin_generate_sync",
}
#: Functions elsewhere that call those, or what in the gateway's package calls them.
SENDING = {
    "jobs.lifecycle.Lifecycle.submit",
    "jobs.lifecycle.Lifecycle.open_submit",
    "jobs.lifecycle.Lifecycle._call",
}
#: Functions that write a new job into the ledger.
INSERTING = {"jobs.entries._insert_row"}
#: Functions that make a row that is in no ledger: without one, for shows, and of ids submitted elsewhere.
MAKING_ROWS = {
    "jobs.records.row_from",
    "jobs.book.Book._unrecorded",
    "jobs.planning._noted",
    "cli.jobsel.stranger",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """All functions of the program but the sandbox's, with their names; nested ones count to the outer."""
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not module.startswith("sandbox"):
            yield from _in(ast.parse(path.read_text()), module)


def _in(node: ast.AST, name: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield f"{name}.{child.name}", child
        elif isinstance(child, ast.ClassDef):
            yield from _in(child, f"{name}.{child.name}")


def calls(function: Function) -> set[str]:
    """The last names of what a function calls, or hands on to be called."""
    inside = list(ast.walk(function))
    return {node.attr for node in inside if isinstance(node, ast.Attribute)} | {
        node.id for node in inside if isinstance(node, ast.Name)
    }


def texts(function: Function) -> str:
    doc = ast.get_docstring(function, clean=False)
    found = [node.value for node in ast.walk(function) if isinstance(node, ast.Constant)]
    return "\n".join(text for text in found if isinstance(text, str) and text != doc)


def test_a_post_is_sent_by_these_functions_alone() -> None:
    first_words = {
        name
        for name, function in functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and any(isinstance(word, ast.Constant) and word.value == "POST" for word in node.args)
    }
    assert first_words == POSTING


def test_only_functions_with_a_row_of_the_ledger_send_a_submit() -> None:
    doors = {name.rpartition(".")[2] for name in POSTING}
    within = {
        name.rpartition(".")[2]
        for name, function in functions()
        if name.startswith("gateway.") and calls(function) & doors and name not in POSTING
    }
    # the names are looked for where the client is used: other objects have methods of these names
    senders = {}
    for name, function in functions():
        if name.startswith("gateway."):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Attribute):
                continue
            of_client = isinstance(node.value, ast.Attribute) and node.value.attr in ("client", "_client")
            if node.attr in doors or (node.attr in within and of_client):
                senders[name] = function
    assert set(senders) == SENDING
    for name, function in senders.items():
        rows = [
            one.arg
            for one in function.args.args
            if one.annotation and ast.unparse(one.annotation) == "JobRow"
        ]
        assert rows or "intend" in calls(function) or "now" in {one.arg for one in function.args.args}, name


def test_a_job_is_begun_in_one_place() -> None:
    assert {name for name, function in functions() if "INSERT INTO jobs" in texts(function)} == INSERTING
    makers = {
        name
        for name, function in functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "JobRow"
    }
    assert makers == MAKING_ROWS
