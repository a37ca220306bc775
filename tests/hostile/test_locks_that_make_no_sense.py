"""Locks that are damaged or say what cannot be: they are refused with advice, and lead nowhere."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from kit import picture

BAD_PATHS = [
    "/etc/x.png",
    "../../x/..",
    "x/../../y.png",
    "a//b.png",
    "./a.png",
    "",
    "..",
    "a\0.png",
    "a\n.png",
    "\ud800.png",
    5,
    None,
]


def document(**changes: Any) -> dict[str, Any]:
    """A lock of one image; ``file_x``, ``entry_x`` and ``top_x`` change what stands there."""
    file = {"path": "a.png", "sha256": "0" * 64, "format": "png", "width": 8, "height": 6, "bytes": 7}
    entry = {"request": "0" * 64, "seed": 5, "request_id": "r", "cost": 0.055, "files": [file]}
    top = {"version": 1, "manifest": "list.jsonl", "images": {changes.pop("key", "a.png"): entry}}
    for name, value in changes.items():
        where, _, what = name.partition("_")
        {"file": file, "entry": entry, "top": top}[where][what] = value
    return top


@pytest.fixture
def check(chroma, listing, work):
    """Check a manifest against a lock with this text."""
    listing("a")

    def run(text: str | bytes, name: str = "list.lock.json") -> Any:
        (work / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return chroma("batch", "list.jsonl", "--check", "--json")

    return run


def test_the_plain_document_is_fine(check):
    assert check(json.dumps(document())).code == 1


@pytest.mark.parametrize(
    "changes",
    [
        [{"file_path": path} for path in BAD_PATHS],
        [{"key": path} for path in BAD_PATHS if isinstance(path, str)],
        [{"top_left": {path: "0" * 64}} for path in BAD_PATHS if isinstance(path, str)],
        [{"file_path": "list.jsonl"}, {"file_path": ".png"}],
        [{"top_left": {"list.jsonl": "0" * 64}}, {"top_left": {"a.png": "x"}}, {"top_left": []}],
        [{"file_sha256": sha} for sha in ("0" * 63, "G" * 64, 5)],
        [{"file_format": kind} for kind in ("gif", [])],
        [{"file_width": 0}, {"file_width": True}, {"file_height": 1.5}],
        [{"file_bytes": 2**63}, {"file_bytes": "7"}],
        [{"entry_request": None}, {"entry_seed": "5"}, {"entry_seed": -2}],
        [{"entry_request_id": "../x"}, {"entry_request_id": 5}],
        [{"entry_cost": cost} for cost in (-1, "1", True)],
        [{"entry_files": {}}, {"entry_files": [5]}],
        [{"top_images": []}, {"top_images": {"a.png": 5}}],
        [{"top_version": version} for version in (0, True, "1")],
    ],
    ids=lambda changes: next(iter(changes[0])),
)
def test_what_makes_no_sense_is_refused(check, changes):
    for change in changes:
        ended = check(json.dumps(document(**change)))
        assert ended.code == 2, (change, ended.said)
        assert "list.lock.json is damaged" in ended.error["message"]
        assert "version control" in ended.error["hint"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": NaN}',
        b'{"version": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda data: data[:12],
)
def test_a_damaged_lock_of_any_share_is_refused(check, data):
    ended = check(data, "list.2-of-3.lock.json")
    assert ended.code == 2
    assert "damaged" in ended.error["message"]
    assert ended.error["hint"]


def test_a_lock_of_a_newer_version(check):
    ended = check('{"version": 2, "anything": []}')
    assert ended.code == 2
    assert "newer chroma" in ended.error["message"]
    assert ended.error["hint"] == "Update chroma."


@pytest.mark.parametrize("path", ["../secret/s.png", "way/s.png", "photos/mine.png"])
def test_right_paths_and_sums_lead_nowhere_else(chroma, gateway, listing, work, tmp_path, path):
    """Entries of the right shape, and with the right sha256, whose files are not where the images are."""
    (tmp_path / "secret").mkdir()
    (work / "photos").mkdir()
    (work / "way").symlink_to(tmp_path / "secret")
    theirs = [tmp_path / "secret" / "s.png", work / "photos" / "mine.png"]
    for place in theirs:
        place.write_bytes(picture(77))
    sha = hashlib.sha256(picture(77)).hexdigest()
    listing("a")
    assert chroma("batch", "list.jsonl").code == 0
    request = json.loads((work / "list.lock.json").read_text())["images"]["a.png"]["request"]
    (work / "a.png").unlink()
    told = {"entry_request": request, "file_path": path, "file_sha256": sha}
    (work / "list.lock.json").write_text(json.dumps(document(**told)))
    assert chroma("batch", "list.jsonl", "--check", "--json").one["state"] == "missing"
    left = {path: {"request": request, "sha256": sha}} if not path.startswith("..") else {}
    (work / "list.lock.json").write_text(json.dumps(document(key="gone.png", top_left=left, **told)))
    chroma("batch", "list.jsonl", "--prune")
    assert all(place.read_bytes() == picture(77) for place in theirs)
