"""A batch over several machines by programs that spread work: GNU parallel and Snakemake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

IMAGES = [f"fox{n}" for n in range(22)]
SNAKEFILE = """
SHARES = range(1, 5)

rule all:
    input: expand("done/{k}", k=SHARES)

rule share:
    output: touch("done/{k}")
    shell: "{PYTHON} -m chroma_cli batch list.jsonl --shard {wildcards.k}/4 -q"
"""


def run(process, work, *command: str) -> None:
    env = process.environment({"HOME": str(work), "XDG_CACHE_HOME": str(work / "cache")})
    done = subprocess.run(command, capture_output=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr


def all_made_once(gateway, work) -> bool:
    made = sorted(path.stem for path in work.glob("*.png"))
    return made == sorted(job.prompt for job in gateway.jobs()) == sorted(IMAGES)


def test_gnu_parallel(gateway, process, listing, work):
    parallel = shutil.which("parallel")
    if parallel is None:
        pytest.skip("GNU parallel is not installed")
    listing(*IMAGES)
    share = " ".join(process.command("batch", "list.jsonl", "--shard", "{}/4", "-q"))
    run(process, work, parallel, "--jobs", "4", share, ":::", "1", "2", "3", "4")
    assert all_made_once(gateway, work)


def test_snakemake(gateway, process, listing, work):
    snakemake = os.environ.get("SNAKEMAKE_FOR_TESTS") or shutil.which("snakemake")  # noqa: TID251
    if snakemake is None:
        pytest.skip("snakemake is not installed (see also SNAKEMAKE_FOR_TESTS)")
    listing(*IMAGES)
    (work / "Snakefile").write_text(f"PYTHON = {sys.executable!r}\n{SNAKEFILE}")
    run(process, work, snakemake, "--cores", "4")
    assert all_made_once(gateway, work)
