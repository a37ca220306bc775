"""Anything at all in place of a reply, a manifest, a config, a lock, a recipe or a picture.

Through ``main`` the program ends with a code of the contract, with words and without a traceback, and sends
one submit at most.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faultserver import Reply, gateway_script, tiny_png
from hostile import FOX, Rig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipes_kit import inscribed, with_record

#: The fixtures are shared by the examples on purpose; each works in a folder and on a state of its own.
ANY = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    print_blob=True,
)
_numbers = itertools.count()

WORDS = st.sampled_from(
    [
        *("QUEUED", "PROCESSING", "COMPLETED", "FAILED", "completed", "job-1", "", "../..", "NaN", "1e999"),
        *("http://127.0.0.1:1/x.png", "https://evil.invalid/x", "data:image/png;base64,AAAA", "iVBORw0KGgo="),
        *("\x1b[31m", "[red]", "\u202e", "a" * 200, "-1", "true", "/etc/passwd"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
KEYS = st.sampled_from(
    [
        *("status", "request_id", "output", "images", "image", "url", "seed", "metrics", "timings", "cost"),
        *("error", "detail", "message", "credits", "free-credits", "remaining_credits", "inference_time"),
        *("status_url", "file_name", "content_type", "data", "b64_json", "x"),
    ]
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
REPLIES = st.dictionaries(KEYS, JSON, max_size=6) | JSON
STATUSES = st.sampled_from(
    [200, 200, 200, 200, 201, 204, 302, 400, 402, 404, 406, 410, 422, 429, 500, 503, 599]
)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def fresh(rig: Rig, monkeypatch: Any) -> Path:
    """A folder and a state that no example before has seen."""
    number = next(_numbers)
    monkeypatch.chdir(rig.home)
    for old in (*rig.work.iterdir(), *(rig.state.iterdir() if rig.state.exists() else ())):
        shutil.rmtree(old)
    folder = rig.work / f"n{number}"
    folder.mkdir()
    monkeypatch.setenv("CHROMA_STATE_DIR", str(rig.state / f"n{number}"))
    monkeypatch.chdir(folder)
    return folder


ROUTES = {
    "submit": ("POST", "/v2/chroma"),
    "sync": ("POST", "/v1/chroma"),
    "status": ("GET", "/v2/requests/*/status"),
    "result": ("GET", "/v2/requests/*"),
    "file": ("GET", "/files/*"),
    "credits": ("GET", "/v1/get-user-credits"),
}


@settings(ANY, max_examples=100)
@given(route=st.sampled_from(sorted(ROUTES)), value=REPLIES, status=STATUSES, as_json=st.booleans())
def test_any_json_for_a_reply(
    rig: Rig, monkeypatch: Any, route: str, value: Any, status: int, as_json: bool
) -> None:
    fresh(rig, monkeypatch)
    gateway_script(rig.gateway, polls=0, png=tiny_png(1024, 1024))
    rig.gateway.on(*ROUTES[route], Reply(status, [("Content-Type", "application/json")], dumped(value)))
    if route == "result":
        rig.gateway.on(*ROUTES["status"], Reply.json({"status": "COMPLETED"}))
    argv = ("credits",) if route == "credits" else (*FOX, "--timeout", "15")
    # a server error with the gateway's own words may be answered by sending again, twice at most
    ran = rig(
        *argv,
        *(["--sync"] if route == "sync" else []),
        *(["--json"] if as_json else []),
        most_submits=3 if status in (500, 503) else 1 if status != 429 else 100,
    )
    if as_json:
        assert all(one["schema"] == 1 for one in (*ran.objects, *ran.notes))


@settings(ANY, max_examples=50)
@given(route=st.sampled_from(sorted(ROUTES)), data=st.binary(max_size=300), ok=st.booleans())
def test_any_bytes_for_a_reply(rig: Rig, monkeypatch: Any, route: str, data: bytes, ok: bool) -> None:
    fresh(rig, monkeypatch)
    gateway_script(rig.gateway, polls=0, png=tiny_png(1024, 1024))
    rig.gateway.on(*ROUTES[route], Reply(200 if ok else 400, [], data))
    if route == "result":
        rig.gateway.on(*ROUTES["status"], Reply.json({"status": "COMPLETED"}))
    argv = ("credits",) if route == "credits" else (*FOX, "--timeout", "15")
    rig(*argv, *(["--sync"] if route == "sync" else []))


OPTION_KEYS = st.sampled_from(
    [
        *(
            "prompt",
            "output",
            "seed",
            "cfg",
            "steps",
            "samples",
            "size",
            "width",
            "aspect",
            "sampler",
            "format",
        ),
        *("preset", "sweep", "quality", "negative_prompt", "scheduler", "base64", "nonsense"),
    ]
)
ROWS = st.dictionaries(OPTION_KEYS, JSON | st.integers(0, 80), max_size=5)


@settings(ANY, max_examples=80)
@given(
    rows=st.lists(ROWS, max_size=3),
    ending=st.sampled_from(["jsonl", "csv", "toml"]),
    noise=st.binary(max_size=20),
)
def test_any_manifest(rig: Rig, monkeypatch: Any, rows: list[Any], ending: str, noise: bytes) -> None:
    folder = fresh(rig, monkeypatch)
    if ending == "jsonl":
        data = b"\n".join([*(dumped(one) for one in rows), *([noise] if noise else [])])
    elif ending == "csv":
        data = b"prompt,output,cfg\n" + b"\n".join(
            b",".join(dumped(one) for one in row.values()) for row in rows
        )
    else:
        lines = [f"{key} = {json.dumps(one)}" for row in rows for key, one in row.items()]
        data = b"[[image]]\n" + "\n".join(lines).encode("utf-8", "replace") + noise
    (folder / f"list.{ending}").write_bytes(data)
    rig("batch", f"list.{ending}", "--dry-run", most_submits=0)
    assert {path.name for path in folder.iterdir()} == {f"list.{ending}"}


@settings(ANY, max_examples=60)
@given(
    text=st.dictionaries(KEYS | OPTION_KEYS, JSON, max_size=3),
    noise=st.binary(max_size=20),
    table=st.sampled_from(["", "defaults", "presets.x", "budget"]),
)
def test_any_config(rig: Rig, monkeypatch: Any, text: dict[str, Any], noise: bytes, table: str) -> None:
    fresh(rig, monkeypatch)
    lines = [f"[{table}]"] * bool(table) + [f'"{key}" = {json.dumps(one)}' for key, one in text.items()]
    rig.config.write_bytes("\n".join(lines).encode("utf-8", "replace") + noise)
    assert rig(*FOX, "--dry-run", most_submits=0).code in (0, 2)
    rig("config", most_submits=0)
    rig("presets", "--json", most_submits=0)


LOCK_KEYS = st.sampled_from(
    [
        "version",
        "manifest",
        "images",
        "left",
        "a.png",
        "../b.png",
        "request",
        "seed",
        "files",
        "path",
        "sha256",
        "cost",
    ]
)
LOCKS = st.recursive(
    LEAVES | st.just(1) | st.just("0" * 64),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(LOCK_KEYS, inner, max_size=5),
    max_leaves=10,
)


@settings(ANY, max_examples=40)
@given(lock=LOCKS, inner=LOCKS, noise=st.binary(max_size=10))
def test_any_lock(rig: Rig, monkeypatch: Any, lock: Any, inner: Any, noise: bytes) -> None:
    folder = fresh(rig, monkeypatch)
    (folder / "list.jsonl").write_text('{"prompt": "x", "output": "a.png"}')
    for value, more in (
        (lock, noise),
        ({"version": 1, "images": inner}, b""),
        ({"version": 1, "images": {}, "left": inner}, b""),
    ):
        (folder / "list.lock.json").write_bytes(dumped(value) + more)
        assert rig("batch", "list.jsonl", "--check", most_submits=0, allow_one=True).code in (1, 2)
        rig("batch", "list.jsonl", "--dry-run", most_submits=0)
    assert {path.name for path in folder.iterdir()} == {"list.jsonl", "list.lock.json"}


@settings(ANY, max_examples=60)
@given(
    request=st.dictionaries(
        KEYS | st.sampled_from(["prompt", "steps", "cfg", "width", "aspect_ratio"]), JSON, max_size=4
    ),
    more=st.dictionaries(
        st.sampled_from(["seed", "request_id", "created_at", "tool", "sandbox"]), JSON, max_size=3
    ),
    text=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80),
)
def test_any_recipe(rig: Rig, monkeypatch: Any, request: Any, more: Any, text: str | None) -> None:
    folder = fresh(rig, monkeypatch)
    data = with_record(text, f"{text}\nSteps: {text}, Seed: {text}") if text else inscribed(request, **more)
    (folder / "a.png").write_bytes(data)
    for form in ((), ("--json",), ("--command",)):
        # with --command the line is for a shell, which takes any character in quotes
        if form != ("--command",) or "\u202e" not in json.dumps(request, ensure_ascii=False):
            rig("inspect", "a.png", *form, allow_one=True)
    rig("generate", "--from", "a.png", "--dry-run", most_submits=0, allow_one=True)


@settings(ANY, max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 8),
    cut=st.booleans(),
    kind=st.sampled_from(["png", "jpeg", "webp"]),
)
def test_any_damage_to_a_picture(
    rig: Rig, monkeypatch: Any, pictures: Callable[[str], bytes], seed: int, count: int, cut: bool, kind: str
) -> None:
    folder = fresh(rig, monkeypatch)
    luck = random.Random(seed)
    data = bytearray(pictures(kind))
    for _ in range(count):
        data[luck.randrange(len(data))] = luck.choice((0, 1, 0x7F, 0xFF, luck.randrange(256)))
    if cut:
        del data[luck.randrange(len(data)) :]
    (folder / f"a.{kind}").write_bytes(data)
    rig("inspect", f"a.{kind}", allow_one=True)
    rig("inspect", f"a.{kind}", "--json", allow_one=True)
    rig("sheet", f"a.{kind}", "-o", "sheet.png", allow_one=True)
    # and as what the gateway delivers
    gateway_script(rig.gateway, polls=0, png=bytes(data))
    assert rig(*FOX, "--timeout", "15").code in (0, 9)
