"""``chroma sandbox``: the practice gateway in the foreground, for scripts and for other clients."""

from __future__ import annotations

from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.errors import ChromaError, InvalidParameters, Problem, TerminationRequest
from chroma_cli.sandbox.magic import KEYS, MAGIC
from chroma_cli.sandbox.world import WorldOptions

_PORT_MAX = 65535

NOTES = (
    "The world of this server is new each time and ends with it. Any key is accepted, but:",
    *((one.key, one.meaning) for one in KEYS),
    "A word in the prompt chooses what happens:",
    *((one.token, one.meaning) for one in MAGIC),
)

_OWN = (
    Opt("port", ("--port",), "Port on 127.0.0.1. Default: a free one.", metavar="N"),
    Opt("latency", ("--latency",), "Seconds that a job takes. Default: 3.", metavar="S"),
    Opt("rpm", ("--rpm",), "API calls a minute, 0 for no limit. Default: 600.", metavar="N"),
    Opt("credits", ("--credits",), "Credits to start with. Default: 25.", metavar="X"),
)


class PortTaken(ChromaError):
    type = "port_taken"
    default_hint = "Choose another one with --port, or leave it out for a free one."


@takes(_OWN)
def sandbox(run: Run) -> None:
    """Run the practice gateway until Ctrl-C; prints its address first."""
    from chroma_cli.sandbox.server import SandboxServer

    port, options = _options(run)

    def log(method: str, path: str, status: int, ms: float) -> None:
        value = {"method": method, "path": path, "status": status, "ms": round(ms, 1)}
        run.output.http(value, f"{method} {path} -> {status} in {ms:.0f} ms")

    try:
        server = SandboxServer(None, options, port=port, log=log)
    except OSError as error:
        raise PortTaken(f"Port {port} on 127.0.0.1 cannot be used: {error.strerror}.") from error
    try:
        run.output.result(server.base_url, {"base_url": server.base_url})
        run.output.note(f'Try: chroma generate "a red fox" --base-url {server.base_url}')
        server.serve_forever()
    except TerminationRequest:
        raise
    except KeyboardInterrupt:
        run.output.note("Stopped.")  # Ctrl-C is how it is meant to end
    finally:
        server.stop()


def _options(run: Run) -> tuple[int, WorldOptions]:
    problems: list[Problem] = []

    def number(name: str, otherwise: float, high: float, *, whole: bool = False) -> float:
        text = run.given[name]
        if text is None:
            return otherwise
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = -1
        if not 0 <= value <= high:
            kind = "a whole number" if whole else "a number"
            problems.append(Problem(f"--{name}", f"{text!r} is not {kind} from 0 to {high:.0f}"))
        return value

    port = number("port", 0, _PORT_MAX, whole=True)
    latency = number("latency", WorldOptions.latency, 86400)
    rpm = number("rpm", WorldOptions.rpm, 1e9, whole=True)
    credits = number("credits", WorldOptions.credits, 1e9)
    if problems:
        raise InvalidParameters(problems)
    return int(port), WorldOptions(latency=latency, rpm=int(rpm), credits=credits)
