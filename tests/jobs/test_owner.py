"""Who is gone: dead, a zombie, another process under the same number, another boot, or silent elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma_cli.jobs.owner import REMOTE_PATIENCE, Owner, is_gone

ME = Owner.current()


def test_this_process_is_here() -> None:
    assert ME == Owner.current()
    assert ME.pid == os.getpid()
    assert not is_gone(ME, seen_from=ME, idle=1e9)


def test_another_running_process_is_here_until_it_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = replace(ME, pid=child.pid, started="")
        assert not is_gone(other, seen_from=ME, idle=1e9)
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        # Dead, and its parent has not asked yet: a zombie is gone as well.
        assert is_gone(other, seen_from=ME, idle=0.0)
        child.wait()
        assert is_gone(other, seen_from=ME, idle=0.0)


def test_a_reused_number_is_another_process() -> None:
    assert ME.started
    assert is_gone(replace(ME, started=ME.started + "1"), seen_from=ME, idle=0.0)


def test_a_reboot_ended_it() -> None:
    before = replace(ME, boot="an earlier boot")
    assert is_gone(before, seen_from=ME, idle=0.0) == bool(ME.boot)
    assert not is_gone(before, seen_from=replace(ME, boot=""), idle=0.0)


@pytest.mark.parametrize(
    ("idle", "gone"),
    [
        (0.0, False),
        (REMOTE_PATIENCE - 1, False),
        (REMOTE_PATIENCE + 1, True),
        (-60.0, False),
        # A clock that was years ahead must not keep a job for years.
        (-1e8, True),
    ],
)
def test_on_another_host_silence_counts(idle: float, gone: bool) -> None:
    assert is_gone(Owner("elsewhere", "b", ME.pid, ME.started), seen_from=ME, idle=idle) is gone


def test_systems_without_proc_ask_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    import chroma_cli.jobs.owner as module

    class NoProc:
        def __init__(self, path: str) -> None:
            self.path = path

        def read_text(self, **_: str) -> str:
            raise FileNotFoundError(self.path)

        readlink = read_text

    monkeypatch.setattr(module, "Path", NoProc)
    here = Owner.current()
    assert here.boot == ""
    assert not is_gone(here, seen_from=here, idle=0.0)
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        child.wait()
    assert is_gone(replace(here, pid=child.pid), seen_from=here, idle=0.0)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(OSError("no ps")))
    assert Owner.current().started == ""
    assert not is_gone(replace(here, started="some time"), seen_from=replace(here, pid=1), idle=0.0)

    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert not is_gone(replace(here, pid=1), seen_from=here, idle=0.0)


@given(st.builds(Owner, host=st.text(), boot=st.text(), pid=st.integers(1, 2**40), started=st.text()))
def test_text_and_back(owner: Owner) -> None:
    assert Owner.from_text(owner.text) == owner


@given(st.one_of(st.none(), st.text(), st.sampled_from(["[]", "[1,2,3,4]", '["a","b",0,"c"]', "{}", "7"])))
def test_nonsense_is_no_owner(text: str | None) -> None:
    assert Owner.from_text(text) is None


def test_a_container_is_a_host_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import chroma_cli.jobs.owner as module

    monkeypatch.setattr(module.Path, "readlink", lambda self: module.Path("pid:[4026539999]"))
    inside = Owner.current()
    assert inside.host != ME.host
    assert not is_gone(replace(inside, pid=2**22 + 1), seen_from=ME, idle=0.0)
