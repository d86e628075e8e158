"""`python -m muybridge`."""

import sys

from muybridge.cli.main import main

if __name__ == "__main__":  # worker processes import this file again
    sys.exit(main())
