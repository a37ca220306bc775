"""From "completed" on the gateway to the picture in its place: chroma beside the provider's SDK.

Three lanes run side by side against one gateway, with the same durations (1.5 to 3.5 s, drawn evenly): the
SDK's ``run()`` and a download with requests, in a process that stays; ``main([...])`` in a process that
stays; and one ``chroma generate`` process for each job. The first jobs of each lane are for learning and do
not count. A picture is in its place from the last change of its file on (for chroma that is the rename; the
checks come before it). How long the call goes on after that is shown without a target.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from operator import sub
from pathlib import Path
from statistics import fmean
from typing import Any

from gate import Gate
from measure import KEY, Figure, chroma, surroundings

LEARNING = 5
JOBS = 30
PROMPT = "a young knight in shining armor"

SDK_LANE = """
import json, sys, time
from pathlib import Path
import requests
from segmind import SegmindClient
key, base_url, count, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
client = SegmindClient(api_key=key, base_url=base_url + "/v1")
ended = []
for number in range(count):
    result = client.run("chroma", prompt=sys.argv[5])
    (folder / f"{number}.png").write_bytes(requests.get(result["output"]).content)
    ended.append(time.time())
print(json.dumps(ended))
"""
MAIN_LANE = """
import contextlib, io, json, os, sys, time
from chroma_cli.cli.main import main
count = int(sys.argv[1])
ended = []
for number in range(count):
    with open(os.devnull, "w") as no, contextlib.redirect_stdout(no), contextlib.redirect_stderr(no):
        code = main(["generate", sys.argv[3], "-o", f"{sys.argv[2]}/{number}.png"])
    assert code == 0, code
    ended.append(time.time())
print(json.dumps(ended))
"""


def measure(folder: Path) -> list[Figure]:
    draw = random.Random(11)
    durations = [draw.uniform(1.5, 3.5) for _ in range(LEARNING + JOBS)]
    keys = {lane: f"{KEY[:-8]}lane-{lane}" for lane in ("sdk", "main", "once")}
    with Gate.start(folder, picture(), durations) as gate:
        places = {lane: folder / lane for lane in keys}
        envs = {}
        for lane, place in places.items():
            place.mkdir()
            envs[lane] = surroundings(place, CHROMA_BASE_URL=gate.base_url, SEGMIND_API_KEY=keys[lane])
        lanes = {
            "sdk": lambda: _stays(
                SDK_LANE, envs["sdk"], keys["sdk"], gate.base_url, len(durations), places["sdk"]
            ),
            "main": lambda: _stays(MAIN_LANE, envs["main"], len(durations), places["main"]),
            "once": lambda: [_once(envs["once"], places["once"] / f"{n}.png") for n in range(len(durations))],
        }
        with ThreadPoolExecutor() as pool:
            running = {lane: pool.submit(work) for lane, work in lanes.items()}
            ended = {lane: work.result() for lane, work in running.items()}
        jobs = {lane: gate.jobs(key)[LEARNING:] for lane, key in keys.items()}
    figures = []
    sdk = Lane(ended["sdk"], places["sdk"], jobs["sdk"])
    for name, what in (("main", "main() in a process that stays"), ("once", "one process a job")):
        lane = Lane(ended[name], places[name], jobs[name])
        note = f"{lane.in_place:.3f} s against {sdk.in_place:.3f} s, "
        note += f"of which until asked {lane.seen:.3f} s and {sdk.seen:.3f} s"
        figures += [
            Figure(f"{what}: completed to in place / SDK", lane.in_place / sdk.in_place, "x", 0.7, note),
            Figure(f"{what}: polls a job", lane.polls, "polls", sdk.polls, "target: the SDK's"),
            Figure(f"{what}: completed to ended / SDK", lane.ended / sdk.ended, "x"),
        ]
    return figures


class Lane:
    """Means over the jobs of one lane that count: seconds since "completed", and polls."""

    def __init__(self, ended: list[float], place: Path, jobs: list[dict[str, Any]]) -> None:
        self.polls = fmean(job["polls"] for job in jobs)
        self.seen = fmean(job["seen"] - job["completed"] for job in jobs)
        files = [place / f"{number}.png" for number in range(LEARNING, LEARNING + JOBS)]
        since = [job["completed"] for job in jobs]
        self.in_place = fmean(map(sub, (file.stat().st_ctime for file in files), since))
        self.ended = fmean(map(sub, ended[LEARNING:], since))


def picture() -> bytes:
    """A PNG of 1024x1024 and about 1 MB."""
    from PIL import Image

    draw = random.Random(3)
    coarse = Image.frombytes("RGB", (160, 160), draw.randbytes(160 * 160 * 3))
    out = io.BytesIO()
    coarse.resize((1024, 1024)).save(out, "PNG")
    return out.getvalue()


def _stays(code: str, env: dict[str, str], *args: Any) -> list[float]:
    """When each job of a process for all of them ended, in seconds since the epoch."""
    command = [sys.executable, "-c", code, *map(str, args), PROMPT]
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    found: list[float] = json.loads(done.stdout)
    return found


def _once(env: dict[str, str], place: Path) -> float:
    done = subprocess.run(
        chroma("generate", PROMPT, "-o", str(place)), env=env, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return time.time()
