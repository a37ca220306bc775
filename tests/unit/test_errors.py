"""The tree of errors, walked: every class has its code, its name, and its JSON object."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator

import pytest

import chroma_cli
from chroma_cli.errors import (
    Charged,
    ChromaError,
    ExitCode,
    InvalidParameters,
    OutcomeUnknown,
    OutputError,
    Problem,
    TerminationRequest,
)
from chroma_cli.jobs.records import InWork, JobRow, LedgerUnusable, PlacePromised, SavedBefore

for module in pkgutil.walk_packages(chroma_cli.__path__, "chroma_cli."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)  # so that errors outside errors.py are found, too


def below(kind: type[ChromaError]) -> Iterator[type[ChromaError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("chroma_cli"):
            yield child
            yield from below(child)


ALL = sorted(set(below(ChromaError)), key=lambda kind: kind.__name__)


def made(kind: type[ChromaError]) -> ChromaError:
    if issubclass(kind, InvalidParameters):
        return kind([Problem("--steps", "5 is too few")])
    if issubclass(kind, LedgerUnusable):
        return kind("damaged", "It is damaged.", path="jobs.sqlite3")
    if issubclass(kind, PlacePromised):
        return kind(["fox.png"], 17)
    if issubclass(kind, InWork | SavedBefore):
        row = JobRow(3, "token", "https://here", "async", "queued", Charged.UNKNOWN, 0.055, 0.0, 0.0, "abc")
        return kind(row) if issubclass(kind, InWork) else kind([row])
    return kind("It went wrong.")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_is_an_object_of_the_contract(kind: type[ChromaError]) -> None:
    error = made(kind)
    error.about(request_id="abc", job=3)
    value = json.loads(json.dumps(error.as_dict()))
    assert list(value) == ["type", "message", "hint", "exit_code", "request_id", "job", "charged"]
    assert value["exit_code"] == int(kind.exit_code) != 0
    assert value["charged"] in ("no", "yes", "unknown")
    assert (value["request_id"], value["job"]) == ("abc", 3)
    assert value["message"]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_a_type_of_its_own(kind: type[ChromaError]) -> None:
    assert [other for other in ALL if other.type == kind.type] == [kind]
    assert kind.type.replace("_", "").isalpha()
    assert kind.type.islower()


def test_every_exit_code_but_0_belongs_to_an_error() -> None:
    assert {kind.exit_code for kind in ALL} == set(ExitCode) - {ExitCode.OK}


def test_the_codes_are_the_promised_ones() -> None:
    assert [int(code) for code in ExitCode] == [*range(12), 129, 130, 143]


def test_the_first_who_knows_the_job_names_it() -> None:
    error = made(OutputError)
    error.about(request_id="first", job=0)
    error.about(request_id="second", job=2)
    assert (error.request_id, error.job) == ("first", 0)


def test_an_unknown_outcome_may_have_cost_money() -> None:
    assert OutcomeUnknown("x").charged is Charged.UNKNOWN
    assert OutcomeUnknown("x", charged=Charged.NO).charged is Charged.NO


def test_problems_stand_one_a_line_with_their_suggestion() -> None:
    error = InvalidParameters([Problem("--a", "is bad"), Problem("--b", "is worse", "good")])
    assert error.message == "--a: is bad\n--b: is worse. Did you mean 'good'?"


def test_a_request_to_terminate_is_not_caught_as_an_ordinary_exception() -> None:
    assert not issubclass(TerminationRequest, Exception)
    assert issubclass(TerminationRequest, KeyboardInterrupt)
