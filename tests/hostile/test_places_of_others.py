"""Places that another account can change: what lies there is not believed, or not without a word."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import KEY, Gateway

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")


@pytest.fixture
def stranger() -> Iterator[Gateway]:
    """A gateway that must not hear of us."""
    with Gateway() as other:
        yield other
        assert other.requests() == []


def _folders(root: Path) -> Path:
    made = root / "one" / "two" / "three"
    made.mkdir(parents=True)
    return made


def _group(folder: Path) -> None:
    """Writable for a group that has a name of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root gives a folder to a group at will")
    os.chown(folder, -1, 100)
    folder.chmod(0o775)


def _open_up(root: Path, how: str) -> Path:
    """Return a folder to which others have a way."""
    folder = _folders(root)
    match how:
        case "grandparent":
            folder.parent.chmod(0o777)
        case "great-grandparent":
            folder.parent.parent.chmod(0o777)
        case "group":
            _group(folder.parent)
        case "folder of a link":
            links = root / "links"
            links.mkdir()
            (links / "way").symlink_to(folder)
            links.chmod(0o777)
            return links / "way"
        case "target of a link":
            (root / "way").symlink_to(folder.parent)
            folder.parent.parent.chmod(0o777)
            return root / "way" / "three"
    return folder


OPEN = ["grandparent", "great-grandparent", "group", "folder of a link", "target of a link"]


@pytest.mark.parametrize("how", OPEN)
def test_a_gateway_from_a_config_that_others_can_change(
    gateway: Gateway, stranger: Gateway, chroma: Any, tmp_path: Path, monkeypatch: Any, how: str
) -> None:
    config = _open_up(tmp_path, how) / "config.toml"
    config.write_text(f'base_url = "{stranger.base_url}"\n')
    monkeypatch.delenv("CHROMA_BASE_URL")
    monkeypatch.setenv("CHROMA_CONFIG", str(config))
    for argv in (["generate", "a fox"], ["credits"]):
        ended = chroma(*argv, "--json")
        assert (ended.code, ended.error["type"]) == (2, "config"), ended.said
        assert "written by others" in ended.error["message"]
        assert "chmod go-w" in ended.error["hint"]
    assert chroma("credits", "--base-url", gateway.base_url).code == 0


@pytest.mark.parametrize("how", OPEN)
def test_a_key_that_is_stored_where_others_can_change_it(
    gateway: Gateway, chroma: Any, tmp_path: Path, monkeypatch: Any, how: str
) -> None:
    state = _open_up(tmp_path, how)
    monkeypatch.setenv("CHROMA_STATE_DIR", str(state))
    monkeypatch.delenv("SEGMIND_API_KEY")
    ended = chroma("login", "--stdin", "--json", stdin=KEY.encode())
    assert ended.code == 3, ended.said
    assert not (state / "credentials.json").exists()
    stored = state / "credentials.json"
    stored.touch(0o600)
    stored.write_text(json.dumps({gateway.base_url: KEY}))
    heard = len(gateway.requests())
    ended = chroma("credits", "--json")
    assert ended.code == 3, ended.said
    assert "chmod go-w" in ended.error["hint"]
    assert len(gateway.requests()) == heard


@pytest.mark.parametrize("how", OPEN)
def test_a_ledger_that_others_can_replace_is_told_of(
    gateway: Gateway, chroma: Any, tmp_path: Path, monkeypatch: Any, how: str
) -> None:
    monkeypatch.setenv("CHROMA_STATE_DIR", str(_open_up(tmp_path, how)))
    ended = chroma("generate", "a fox")
    assert ended.code == 0, ended.said
    [warning] = ended.warnings
    assert "can be written by others" in warning
    assert "chmod go-w" in warning


def test_what_only_we_can_change_is_believed(
    gateway: Gateway, chroma: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """A sticky folder such as /tmp, a link of ours in it, the private group of umask 002, what is not there
    yet."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    folder = _folders(shared)
    for each in (folder, folder.parent):
        each.chmod(0o775)
    (shared / "way").symlink_to(folder)
    (folder / "config.toml").write_text(f'base_url = "{gateway.base_url}"\n')
    monkeypatch.delenv("CHROMA_BASE_URL")
    monkeypatch.delenv("SEGMIND_API_KEY")
    monkeypatch.setenv("CHROMA_CONFIG", str(shared / "way" / "config.toml"))
    monkeypatch.setenv("CHROMA_STATE_DIR", str(shared / "way" / "new"))
    assert chroma("login", "--stdin", stdin=KEY.encode()).code == 0
    ended = chroma("generate", "a fox")
    assert (ended.code, ended.warnings) == (0, []), ended.said
