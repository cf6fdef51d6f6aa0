"""The program ``hrmas``: parser.py has its options, commands.py and data.py what its commands do.

User mistakes are one line and exit status 2.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from hrmas_sparse.storage.errors import Diverged, InputError


class _Terminated(BaseException):
    """SIGTERM, outside training; as KeyboardInterrupt, so that what is half-written is cleaned away."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(signum, frame):
        raise _Terminated

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Returns
    -------
    int, the exit status: 0 done, 1 a check failed or training diverged, 2 bad input, 128 + n stopped by signal n
    """
    from hrmas_sparse.cli.parser import parse
    try:
        with _terminable():
            command, options = parse(argv)
            return command(options)
    except InputError as error:
        print(f"hrmas: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("hrmas: interrupted", file=sys.stderr)
        return 130
    except _Terminated:
        print("hrmas: terminated", file=sys.stderr)
        return 143
    except MemoryError as error:
        print(f"hrmas: out of memory {error}; what was checkpointed is kept", file=sys.stderr)
        return 1
    except OSError as error:  # a disk or folder that failed where nobody expected it to
        print(f"hrmas: {error.filename or 'input or output'}: {error.strerror or error}; what was checkpointed is kept",
              file=sys.stderr)
        return 1
    except Diverged as error:
        print(f"hrmas: training diverged: {error}; the last checkpoint is kept. Try a smaller training.lr or "
              "network.slope_cap, or a larger network.v_th", file=sys.stderr)
        return 1
