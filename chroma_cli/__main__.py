"""``python -m chroma_cli``."""

from chroma_cli.cli.main import entry

if __name__ == "__main__":
    entry()
