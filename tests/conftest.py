"""What every test needs: no setting, key or state of the person who runs the tests."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["kit.plugin"]

_TERMINAL = ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "COLUMNS", "LINES")
_CI = ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# A busy machine is no reason to fail: speed belongs to the benchmarks.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Who starts the tests in the background of a shell has Ctrl-C ignored, and every program here inherits it.
if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Config and state below ``tmp_path``; no key, no switch, no proxy, a plain terminal."""
    for name in tuple(os.environ):  # noqa: TID251
        if name.startswith(("CHROMA_", "SEGMIND_")) or name.upper() in (*_TERMINAL, *_CI, *_PROXIES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("CHROMA_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CHROMA_CONFIG", str(tmp_path / "config.toml"))
