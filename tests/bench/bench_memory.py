"""What a large picture costs in memory: the peak of a run against the peak of the same imports alone.

Peaks are VmHWM of a process of its own, so this one needs Linux.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

from gate import Gate
from measure import Figure, surroundings

SIDE = 2048
MB = 1e6

# Both children end with the same lines; the second one imports what the first one had imported.
_PEAK = """
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
json.dump({"peak": peak * 1024, "modules": sorted(sys.modules)}, open(sys.argv[1], "w"))
"""
RUN = f"""import json, sys
from chroma_cli.cli.main import main
code = main(sys.argv[2:])
assert code == 0, code
{_PEAK}"""
IMPORTS = (
    """import importlib, json, sys
for name in json.load(open(sys.argv[2])):
    if name != "__main__":
        try:
            importlib.import_module(name)
        except ImportError:
            pass
"""
    + _PEAK
)


def measure(folder: Path) -> list[Figure]:
    if not Path("/proc/self/status").exists():
        print("memory: no /proc/self/status here; skipped", file=sys.stderr)
        return []
    picture = noise(SIDE)
    reply = (len(picture) + 2) // 3 * 4
    figures = []
    with Gate.start(folder, picture) as gate:
        env = surroundings(folder, CHROMA_BASE_URL=gate.base_url)
        _child(
            env, folder, RUN, str(folder / "first"), "generate", "x"
        )  # compiling modules takes memory, too
        for number, (what, options, target) in enumerate(
            (
                ("by download", [], 40.0),
                ("raw bytes of v1", ["--sync"], 40.0),
                ("base64 in v2", ["--base64"], 4 * reply / MB + 30),
                ("base64 of v1", ["--sync", "--base64"], 4 * reply / MB + 30),
            )
        ):
            place = folder / f"picture-{number}.png"
            beyond = _beyond_imports(
                folder, env, ["generate", "x", "--size", f"{SIDE}x{SIDE}", "-o", str(place), *options]
            )
            assert place.stat().st_size >= len(picture)
            note = f"PNG of {len(picture) / MB:.1f} MB"
            figures.append(
                Figure(f"{SIDE}x{SIDE} {what}: beyond the imports", beyond / MB, "MB", target, note)
            )
    return figures


def noise(side: int) -> bytes:
    """The largest PNG of that size that a gateway may send: nothing in it can be compressed."""
    from PIL import Image

    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _beyond_imports(folder: Path, env: dict[str, str], argv: list[str]) -> float:
    """The difference of the two peaks, in bytes."""
    run, imports, names = (folder / name for name in ("run.json", "imports.json", "names.json"))
    _child(env, folder, RUN, str(run), *argv)
    found = json.loads(run.read_text())
    names.write_text(json.dumps(found["modules"]))
    _child(env, folder, IMPORTS, str(imports), str(names))
    return float(found["peak"] - json.loads(imports.read_text())["peak"])


def _child(env: dict[str, str], folder: Path, code: str, *args: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=env, cwd=folder, capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr.decode()[-2000:])
