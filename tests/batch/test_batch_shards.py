"""A batch over several machines: shares by hand, with GNU parallel, and with Snakemake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from batchgate import Gate
from running import Ended

Chroma = Callable[..., Ended]
Listing = Callable[..., Path]
IMAGES = tuple(f"fox{n}" for n in range(22))

SNAKEFILE = """
SHARES = range(1, 5)

rule all:
    input: expand("done/{k}", k=SHARES)

rule share:
    output: touch("done/{k}")
    shell: "{PYTHON} -m chroma_cli batch list.jsonl --shard {wildcards.k}/4 -q"
"""


def pngs(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.png"))


def test_every_image_belongs_to_one_share(chroma: Chroma, gate: Gate, listing: Listing, work: Path) -> None:
    listing(*IMAGES)
    counts = []
    for share in range(1, 5):
        before = len(gate.jobs)
        assert chroma("batch", "list.jsonl", "--shard", f"{share}/4", "--jobs", "20").code == 0
        counts.append(len(gate.jobs) - before)
    assert sorted(counts) == [5, 5, 6, 6]
    assert pngs(work) == sorted(IMAGES)
    assert chroma("batch", "list.jsonl", "--check").code == 0
    assert chroma("batch", "list.jsonl").code == 0
    assert len(gate.jobs) == len(IMAGES)


def test_an_empty_share_is_fine(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing("fox")
    assert sorted(chroma("batch", "list.jsonl", "--shard", f"{k}/3").code for k in (1, 2, 3)) == [0, 0, 0]
    assert gate.prompts == ["fox"]


def test_gnu_parallel(gate: Gate, listing: Listing, work: Path) -> None:
    parallel = shutil.which("parallel")
    if parallel is None:
        pytest.skip("GNU parallel is not installed")
    listing(*IMAGES)
    program = f"{sys.executable} -m chroma_cli"
    done = subprocess.run(
        [parallel, "--jobs", "4", f"{program} batch list.jsonl --shard {{}}/4 -q", ":::", "1", "2", "3", "4"],
        capture_output=True,
        timeout=60,
        env={**os.environ, "HOME": str(work)},  # noqa: TID251
    )
    assert done.returncode == 0, done.stderr
    assert pngs(work) == sorted(IMAGES)
    assert sorted(gate.prompts) == sorted(IMAGES)


def test_snakemake(gate: Gate, listing: Listing, work: Path) -> None:
    snakemake = os.environ.get("SNAKEMAKE_FOR_TESTS") or shutil.which("snakemake")  # noqa: TID251
    if snakemake is None:
        pytest.skip("snakemake is not installed (see also SNAKEMAKE_FOR_TESTS)")
    listing(*IMAGES)
    (work / "Snakefile").write_text(f"PYTHON = {sys.executable!r}\n{SNAKEFILE}")
    done = subprocess.run(
        [snakemake, "--cores", "4"],
        cwd=work,
        capture_output=True,
        timeout=120,
        env={**os.environ, "HOME": str(work), "XDG_CACHE_HOME": str(work / "cache")},  # noqa: TID251
    )
    assert done.returncode == 0, done.stderr
    assert pngs(work) == sorted(IMAGES)
    assert sorted(gate.prompts) == sorted(IMAGES)
