"""Files that want to spend, to write outside, or to overwrite: manifests, recipes, locks, config; links and
open folders where the program keeps its own things. What holds in all cases is checked by ``guarded``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable
from typing import Any

import pytest
from kit import KEY, Ended, Reply, Request, png, with_recipe
from kit.guard import Guard

FOX = ("generate", "a red fox", "-o", "fox.png")
Chroma = Callable[..., Ended]
HUGE = 10**30

# --- manifests: nothing is sent, nothing is written --------------------------------------------------------


def row(**more: Any) -> bytes:
    return json.dumps({"prompt": "x", "output": "a.png", **more}).encode()


def toml(text: str) -> bytes:
    return f'[[image]]\nprompt = "x"\n{text}'.encode()


MANIFESTS: dict[str, tuple[str, bytes]] = {
    "samples-huge": ("jsonl", row(samples=HUGE)),
    "samples-many": ("jsonl", row(samples=1001)),
    "samples-negative": ("jsonl", row(samples=-1)),
    "samples-nan": ("jsonl", b'{"prompt": "x", "samples": NaN}'),
    "samples-infinite": ("jsonl", b'{"prompt": "x", "samples": 1e999}'),
    "samples-true": ("jsonl", row(samples=True)),
    "samples-of-a-million-digits": ("jsonl", b'{"prompt": "x", "samples": ' + b"9" * 1_000_000 + b"}"),
    "sweep-of-a-billion": (
        "jsonl",
        row(sweep={name: list(range(1000)) for name in ("seed", "cfg", "steps")}),
    ),
    "sweep-of-a-sweep": ("jsonl", row(sweep={"sweep": [{"seed": [1]}]})),
    "sweep-of-outputs": ("jsonl", row(sweep={"output": ["a.png", "../b.png"]})),
    "size-huge": ("jsonl", row(size="99999999x99999999")),
    "steps-huge": ("jsonl", row(steps=HUGE)),
    "cfg-nan": ("toml", toml("cfg = nan")),
    "cfg-infinite": ("toml", toml("cfg = inf")),
    "seed-beyond": ("jsonl", row(seed=2**63)),
    "null-for-everything": ("jsonl", b'{"prompt": null, "output": null, "cfg": null}'),
    "a-gateway-of-its-own": ("jsonl", row(base_url="https://evil.test")),
    "a-key-of-its-own": ("jsonl", row(api_key="x")),
    "a-budget-of-its-own": ("toml", b"[budget]\nday = 1e9\n" + toml("")),
    "permission-to-leave": ("toml", b"allow_outside = true\n" + toml('output = "../a.png"')),
    "permission-to-overwrite": ("jsonl", row(overwrite=True)),
    "dunder-keys": ("jsonl", b'{"prompt": "x", "__class__": 1, "__proto__": {"samples": 9}}'),
    "output-above": ("jsonl", row(output="../outside/a.png")),
    "output-above-in-the-middle": ("jsonl", row(output="a/../../outside/a.png")),
    "output-absolute": ("jsonl", row(output="/tmp/chroma-hostile/a.png")),
    "output-above-behind-a-field": ("jsonl", row(output="{slug}/../../outside/a.png")),
    "output-through-a-link": ("jsonl", row(output="linked/a.png")),
    "output-is-a-link-to-the-outside": ("jsonl", row(output="link.png")),
    "output-with-nul": ("jsonl", row(output="a\0.png")),
    "output-with-a-line-end": ("jsonl", row(output="a\n.png")),
    "output-with-a-command": ("jsonl", row(output="a\x1b]0;x\x07.png")),
    "output-with-half-a-character": ("jsonl", b'{"prompt": "x", "output": "\\ud800.png"}'),
    "output-that-is-a-script": ("jsonl", row(output="a.sh")),
    "output-that-is-stdout": ("jsonl", row(output="-")),
    "output-that-is-a-list": ("jsonl", row(output=["a.png"])),
    "output-that-is-long": ("jsonl", row(output="a" * 300 + ".png")),
    "output-that-is-deep": ("jsonl", row(output="a/" * 3000 + "a.png")),
    "output-with-an-unknown-field": ("jsonl", row(output="{__class__}.png")),
    "output-with-a-format": ("jsonl", row(output="{seed:>99999999}.png")),
    "output-with-an-attribute": ("jsonl", row(output="{prompt.__class__.__mro__}.png")),
    "output-with-an-id": ("jsonl", row(output="{id}.png")),
    "one-output-twice": ("jsonl", row() + b"\n" + row(prompt="y")),
    "one-output-in-two-spellings": ("jsonl", row() + b"\n" + row(output="./b/../a.png")),
    "one-output-through-a-link": ("jsonl", row(output="here/a.png") + b"\n" + row(output="also/a.png")),
    "prompt-with-a-command": ("jsonl", row(prompt="\x1b[2J")),
    "prompt-that-is-a-dict": ("jsonl", row(prompt={"a": 1})),
    "sampler-with-a-command": ("jsonl", row(sampler="\x1b[2J")),
    "not-utf-8": ("jsonl", b'{"prompt": "\xff"}'),
    "utf-16": ("toml", "[[image]]".encode("utf-16")),
    "nul-bytes": ("csv", b"prompt,output\nx\0,a.png\n"),
    "csv-cell-of-a-megabyte": ("csv", b"prompt,output,steps\nx,a.png," + b"9" * 1_000_000),
    "csv-quote-without-end": ("csv", b'prompt,output\n"x,a.png\n'),
    "csv-of-endless-columns": ("csv", b"prompt," + b"a," * 100_000 + b"\nx\n"),
    "csv-with-cells-beyond": ("csv", b"prompt\nx,y,z\n"),
    "jsonl-nested-without-end": ("jsonl", b'{"prompt": ' + b"[" * 200_000),
    "jsonl-of-lists": ("jsonl", b"[]\n[]\n"),
    "jsonl-duplicate-keys": ("jsonl", b'{"prompt": "x", "output": "a.png", "output": "../b.png"}'),
    "toml-nested-without-end": ("toml", b"a = " + b"[" * 100_000),
    "toml-of-dotted-keys": ("toml", b"a" + b".a" * 50_000 + b" = 1"),
    "toml-number-of-a-million-digits": ("toml", toml("steps = " + "9" * 1_000_000)),
    "toml-duplicate-keys": ("toml", toml('output = "a.png"\noutput = "../b.png"')),
    "toml-image-that-is-no-list": ("toml", b'image = "x"'),
    "toml-defaults-that-are-a-list": ("toml", b"defaults = [1]\n" + toml("")),
    "nothing": ("toml", b""),
    "only-comments": ("toml", b"# nothing\n"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest(guarded: Guard, name: str) -> None:
    (guarded.work / "linked").symlink_to(guarded.outside)
    (guarded.work / "link.png").symlink_to(guarded.outside / "mine.png")
    (guarded.work / "here").mkdir()
    (guarded.work / "also").symlink_to("here")
    ending, data = MANIFESTS[name]
    (guarded.work / f"list.{ending}").write_bytes(data)
    before = guarded.made()
    # to look at it is to read it, as making it is: every fifth is looked at, too
    ways: list[tuple[str, ...]] = [(), *([("--check",)] if list(MANIFESTS).index(name) % 5 == 0 else [])]
    for how in ways:
        ran = guarded("batch", f"list.{ending}", *how)
        assert ran.code == 2, ran.said
        assert len(ran.err) < 20_000
    assert not guarded.gateway.requests()
    assert guarded.made() == before


def test_a_manifest_that_never_ends(guarded: Guard) -> None:
    (guarded.work / "list.toml").symlink_to("/dev/zero")
    ran = guarded("batch", "list.toml")
    assert ran.code == 2 and "larger than" in ran.err


def test_names_that_only_windows_minds_stay_inside(guarded: Guard) -> None:
    names = ["C:\\x.png", "~/x.png", "$HOME/x.png", "%TEMP%/x.png", "`id`.png", ";rm -rf ~.png"]
    rows = [row(output=name) for name in names]
    (guarded.work / "list.jsonl").write_bytes(b"\n".join(rows))
    ran = guarded("batch", "list.jsonl", most_posts=len(names))
    assert ran.code in (0, 2)
    if ran.code == 0:
        assert {name for name in guarded.made() if name.endswith(".png")} == set(names)


def test_a_link_that_appears_after_the_look(guarded: Guard, chroma: Chroma) -> None:
    """The folder of an output is exchanged for a link to the outside while the job runs."""
    folder = guarded.work / "sub"
    folder.mkdir()

    def swap(_: Request) -> Reply:
        if not folder.is_symlink():
            for left in folder.iterdir():
                left.unlink()
            folder.rmdir()
            folder.symlink_to(guarded.outside)
        return Reply(200, [], png(7))

    guarded.gateway.on("file", swap)
    (guarded.work / "list.jsonl").write_bytes(row(output="sub/mine.png"))
    assert chroma("batch", "list.jsonl").code in (0, 10, 11)
    assert (guarded.outside / "mine.png").read_bytes() == b"mine"  # never overwritten


# --- budgets: nothing gets around them ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "amount", ["nan", "-1", "inf", "-inf", "1e999", "", " ", "0x10", "1_000", "٣", "five", "1e-999"]
)
def test_a_budget_that_is_no_amount(guarded: Guard, amount: str) -> None:
    (guarded.work / "list.jsonl").write_bytes(row())
    ran = guarded("batch", "list.jsonl", "--budget", amount)
    # 1e-999 is nothing, and ٣ may be read as 3: either must not let a picture through unpaid for
    assert ran.code in ((2, 4) if amount == "1e-999" else (2,)), ran
    assert not guarded.gateway.posts()


@pytest.mark.parametrize(
    "value", ["nan", "-1", "inf", "-inf", "true", '"5"', "[5]", "1e400", "1979-05-27", "-0.001"]
)
@pytest.mark.parametrize("span", ["day", "month"])
def test_a_budget_in_the_config_that_is_no_amount(guarded: Guard, span: str, value: str) -> None:
    guarded.config.write_text(f"[budget]\n{span} = {value}\n")
    (guarded.work / "list.jsonl").write_bytes(row())
    for argv in (FOX, ("submit", "x"), ("batch", "list.jsonl"), (*FOX, "--sync")):
        assert guarded(*argv).code == 2
    assert not guarded.gateway.posts()


def _broken_ledger(guarded: Guard) -> None:
    guarded.state.mkdir()
    (guarded.state / "jobs.sqlite3").write_bytes(b"no database" * 100)


def _ledger_that_is_a_folder(guarded: Guard) -> None:
    (guarded.state / "jobs.sqlite3").mkdir(parents=True)


def _state_that_is_a_file(guarded: Guard) -> None:
    guarded.state.write_bytes(b"")


def _ledger_of_another_program(guarded: Guard) -> None:
    guarded.state.mkdir()
    with contextlib.closing(sqlite3.connect(guarded.outside / "other.sqlite3")) as db, db:
        db.execute("CREATE TABLE theirs (a)")
    (guarded.state / "jobs.sqlite3").symlink_to(guarded.outside / "other.sqlite3")


WAYS_AROUND: dict[str, Callable[[Guard], None]] = {
    "no-ledger-option": lambda guarded: None,
    "broken-ledger": _broken_ledger,
    "ledger-that-is-a-folder": _ledger_that_is_a_folder,
    "state-that-is-a-file": _state_that_is_a_file,
    "ledger-of-another-program": _ledger_of_another_program,
}


@pytest.mark.parametrize("way", WAYS_AROUND)
def test_a_budget_cannot_be_got_around(guarded: Guard, way: str) -> None:
    WAYS_AROUND[way](guarded)
    before = guarded.gateway.posts()
    guarded.config.write_text("[budget]\nday = 0.05\n")  # less than one picture
    more = ["--no-ledger"] if way.startswith("no-ledger") else []
    for argv in (FOX, ("submit", "x"), (*FOX, "--sync")):
        assert guarded(*argv, *more).code == 4
    assert guarded.gateway.posts() == before


def test_samples_of_a_config_or_a_preset_are_asked_for(guarded: Guard) -> None:
    guarded.config.write_text("[defaults]\nsamples = 500\n[presets.flood]\nsamples = 11\n")
    assert guarded("generate", "x", allow_one=True).code in (1, 2)
    assert guarded("submit", "x", "--preset", "flood", "--samples", "11", allow_one=True).code in (1, 2)
    guarded.config.write_text("[presets.flood]\nsamples = 11\n")
    assert guarded("generate", "x", "--preset", "flood", allow_one=True).code in (1, 2)
    assert not guarded.gateway.posts()


# --- recipes -----------------------------------------------------------------------------------------------


def test_a_recipe_never_says_how_many(guarded: Guard) -> None:
    (guarded.work / "a.png").write_bytes(with_recipe({"request": {"prompt": "x", "samples": 99, "n": 99}}))
    assert guarded("generate", "--from", "a.png", "-o", "b.png").code == 0
    assert [one.json["samples"] for one in guarded.gateway.requests(method="POST")] == [1]


def test_a_recipe_says_nothing_but_the_picture(guarded: Guard) -> None:
    more = {
        "base_url": "https://evil.test",
        "webhook": "https://evil.test",
        "output": "../outside/mine.png",
        "overwrite": True,
        "yes": True,
        "api_key": "x",
        "preset": "flood",
        "prompt_file": "/etc/passwd",
        "from": "/etc/passwd",
        "timeout": 1e9,
    }
    (guarded.work / "a.png").write_bytes(
        with_recipe({"request": {"prompt": "x", **more}, "output": "../outside/mine.png"})
    )
    ran = guarded("generate", "--from", "a.png")
    assert ran.code == 0 and len(guarded.made()) == 2
    [sent] = guarded.gateway.requests(method="POST")
    assert not set(more) & set(sent.json)


def sized(width: Any, height: Any) -> bytes:
    size = {"aspect_ratio": "custom", "width": width, "height": height}
    return with_recipe({"request": {"prompt": "x", **size}})


RECIPES: dict[str, bytes] = {
    "prompt-with-a-command": with_recipe({"request": {"prompt": "a\x1b]0;x\x07"}}),
    "prompt-that-is-a-list": with_recipe({"request": {"prompt": ["x"]}}),
    "no-prompt": with_recipe({"request": {"steps": 40}}),
    "steps-huge": with_recipe({"request": {"prompt": "x", "steps": HUGE}}),
    "steps-true": with_recipe({"request": {"prompt": "x", "steps": True}}),
    "cfg-infinite": with_recipe('{"request": {"prompt": "x", "cfg": 1e999}}'),
    "size-huge": with_recipe(
        {"request": {"prompt": "x", "aspect_ratio": "custom", "width": 99999, "height": 99999}}
    ),
    "size-that-is-text": with_recipe(
        {"request": {"prompt": "x", "aspect_ratio": "custom", "width": "a", "height": "b"}}
    ),
    "ratio-that-is-a-path": with_recipe({"request": {"prompt": "x", "aspect_ratio": "../../etc/passwd"}}),
    "seed-beyond": with_recipe({"request": {"prompt": "x"}, "seed": 2**64}),
    "seed-negative": with_recipe({"request": {"prompt": "x"}, "seed": -5}),
    "format-that-is-a-path": with_recipe({"request": {"prompt": "x", "image_format": "../sh"}}),
    "sampler-with-a-command": with_recipe({"request": {"prompt": "x", "sampler_name": "\x1b[2J"}}),
    "sampler-that-is-a-dict": with_recipe({"request": {"prompt": "x", "sampler_name": {"a": 1}}}),
    "request-that-is-a-list": with_recipe('{"request": [1]}'),
    "not-json": with_recipe("{"),
    "nested-without-end": with_recipe("[" * 100_000),
    "nan": with_recipe('{"request": {"prompt": "x", "cfg": NaN}}'),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(guarded: Guard, name: str) -> None:
    (guarded.work / "a.png").write_bytes(RECIPES[name])
    damaged = name in ("request-that-is-a-list", "not-json", "nested-without-end", "nan")
    ran = guarded("generate", "--from", "a.png", "-o", "b.png", allow_one=damaged)
    assert ran.code == (1 if damaged else 2), ran
    assert not guarded.gateway.requests() and guarded.made() == {"a.png"}
    for form in ((), ("--json",), ("--command",)):
        assert guarded("inspect", "a.png", *form, allow_one=damaged).code == (
            1 if damaged else 0 if not form else 2
        )


def test_a_command_of_a_recipe_runs_nothing_else(guarded: Guard) -> None:
    """The line is for a shell: whatever the prompt, a shell reads it as one command with one prompt."""
    import subprocess

    for prompt in (
        "'; touch owned; '",
        "$(touch owned)",
        "`touch owned`",
        "-o /tmp/x",
        "a\n touch owned",
        "!!",
        "\\",
    ):
        (guarded.work / "a.png").write_bytes(
            with_recipe({"request": {"prompt": prompt, "negative_prompt": prompt}})
        )
        line = guarded("inspect", "a.png", "--command").out
        shown = subprocess.run(
            ["/bin/sh", "-c", f"chroma() {{ for word; do printf '<%s>' \"$word\"; done; }}\n{line}"],
            capture_output=True,
            timeout=20,
            check=True,
        ).stdout.decode()
        assert shown.startswith("<generate>") and shown.endswith(f"<{prompt}>")
        assert f"<{prompt}>" in shown.replace("<--negative-prompt=", "<--negative-prompt><")
        assert guarded.made() == {"a.png"}


# --- locks -------------------------------------------------------------------------------------------------


def lock_of(manifest: str, *files: tuple[str, bytes], key: str = "gone.png", **more: Any) -> str:
    entry = {
        "request": "0" * 64,
        "seed": 1,
        "request_id": "job-1",
        "cost": 0.055,
        "files": [
            {
                "path": path,
                "sha256": hashlib.sha256(data).hexdigest(),
                "format": "png",
                "width": 4,
                "height": 4,
                "bytes": max(1, len(data)),
            }
            for path, data in files
        ],
    }
    return json.dumps({"version": 1, "manifest": manifest, "images": {key: {**entry, **more}}})


@pytest.mark.parametrize(
    "path",
    [
        "../outside/mine.png",
        "linked/mine.png",
        "/outside/mine.png",
        "a/../../outside/mine.png",
        "./../outside/mine.png",
    ],
)
@pytest.mark.parametrize("where", ["images", "left"])
def test_prune_removes_nothing_outside(guarded: Guard, path: str, where: str) -> None:
    (guarded.work / "linked").symlink_to(guarded.outside)
    (guarded.work / "list.jsonl").write_bytes(row())
    text = lock_of("list.jsonl", (path, b"mine"))
    if where == "left":
        digest = hashlib.sha256(b"mine").hexdigest()
        text = json.dumps({"version": 1, "manifest": "list.jsonl", "images": {}, "left": {path: digest}})
    (guarded.work / "list.lock.json").write_text(text)
    ran = guarded("batch", "list.jsonl", "--prune")
    assert ran.code in (0, 2), ran
    assert (guarded.outside / "mine.png").read_bytes() == b"mine"


def test_prune_keeps_what_is_no_picture(guarded: Guard) -> None:
    (guarded.work / "notes.txt").write_bytes(b"mine")
    (guarded.work / "list.jsonl").write_bytes(row())
    (guarded.work / "list.lock.json").write_text(lock_of("list.jsonl", ("notes.txt", b"mine")))
    assert guarded("batch", "list.jsonl", "--prune").code == 2
    (guarded.work / "list.lock.json").write_text(lock_of("list.jsonl", ("list.jsonl", row())))
    assert guarded("batch", "list.jsonl", "--prune").code == 2
    assert {"notes.txt", "list.jsonl"} <= guarded.made() and not guarded.gateway.posts()


@pytest.mark.parametrize("key", ["a.png", "x/a.png"])
def test_a_lock_does_not_make_a_persons_file_ours(guarded: Guard, key: str) -> None:
    """It names somebody's file in another folder as made by this image: that is nobody's work."""
    (guarded.work / "photos").mkdir()
    (guarded.work / "photos" / "me.png").write_bytes(b"mine")
    (guarded.work / "list.jsonl").write_bytes(row(output=key))
    (guarded.work / "list.lock.json").write_text(lock_of("list.jsonl", ("photos/me.png", b"mine"), key=key))
    assert guarded("batch", "list.jsonl").code == 0
    assert (guarded.work / "photos" / "me.png").read_bytes() == b"mine"


LOCKS: dict[str, str | bytes] = {
    "not-json": "{",
    "not-utf-8": b"\xff\xff",
    "a-list": "[]",
    "null": "null",
    "nested-without-end": "[" * 200_000,
    "version-that-is-true": '{"version": true, "images": {}}',
    "version-huge": '{"version": 1e999, "images": {}}',
    "version-of-the-future": '{"version": 99, "images": {}}',
    "images-that-are-a-list": '{"version": 1, "images": []}',
    "nan-for-a-cost": lock_of("list.jsonl", ("a.png", b""), cost=float("nan")),
    "negative-cost": lock_of("list.jsonl", ("a.png", b""), cost=-5),
    "infinite-cost": lock_of("list.jsonl").replace("0.055", "1e999"),
    "seed-that-is-text": lock_of("list.jsonl", ("a.png", b""), seed="1"),
    "id-with-slashes": lock_of("list.jsonl", ("a.png", b""), request_id="../../v1/get-user-credits"),
    "id-of-a-megabyte": lock_of("list.jsonl", ("a.png", b""), request_id="a" * 1_000_000),
    "file-with-nul": lock_of("list.jsonl", ("a\0.png", b"")),
    "file-with-a-command": lock_of("list.jsonl", ("a\x1b]0;x\x07.png", b"")),
    "file-absolute": lock_of("list.jsonl", ("/etc/passwd.png", b"")),
    "file-that-is-a-script": lock_of("list.jsonl", ("a.sh", b"")),
    "key-above-in-the-middle": lock_of("list.jsonl", ("a.png", b""), key="a/../../b.png"),
    "sha-that-is-none": lock_of("list.jsonl", ("a.png", b"")).replace("0" * 64, "zz"),
}


@pytest.mark.parametrize("name", LOCKS)
def test_lock(guarded: Guard, name: str) -> None:
    (guarded.work / "list.jsonl").write_bytes(row())
    text = LOCKS[name]
    (guarded.work / "list.lock.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    how = ("--check", "--prune", None)[list(LOCKS).index(name) % 3]
    for argv in (("batch", "list.jsonl"), ("batch", "list.jsonl", how)):
        ran = guarded(*filter(None, argv))
        assert ran.code == 2, ran.said
        assert len(ran.err) < 5000
    assert not guarded.gateway.posts() and guarded.made() == {"list.jsonl", "list.lock.json"}


def test_a_lock_that_is_a_link_or_no_file(guarded: Guard) -> None:
    (guarded.work / "list.jsonl").write_bytes(row())
    lock = guarded.work / "list.lock.json"
    (guarded.outside / "theirs.json").write_text(lock_of("list.jsonl"))
    lock.symlink_to(guarded.outside / "theirs.json")
    assert guarded("batch", "list.jsonl").code == 10
    lock.unlink()
    lock.symlink_to(guarded.outside / "not-there.json")
    assert guarded("batch", "list.jsonl").code == 10
    assert not (guarded.outside / "not-there.json").exists()
    lock.unlink()
    lock.mkdir()
    assert guarded("batch", "list.jsonl").code == 10
    lock.rmdir()
    os.mkfifo(lock)
    assert guarded("batch", "list.jsonl").code == 10


def test_a_running_lock_that_is_a_link(guarded: Guard, chroma: Chroma) -> None:
    (guarded.work / "list.jsonl").write_bytes(row())
    (guarded.work / ".list.jsonl.running").symlink_to(guarded.outside / "mine.png")
    assert chroma("batch", "list.jsonl").code == 10
    assert (guarded.outside / "mine.png").read_bytes() == b"mine" and not guarded.gateway.posts()


# --- links in place of an output ---------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("target", ["mine.png", "not-there.png", "."], ids=["file", "nothing", "folder"])
def test_an_output_that_is_a_link(guarded: Guard, target: str, sync: bool) -> None:
    (guarded.work / "fox.png").symlink_to(guarded.outside / target)
    more = ["--sync"] if sync else []
    if target != ".":
        assert guarded(*FOX, *more).code == 10
        assert not guarded.gateway.posts()
    ran = guarded("generate", "a red fox", "-o", "fox.png", "--overwrite", *more) if target != "." else None
    if target == "mine.png":  # the link is replaced, what it leads to stays
        assert ran is not None and ran.code == 0 and not (guarded.work / "fox.png").is_symlink()
    elif ran is not None:
        assert ran.code == 10 and (guarded.work / "fox.png").is_symlink()
    assert sorted(os.listdir(guarded.outside)) == ["mine.png"]


@pytest.mark.parametrize("name", ["a-pipe", "a-device", "a-folder", "a-socket"])
def test_an_output_that_is_no_file(guarded: Guard, name: str) -> None:
    import socket

    place = guarded.work / "fox.png"
    with socket.socket(socket.AF_UNIX) as listener:
        match name:
            case "a-pipe":
                os.mkfifo(place)
            case "a-device":
                place.symlink_to("/dev/full")
            case "a-folder":
                place.mkdir()
                (place / "fox.png").mkdir()
                place = place / "fox.png"
            case "a-socket":
                os.chdir(guarded.work)
                listener.bind("fox.png")
        for more in ([], ["--overwrite"]):
            if name != "a-folder":
                assert guarded("generate", "x", "-o", place, *more).code == 10
        assert not guarded.gateway.posts()
        assert not stat.S_ISREG(place.stat().st_mode)


@pytest.mark.parametrize("command", ["sheet", "gallery"])
def test_pages_that_are_links(guarded: Guard, command: str) -> None:
    (guarded.work / "a.png").write_bytes(png(7, 64, 64))
    (guarded.outside / "page.html").write_bytes(b"theirs")
    out = guarded.work / ("sheet.png" if command == "sheet" else "page.html")
    out.symlink_to(guarded.outside / ("mine.png" if command == "sheet" else "page.html"))
    source = "a.png" if command == "sheet" else "."
    assert guarded(command, source, "-o", out).code == 10
    assert guarded(command, source, "-o", out, "--overwrite").code == 0
    assert not out.is_symlink()


# --- the program's own places ------------------------------------------------------------------------------


VICTIMS: dict[str, bytes] = {"text": b"dear diary\n" * 100, "empty": b"", "picture": png(7, 64, 64)}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_ledger_that_is_a_link_to_somebodys_file(guarded: Guard, victim: str) -> None:
    guarded.state.mkdir()
    theirs = guarded.outside / "theirs"
    theirs.write_bytes(VICTIMS[victim])
    theirs.chmod(0o644)
    (guarded.state / "jobs.sqlite3").symlink_to(theirs)
    if victim == "empty":
        return  # as good as a ledger that was not begun
    ran = guarded(*FOX)
    assert ran.code == 0 and ran.err.count("warning:") == 1 and "ledger" in ran.err
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o644


def test_a_ledger_that_is_a_link_to_another_programs_database(guarded: Guard) -> None:
    _ledger_of_another_program(guarded)
    ran = guarded(*FOX)
    assert ran.code == 0 and "warning:" in ran.err


def test_a_ledger_that_is_a_link_to_a_ledger(guarded: Guard) -> None:
    assert guarded("submit", "x").code == 0
    (guarded.state / "jobs.sqlite3").rename(guarded.state / "real.sqlite3")
    (guarded.state / "jobs.sqlite3").symlink_to("real.sqlite3")
    assert guarded("fetch", "--pending").code == 0
    assert (guarded.state / "jobs.sqlite3").is_symlink()


def test_a_state_folder_that_others_can_write(guarded: Guard) -> None:
    guarded.state.mkdir()
    guarded.state.chmod(0o777)
    assert guarded(*FOX).code == 0
    ledger = guarded.state / "jobs.sqlite3"
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    ledger.chmod(0o666)
    ran = guarded("jobs")
    assert ran.code == 0 and "could be written by others" in ran.err
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606, 0o640])
def test_a_stored_key_that_others_can_reach(
    guarded: Guard, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    guarded.state.mkdir()
    stored = guarded.state / "credentials.json"
    stored.write_text(json.dumps({guarded.gateway.base_url: KEY}))
    stored.chmod(mode)
    assert guarded("credits").code == 3
    assert not guarded.gateway.requests()


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "huge", "list", "number"])
def test_a_stored_key_that_is_no_file_of_ours(
    guarded: Guard, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    guarded.state.mkdir()
    stored = guarded.state / "credentials.json"
    match what:
        case "link":
            (guarded.outside / "theirs.json").write_text(json.dumps({guarded.gateway.base_url: "SG_other"}))
            (guarded.outside / "theirs.json").chmod(0o600)
            stored.symlink_to(guarded.outside / "theirs.json")
        case "folder":
            stored.mkdir()
        case "pipe":
            os.mkfifo(stored, 0o600)
        case "huge":
            stored.write_bytes(b"[" * 10_000_000)
            stored.chmod(0o600)
        case "list":
            stored.write_text("[1]")
            stored.chmod(0o600)
        case "number":
            stored.write_text(json.dumps({guarded.gateway.base_url: 5}))
            stored.chmod(0o600)
    assert guarded("credits").code == 3
    assert not guarded.gateway.requests()


@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize(
    "argv", [FOX, ("credits",), ("submit", "x"), ("fetch", "--pending")], ids=lambda a: a[0]
)
def test_a_config_that_others_can_write_names_no_gateway(
    guarded: Guard, chroma: Chroma, monkeypatch: pytest.MonkeyPatch, what: str, argv: tuple[str, ...]
) -> None:
    monkeypatch.delenv("CHROMA_BASE_URL")
    folder = guarded.home / "config"
    folder.mkdir()
    config = folder / "config.toml"
    config.write_text(f'base_url = "{guarded.stranger.base_url}"\n')
    monkeypatch.setenv("CHROMA_CONFIG", str(config))
    config.chmod(0o666 if what == "file" else 0o644)
    folder.chmod(0o777 if what == "folder" else 0o755)
    ran = guarded(*argv)
    assert ran.code == 2 and "written by others" in ran.err and "chmod go-w" in ran.err
    assert not guarded.stranger.requests()
    assert guarded("credits", "--base-url", guarded.gateway.base_url).code == 0
    folder.chmod(0o1777)
    config.chmod(0o644)
    monkeypatch.setenv("SEGMIND_API_KEY", "SG_for0the0other0one")
    assert chroma("credits").code != 2  # now it is trusted


CONFIGS: dict[str, bytes] = {
    "not-utf-8": b"\xff\xfe",
    "not-toml": b"[[[",
    "nested-without-end": b"a = " + b"[" * 100_000,
    "number-of-a-million-digits": b"[budget]\nday = " + b"9" * 1_000_000,
    "huge": b"#" * (5 * 2**20),
    "unknown-table": b"[plugins]\nx = 1",
    "a-key": b'api_key = "x"',
    "base-url-with-a-command": b'base_url = "https://a.test/\\u001b[2J"',
    "defaults-with-an-output": b'[defaults]\noutput = "/etc/x.png"',
    "defaults-with-a-prompt": b'[defaults]\nprompt = "x"',
    "defaults-nan": b"[defaults]\ncfg = nan",
    "defaults-nested": b"[defaults.defaults]\ncfg = 5",
    "preset-with-a-command-for-a-name": b'[presets."\\u001b[2J"]\ncfg = 99',
    "preset-that-is-a-list": b"presets = [1]",
    "metadata-that-is-none": b'[defaults]\nmetadata = "\\u001b[2J"',
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config(guarded: Guard, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("base-url"):
        monkeypatch.delenv("CHROMA_BASE_URL")
    guarded.config.write_bytes(CONFIGS[name])
    ran = guarded(*FOX)
    assert ran.code == 2, ran
    assert not guarded.gateway.requests()
    assert guarded("config").code in (0, 2)
    assert guarded("presets").code in (0, 2)


@pytest.mark.parametrize("variable", ["CHROMA_CONFIG", "SEGMIND_API_KEY_FILE", "CHROMA_STATE_DIR"])
@pytest.mark.parametrize("place", ["/dev/zero", "/dev/full", "/proc/self/mem", "loop", "long", "folder"])
def test_places_that_are_none(
    guarded: Guard, monkeypatch: pytest.MonkeyPatch, variable: str, place: str
) -> None:
    (guarded.work / "loop").symlink_to("loop")
    (guarded.work / "folder").mkdir()
    monkeypatch.setenv(variable, "a" * 5000 if place == "long" else place)
    if variable == "SEGMIND_API_KEY_FILE":
        monkeypatch.delenv("SEGMIND_API_KEY")
    ran = guarded(*FOX)
    expected = {"CHROMA_CONFIG": {2}, "SEGMIND_API_KEY_FILE": {3}, "CHROMA_STATE_DIR": {0}}[variable]
    assert ran.code in expected, ran
    assert "jobs.sqlite3" not in " ".join(guarded.made()) or place == "folder"
