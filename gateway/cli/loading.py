"""The config for a command: loaded, or every error printed."""

import argparse
import os
import sys
from pathlib import Path

from gateway.config import Config, ConfigErrors, load


def add_config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="YAML file; default: none, all defaults")


def load_or_report(path: Path | None) -> Config | None:
    """The config of the file and the environment; `None` after its errors have gone to stderr."""
    try:
        return load(path, os.environ)
    except ConfigErrors as errors:
        for error in errors.errors:
            print(error, file=sys.stderr)
        return None
