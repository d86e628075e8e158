"""`python -m muybridge`."""

import sys

from muybridge.cli.entry import run

if __name__ == "__main__":  # worker processes import this file again
    sys.exit(run())
