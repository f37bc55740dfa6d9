"""The `gateway` command: one file a sub-command, each with `add_parser(subparsers)` and `run(args) -> exit code`."""

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS: tuple[str, ...] = ("serve", "demo", "check", "explain", "emulate", "simulate")
"""Names of the modules beside this one that hold a sub-command each; the order is the order of the help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 fine, 1 what was checked is not fine, 2 usage or config error, 130 Ctrl-C."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="gateway", description="An OpenAI-compatible gateway for vLLM replicas.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # A gateway that serves does not need the other commands, the lab among them, in its memory: 2 MB.
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        importlib.import_module(f"gateway.cli.{name}").add_parser(subparsers)
    args = parser.parse_args(words)
    try:
        code: int = args.run(args)
    except KeyboardInterrupt:
        return 130
    return code
