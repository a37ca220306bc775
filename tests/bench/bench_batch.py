"""Batches: 300 jobs of 1 s beside the official SDK in threads, 1000 jobs in flight, 1000 unchanged images.

All pictures are 768x768, as many bytes as a real one has; the gateway is a process of its own.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gate import Gate
from measure import KEY, Figure, alternate, chroma, ratio, seconds_of, surroundings
from PIL import Image

SIDE = 768
JOBS = 300
AT_ONCE = 100
IDEAL = JOBS / AT_ONCE * 1.0
ROUNDS = 5
MANY = 1000
MANY_SECONDS = 20.0

SDK = """
import sys, concurrent.futures, pathlib, requests
from segmind import SegmindClient
url, key, count, at_once, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
client = SegmindClient(api_key=key, base_url=url + "/v1")
def make(number):
    handle = client.submit_async("chroma", prompt=f"picture {number}", width=768, height=768, base64=False)
    result = handle.wait()
    output = result["output"] if isinstance(result, dict) else result.output
    reply = requests.get(output, timeout=60)
    reply.raise_for_status()
    pathlib.Path(folder, f"{number}.png").write_bytes(reply.content)
with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
    list(pool.map(make, range(count)))
"""


@dataclass(frozen=True)
class Used:
    """What a process used: seconds in all, seconds of CPU, MB at its peak."""

    seconds: float
    cpu: float
    peak: float


def measure(folder: Path) -> list[Figure]:
    picture = _picture()
    return [*_three_hundred(folder, picture), *_thousand(folder, picture), *_unchanged(folder)]


def _picture() -> bytes:
    """Noise on a gradient, so that a PNG of it has the size of a generated picture's."""
    import random

    rough = bytes(random.Random(1).randbytes(SIDE * SIDE * 3 // 4))
    noise = Image.frombytes("L", (SIDE, SIDE), (rough * 2)[: SIDE * SIDE]).point(lambda value: value // 16)
    ramp = Image.linear_gradient("L").resize((SIDE, SIDE)).point(lambda value: value * 15 // 16)
    from PIL import ImageChops

    one = ImageChops.add(ramp, noise)
    kept = io.BytesIO()
    Image.merge("RGB", (one, one.transpose(Image.Transpose.ROTATE_90), ramp)).save(kept, "PNG")
    return kept.getvalue()


def _manifest(folder: Path, count: int) -> Path:
    rows = [
        {"prompt": f"picture {number}", "output": f"{number}.png", "size": f"{SIDE}x{SIDE}", "seed": number}
        for number in range(count)
    ]
    folder.mkdir(parents=True)
    path = folder / "list.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def _saved(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.png"))


# --- 300 jobs of 1 s -------------------------------------------------------------------------------------


def _three_hundred(folder: Path, picture: bytes) -> list[Figure]:
    rounds = iter(range(1000))

    def ours(url: str) -> float:
        place = folder / f"ours-{next(rounds)}"
        manifest = _manifest(place, JOBS)
        command = chroma("batch", str(manifest), "--jobs", str(AT_ONCE), "--base-url", url, "-q")
        took = seconds_of(command, surroundings(folder) | {"CHROMA_STATE_DIR": str(place / "state")}, place)
        assert _saved(place) == JOBS
        return took

    def theirs(url: str) -> float:
        place = folder / f"theirs-{next(rounds)}"
        place.mkdir()
        command = [sys.executable, "-c", SDK, url, KEY, str(JOBS), str(AT_ONCE), str(place)]
        took = seconds_of(command, surroundings(folder), place)
        assert _saved(place) == JOBS
        return took

    with Gate.start(folder, picture, [1.0]) as gate:
        taken = alternate(
            {"ours": lambda: ours(gate.base_url), "theirs": lambda: theirs(gate.base_url)}, ROUNDS, warm_up=1
        )
    ideal = dict(taken, ideal=[IDEAL] * ROUNDS)
    return [
        Figure("batch: 300 jobs of 1 s, 100 at once, to the ideal", ratio(ideal, "ours", "ideal"), "x", 1.6),
        Figure("batch: the same with the SDK in threads", ratio(ideal, "theirs", "ideal"), "x"),
        Figure("batch: ours to the SDK's", ratio(taken, "ours", "theirs"), "x", 1.0),
    ]


# --- 1000 in flight --------------------------------------------------------------------------------------


def _thousand(folder: Path, picture: bytes) -> list[Figure]:
    place = folder / "many"
    manifest = _manifest(place, MANY)
    with Gate.start(folder, picture, [MANY_SECONDS]) as gate:
        command = chroma("batch", str(manifest), "--jobs", str(MANY), "--base-url", gate.base_url, "-q")
        used = _used(command, surroundings(folder) | {"CHROMA_STATE_DIR": str(place / "state")}, place)
        polls = [job["polls"] for job in gate.jobs(KEY)]
    note = f"{used.seconds:.0f} s in all, at most {max(polls)} polls"
    return [
        Figure("batch: 1000 in flight, saved", MANY - _saved(place), "missing", 0.0, note),
        Figure("batch: 1000 in flight, peak memory", used.peak, "MB", 150.0),
        Figure("batch: 1000 in flight, CPU", used.cpu / used.seconds, "cores", 1.0),
        Figure("batch: 1000 in flight, polls a job", sum(polls) / len(polls), "polls", 10.0),
    ]


def _used(command: Sequence[str], env: Mapping[str, str], folder: Path) -> Used:
    began = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    if process.returncode:
        raise SystemExit((folder / "log").read_text()[-2000:])
    return Used(took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


# --- 1000 unchanged --------------------------------------------------------------------------------------


def _unchanged(folder: Path) -> list[Figure]:
    """The images that the run before has made."""
    place = folder / "many"
    env = surroundings(folder) | {"CHROMA_STATE_DIR": str(place / "state")}
    one = folder / "one"
    _manifest(one, 1)
    runs = {
        "run": lambda: seconds_of(chroma("batch", "list.jsonl", "-q"), env, place),
        "check": lambda: seconds_of(chroma("batch", "list.jsonl", "--check", "-q"), env, place),
        "start": lambda: seconds_of(chroma("presets", "-q"), env, place),
    }
    taken = alternate(runs, 7)
    return [
        Figure("batch: 1000 unchanged, a run to the start-up", ratio(taken, "run", "start"), "x", 3.0),
        Figure("batch: 1000 unchanged, --check to the start-up", ratio(taken, "check", "start"), "x", 3.0),
    ]
