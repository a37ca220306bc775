"""``python -m tests.bench``, from the top of the repository."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from run import main  # noqa: E402  # the benchmarks import each other by their plain names

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
