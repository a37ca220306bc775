"""Anything at all in place of a reply, a manifest, a config, a lock, a recipe or a picture.

Through ``main`` the program ends with a code of the contract, with words and without a traceback, and sends
one submit at most.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import Reply, picture, with_parameters, with_recipe
from kit.guard import Guard

FOX = ("generate", "a red fox", "-o", "fox.png")
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


def fresh(guarded: Guard, monkeypatch: Any) -> Path:
    """A folder and a state that no example before has seen."""
    number = next(_numbers)
    monkeypatch.chdir(guarded.home)
    for old in (*guarded.work.iterdir(), *(guarded.state.iterdir() if guarded.state.exists() else ())):
        shutil.rmtree(old)
    folder = guarded.work / f"n{number}"
    folder.mkdir()
    monkeypatch.setenv("CHROMA_STATE_DIR", str(guarded.state / f"n{number}"))
    monkeypatch.chdir(folder)
    return folder


ROUTES = ("submit", "sync", "status", "result", "file", "credits")


@settings(ANY, max_examples=40)
@given(route=st.sampled_from(ROUTES), value=REPLIES, status=STATUSES, as_json=st.booleans())
def test_any_json_for_a_reply(
    guarded: Guard, monkeypatch: Any, route: str, value: Any, status: int, as_json: bool
) -> None:
    fresh(guarded, monkeypatch)
    guarded.gateway.behave()
    answer = Reply(status, [("Content-Type", "application/json")], dumped(value))
    guarded.gateway.on(route, answer, always=True)
    argv = ("credits",) if route == "credits" else (*FOX, "--timeout", "15")
    # a server error with the gateway's own words may be answered by sending again, twice at most
    ran = guarded(
        *argv,
        *(["--sync"] if route == "sync" else []),
        *(["--json"] if as_json else []),
        most_posts=3 if status in (500, 503) else 1 if status != 429 else 100,
    )
    if as_json:
        assert all(one["schema"] == 1 for one in (*ran.json, *ran.notes))


@settings(ANY, max_examples=25)
@given(route=st.sampled_from(ROUTES), data=st.binary(max_size=300), ok=st.booleans())
def test_any_bytes_for_a_reply(guarded: Guard, monkeypatch: Any, route: str, data: bytes, ok: bool) -> None:
    fresh(guarded, monkeypatch)
    guarded.gateway.behave()
    guarded.gateway.on(route, Reply(200 if ok else 400, [], data), always=True)
    argv = ("credits",) if route == "credits" else (*FOX, "--timeout", "15")
    guarded(*argv, *(["--sync"] if route == "sync" else []))


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


@settings(ANY, max_examples=40)
@given(
    rows=st.lists(ROWS, max_size=3),
    ending=st.sampled_from(["jsonl", "csv", "toml"]),
    noise=st.binary(max_size=20),
)
def test_any_manifest(guarded: Guard, monkeypatch: Any, rows: list[Any], ending: str, noise: bytes) -> None:
    folder = fresh(guarded, monkeypatch)
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
    guarded("batch", f"list.{ending}", "--dry-run", most_posts=0)
    assert {path.name for path in folder.iterdir()} == {f"list.{ending}"}


@settings(ANY, max_examples=30)
@given(
    text=st.dictionaries(KEYS | OPTION_KEYS, JSON, max_size=3),
    noise=st.binary(max_size=20),
    table=st.sampled_from(["", "defaults", "presets.x", "budget"]),
)
def test_any_config(guarded: Guard, monkeypatch: Any, text: dict[str, Any], noise: bytes, table: str) -> None:
    fresh(guarded, monkeypatch)
    lines = [f"[{table}]"] * bool(table) + [f'"{key}" = {json.dumps(one)}' for key, one in text.items()]
    guarded.config.write_bytes("\n".join(lines).encode("utf-8", "replace") + noise)
    assert guarded(*FOX, "--dry-run", most_posts=0).code in (0, 2)
    guarded("config", most_posts=0)
    guarded("presets", "--json", most_posts=0)


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


@settings(ANY, max_examples=15)
@given(lock=LOCKS, inner=LOCKS, noise=st.binary(max_size=10))
def test_any_lock(guarded: Guard, monkeypatch: Any, lock: Any, inner: Any, noise: bytes) -> None:
    folder = fresh(guarded, monkeypatch)
    (folder / "list.jsonl").write_text('{"prompt": "x", "output": "a.png"}')
    for value, more in (
        (lock, noise),
        ({"version": 1, "images": inner}, b""),
        ({"version": 1, "images": {}, "left": inner}, b""),
    ):
        (folder / "list.lock.json").write_bytes(dumped(value) + more)
        assert guarded("batch", "list.jsonl", "--check", most_posts=0, allow_one=True).code in (1, 2)
        guarded("batch", "list.jsonl", "--dry-run", most_posts=0)
    assert {path.name for path in folder.iterdir()} == {"list.jsonl", "list.lock.json"}


@settings(ANY, max_examples=30)
@given(
    request=st.dictionaries(
        KEYS | st.sampled_from(["prompt", "steps", "cfg", "width", "aspect_ratio"]), JSON, max_size=4
    ),
    more=st.dictionaries(
        st.sampled_from(["seed", "request_id", "created_at", "tool", "sandbox"]), JSON, max_size=3
    ),
    text=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80),
)
def test_any_recipe(guarded: Guard, monkeypatch: Any, request: Any, more: Any, text: str | None) -> None:
    folder = fresh(guarded, monkeypatch)
    data = with_recipe(text if text else {"request": request, **more})
    (folder / "a.png").write_bytes(data)
    (folder / "b.png").write_bytes(with_parameters(f"{text}\nSteps: {text}, Seed: {text}"))
    guarded("inspect", "b.png", "--json", allow_one=True)
    for form in ((), ("--json",), ("--command",)):
        # with --command the line is for a shell, which takes any character in quotes
        if form != ("--command",) or "\u202e" not in json.dumps(request, ensure_ascii=False):
            guarded("inspect", "a.png", *form, allow_one=True)
    guarded("generate", "--from", "a.png", "--dry-run", most_posts=0, allow_one=True)


#: Small ones; the PNG with a recipe in it.
PICTURES = {"png": with_recipe({"request": {"prompt": "a red fox"}, "seed": 7})} | {
    kind: picture(7, kind, 24, 16) for kind in ("jpeg", "webp")
}


@settings(ANY, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 8),
    cut=st.booleans(),
    kind=st.sampled_from(["png", "jpeg", "webp"]),
)
def test_any_damage_to_a_picture(
    guarded: Guard, monkeypatch: Any, seed: int, count: int, cut: bool, kind: str
) -> None:
    folder = fresh(guarded, monkeypatch)
    luck = random.Random(seed)
    data = bytearray(PICTURES[kind])
    for _ in range(count):
        data[luck.randrange(len(data))] = luck.choice((0, 1, 0x7F, 0xFF, luck.randrange(256)))
    if cut:
        del data[luck.randrange(len(data)) :]
    (folder / f"a.{kind}").write_bytes(data)
    guarded("inspect", f"a.{kind}", allow_one=True)
    guarded("inspect", f"a.{kind}", "--json", allow_one=True)
    guarded("sheet", f"a.{kind}", "-o", "sheet.png", allow_one=True)
    # and as what the gateway delivers
    guarded.gateway.behave()
    guarded.gateway.on("file", Reply(200, body=bytes(data)), always=True)
    assert guarded(*FOX, "--timeout", "15").code in (0, 9)
