"""The program ``hrmas``: parser.py has its options, commands.py and data.py what its commands do.

User mistakes are one line and exit status 2.
"""

import os
import sys
from collections.abc import Sequence

from hrmas_sparse import environment, process
from hrmas_sparse.storage.errors import Diverged, InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Returns
    -------
    int, the exit status: 0 done, 1 a check failed or training diverged, 2 bad input, 128 + n stopped by signal n
    """
    from hrmas_sparse.cli.parser import parse
    try:
        with process.signals_raise():
            command, options = parse(argv)
            _check_folder()
            status = command(options)
            if sys.stdout is not None:
                sys.stdout.flush()  # what cannot be written is said here
            return status
    except (Exception, process.Signalled, KeyboardInterrupt) as error:
        status, message = _ending(process.stop_behind(error) or error)
    print(f"hrmas: {environment.printable(message)}", file=sys.stderr)
    return status


def _check_folder() -> None:
    try:
        os.stat(os.getcwd())
    except OSError:
        raise InputError("the working directory is no more: it was deleted or moved, or may not be read; change to "
                         "another (cd)") from None


def _ending(error: BaseException) -> tuple[int, str]:
    """The exit status and the last words for an error; one that is a fault of ours is raised again."""
    match error:
        case InputError():
            return 2, str(error)
        case process.Signalled():
            return 128 + error.signum, str(error)
        case KeyboardInterrupt():  # not in the main thread, where signals are heard otherwise
            return 130, "interrupted"
        case MemoryError():
            return 1, f"out of memory {error}; what was checkpointed is kept"
        case OSError():  # a disk or folder that failed where nobody expected it to
            return 1, (f"{error.filename or 'input or output'}: {error.strerror or error}; what was checkpointed is "
                       "kept")
        case Diverged():
            return 1, (f"training diverged: {error}; the last checkpoint is kept. Try a smaller training.lr or "
                       "network.slope_cap, or a larger network.v_th")
    raise error
