"""The entry of the program ``hrmas``, also as ``python -m hrmas_sparse``."""

import os
import sys

from hrmas_sparse import environment, process


def main() -> int:
    """Run the program; see :func:`hrmas_sparse.cli.main`."""
    if os.name != "posix":
        print(environment.UNSUPPORTED, file=sys.stderr)
        return 2
    process.begin("hrmas")
    from hrmas_sparse.cli import main as program  # imports much, so not before a signal is heard
    return program()


if __name__ == "__main__":
    sys.exit(main())
