"""Run an older wheel and this tree against scripted gateways with the same faults, and show what differs.

    python tests/bench/differential.py OLD.whl|FOLDER|VENV/bin/python [--only CASE] [--known FILE]

Each side gets a gateway of its own with the same script, a folder of its own, and the same command lines in
real processes. Compared are JSON, exit codes, rows, files and what the gateway saw; ids, times and places are
made equal first. Exit code 1 when something differs. ``--known FILE`` names lines that may.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from kit import KEY, apart, is_whole  # noqa: E402

OPTIONS = ("--size", "768x768", "--seed", "7", "--json")
GENERATE = ("generate", "a fox", "-o", "one.png", *OPTIONS)
SUBMIT = ("submit", "a fox", "-o", "one.png", *OPTIONS)
FETCH = ("fetch", "--pending", "--wait", "--json")
BATCH = ("batch", "list.jsonl", "--jobs", "2", "--json")
#: What is done, with the scripts of the gateway as ``kit.gateway`` takes them.
CASES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, ...]]]] = {
    "generate": ([], [GENERATE]),
    "three formats": (
        [],
        [("generate", "a fox", "-o", f"one.{kind}", *OPTIONS) for kind in ("jpeg", "webp")],
    ),
    "samples": ([], [(*GENERATE, "--samples", "3")]),
    "sync": ([], [(*GENERATE, "--sync")]),
    "base64": ([], [(*GENERATE, "--base64")]),
    "in steps": ([], [SUBMIT, ("status", "1", "--json"), FETCH, FETCH, ("jobs", "--json")]),
    "wrong values": ([], [(*GENERATE, "--steps", "1", "--cfg", "99"), ("generate", "--json")]),
    "an existing file": ([], [GENERATE, GENERATE, (*GENERATE, "--overwrite")]),
    "batch": ([], [BATCH, BATCH, (*BATCH[:2], "--check", "--json")]),
    "batch, a lost answer": (
        [{"route": "submit", "steps": ["lost reset"], "prompt": "owl"}],
        [BATCH, BATCH, (*BATCH, "--resubmit-unknown")],
    ),
    "credits": ([], [("credits", "--json"), ("credits", "--min", "5000", "--json")]),
    "lost": ([{"route": "submit", "steps": ["lost reset"]}], [GENERATE, FETCH, ("jobs", "--json")]),
    **{
        f"{route}: {words}": (
            [{"route": route, "steps": words.split(", ")}],
            [GENERATE if route != "sync" else (*GENERATE, "--sync"), FETCH],
        )
        for route in ("submit", "status", "result", "file", "sync")
        for words in (
            "503",
            "503, 503",
            "page 502",
            "reset",
            "close",
            "cut 20",
            "garbage",
            "401",
            "404",
            "lost 504",
        )
    },
}


def side(python: str, root: Path, scripts: list[dict[str, Any]], runs: list[tuple[str, ...]]) -> list[str]:
    """Do one case with one program, and return what came of it as lines."""
    work = root / "work"
    work.mkdir(parents=True)
    rows = [{"prompt": one, "output": f"{one}.png", "size": "768x768"} for one in ("fox", "owl", "hare")]
    (work / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = []
    with apart(*scripts) as gateway:
        env = {
            "PATH": os.defpath,
            "HOME": str(root),
            "SEGMIND_API_KEY": KEY,
            "CHROMA_BASE_URL": gateway.base_url,
            "CHROMA_STATE_DIR": str(root / "state"),
            "CHROMA_CONFIG": str(root / "config.toml"),
        }
        for argv in (*runs, ("jobs", "--json", "--limit", "99")):
            done = subprocess.run([python, "-m", "chroma_cli", *argv], cwd=work, env=env, capture_output=True)
            lines.append(f"$ chroma {' '.join(argv)} -> {done.returncode}")
            for name, stream in (("out", done.stdout), ("err", done.stderr)):
                told = (
                    sorted(stream.decode().splitlines())
                    if argv[0] == "batch"
                    else stream.decode().splitlines()
                )
                lines += [f"{name}: {plain(line, root, gateway.base_url)}" for line in told]
        seen = [
            f"{one['method']} {one['route']}"
            for one in gateway.record()["requests"]
            if one["method"] == "POST"
        ]
        lines += [f"gateway: {one}" for one in sorted(seen)]
    for path in sorted(work.rglob("*")):
        lines.append(f"file: {path.relative_to(work)}{' whole' if path.is_file() and is_whole(path) else ''}")
    return lines


def plain(line: str, root: Path, url: str) -> str:
    """Return the line without what differs from run to run."""
    line = line.replace(str(root), "ROOT").replace(url, "GATEWAY")
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", line)
    line = re.sub(r"[0-9a-f]{8}-c0de-[0-9a-f-]+", "ID", line)
    line = re.sub(r'"sha256": "[0-9a-f]{64}"', '"sha256": "SHA"', line)
    line = re.sub(r'"bytes": \d+', '"bytes": N', line)
    return re.sub(r'"(total|seconds|queue|inference)": [\d.]+', r'"\1": SECONDS', line)


def python_of(given: str, folder: Path) -> str:
    """Return the interpreter that runs that version, with a wheel installed into a new place."""
    path = Path(given)
    if path.suffix == ".whl":
        venv.create(folder, with_pip=True)
        python = str(folder / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", str(path.resolve())], check=True)
        return python
    if path.is_dir():
        wrapper = folder.with_suffix(".sh")
        wrapper.write_text(f'#!/bin/sh\nPYTHONPATH="{path.resolve()}" exec "{sys.executable}" "$@"\n')
        wrapper.chmod(0o755)
        return str(wrapper)
    return given


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", help="a wheel, a folder with chroma_cli in it, or an interpreter")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--known", type=Path, help="a file of difference lines that are wanted")
    given = parser.parse_args()
    known = set(given.known.read_text().splitlines()) if given.known else set()
    differing = 0
    with tempfile.TemporaryDirectory() as temp:
        pythons = {"old": python_of(given.old, Path(temp, "venv")), "new": sys.executable}
        for number, (name, (scripts, runs)) in enumerate(CASES.items()):
            if given.only not in name:
                continue
            old, new = (
                side(python, Path(temp, f"{number}-{which}"), scripts, runs)
                for which, python in pythons.items()
            )
            told = [
                line
                for line in difflib.unified_diff(old, new, "old", "new", lineterm="", n=0)
                if not line.startswith(("---", "+++", "@@")) and line not in known
            ]
            differing += bool(told)
            print(f"{'DIFFERS' if told else 'equal  '} {name}", *(f"    {line}" for line in told), sep="\n")
    print(f"{differing} cases differ")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
