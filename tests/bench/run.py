"""All benchmarks, or those that are named: ``python tests/bench/run.py [startup polling memory ...]``.

Every figure is a ratio or a sum within one run, never a time to compare with another day's. Ends with 1 when
a target is missed.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence

from measure import Figure, scratch, show

BENCHMARKS = ("polling", "startup", "credits", "memory", "ledger", "latency", "batch")


def main(argv: Sequence[str]) -> int:
    unknown = [name for name in argv if name not in BENCHMARKS]
    if unknown:
        print(f"No such benchmark: {', '.join(unknown)}. There are {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    for name in argv or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        with scratch() as folder:
            figures += importlib.import_module(f"bench_{name}").measure(folder)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return 0 if show(figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
