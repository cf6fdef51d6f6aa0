"""The program ``hrmas``: parser.py has its options, commands.py and data.py what its commands do.

User mistakes are one line and exit status 2.
"""

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
            status = command(options)
            if sys.stdout is not None:
                sys.stdout.flush()  # what cannot be written is said here
            return status
    except InputError as error:
        status, message = 2, str(error)
    except process.Signalled as stop:
        status, message = 128 + stop.signum, str(stop)
    except KeyboardInterrupt:  # not in the main thread, where signals are heard otherwise
        status, message = 130, "interrupted"
    except MemoryError as error:
        status, message = 1, f"out of memory {error}; what was checkpointed is kept"
    except OSError as error:  # a disk or folder that failed where nobody expected it to
        status, message = 1, (f"{error.filename or 'input or output'}: {error.strerror or error}; what was "
                              "checkpointed is kept")
    except Diverged as error:
        status, message = 1, (f"training diverged: {error}; the last checkpoint is kept. Try a smaller training.lr or "
                              "network.slope_cap, or a larger network.v_th")
    print(f"hrmas: {environment.printable(message)}", file=sys.stderr)
    return status
