"""``chroma credits --json`` beside a script of six lines that does the same GET and prints the JSON."""

from __future__ import annotations

import sys
from pathlib import Path

from gate import Gate
from measure import Figure, alternate, chroma, milliseconds, ratio, seconds_of, surroundings

SCRIPT = """\
import json
import os
import requests
url = os.environ["CHROMA_BASE_URL"] + "/v1/get-user-credits"
reply = requests.get(url, headers={"x-api-key": os.environ["SEGMIND_API_KEY"]}, timeout=15)
print(json.dumps(reply.json()))
"""
ROUNDS = 20


def measure(folder: Path) -> list[Figure]:
    script = folder / "credits_script.py"
    script.write_text(SCRIPT)
    with Gate.start(folder, b"") as gate:
        env = surroundings(folder, CHROMA_BASE_URL=gate.base_url)
        runs = {
            "script": lambda: seconds_of([sys.executable, str(script)], env, folder),
            "chroma": lambda: seconds_of(chroma("credits", "--json"), env, folder),
        }
        taken = alternate(runs, ROUNDS)
    note = milliseconds(taken, "chroma", "script")
    return [
        Figure(
            "chroma credits --json / script with requests", ratio(taken, "chroma", "script"), "x", 1.7, note
        )
    ]
