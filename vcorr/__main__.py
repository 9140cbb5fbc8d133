"""Starts the program: `python -m vcorr`, and the script `vcorr`."""

from __future__ import annotations

import sys
from typing import NoReturn

_INTERRUPTED = 130
"""`vcorr.contract.errors.EXIT_INTERRUPTED`, whose import may be what was interrupted."""


def main() -> NoReturn:
    """Runs the program and exits with its code. Ctrl-C while its modules are imported is said in one line as well."""
    try:
        from vcorr.cli.main import main as program

        program()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
