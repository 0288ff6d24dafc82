"""``kvfs`` and ``python -m kvfs_frontend_cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and exit with its code."""
    from kvfs_frontend_cli._app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
