"""`python -m dualsr_cli` and the `dualsr` script."""

from __future__ import annotations

import sys

from dualsr_cli.commands import run


def main() -> None:
    """Run the process's command line and exit with its code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
