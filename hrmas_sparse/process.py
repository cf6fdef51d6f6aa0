"""The first and the last moments of a program of ours: what holds before anything large is imported.

A program is started by people, shells, batch systems and notebooks. Whatever they leave us (streams that are closed,
an encoding without our letters, warnings as errors) must not show as a traceback; and a signal ends the program with
the documented status from its first moment on.
"""

import atexit
import contextlib
import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal was closed"}
SIGNALS = {getattr(signal, name): word for name, word in WORDS.items() if hasattr(signal, name)}
# Files of code that loses an exception, or takes it for one of its own: imports, callbacks of LLVM, destructors.
DEAF = ("<frozen importlib", f"{os.sep}numba{os.sep}", f"{os.sep}llvmlite{os.sep}",
        f"{os.sep}weakref.py")
READER_GONE = (errno.EPIPE, errno.EIO)  # the other end of a pipe was closed; the terminal was
unfinished: set[str] = set()            # files that this process is writing; its number stands in their names


class Signalled(BaseException):
    """A signal asked the program to end; as KeyboardInterrupt, so that what is half-written is cleaned away."""

    def __init__(self, signum: int):
        super().__init__(SIGNALS[signum])
        self.signum = signum


def begin(name: str) -> None:
    """Prepare this process for a program of ours; the first thing its entry calls.

    Parameters
    ----------
    name : of the program, for its last words
    """
    _open_what_is_closed()
    for signum in _heard():
        signal.signal(signum, _leaving(name))
    atexit.register(_deaf)  # the first that is registered is the last that is called
    sys.stdout, sys.stderr = _stream(sys.stdout, 1), _stream(sys.stderr, 2)
    if any(action == "error" for action, *_ in warnings.filters):
        warnings.simplefilter("default")  # a warning of NumPy's is no reason to end
    from hrmas_sparse import environment  # now that a signal may come
    notice = environment.mend_numba()
    if notice:
        print(f"warning: {notice}", file=sys.stderr)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into :class:`Signalled` while the block runs.

    Where an exception would be lost, within an import or while an object is destroyed, the process ends at once: as
    after a kill, nothing that is whole is lost. A signal that is ignored (nohup) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(signum: int, frame: FrameType | None) -> None:
        if _would_be_lost(frame):
            _leaving("hrmas")(signum, frame)
        raise Signalled(signum)

    before = {signum: signal.signal(signum, handler) for signum in _heard()}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


def stop_behind(error: BaseException) -> Signalled | None:
    """Return the signal in whose wake an error came, if there was one.

    Code that is interrupted anywhere may fail again while it cleans up (argparse does), and that failure takes the
    place of the signal, which then only stands in the chain behind it.
    """
    link: BaseException | None = error
    while link is not None and not isinstance(link, Signalled):
        link = link.__context__
    return link


def _heard() -> list[int]:
    return [signum for signum in SIGNALS if signal.getsignal(signum) not in (signal.SIG_IGN, None)]


def end_with_stdin() -> None:
    """Ask this process to stop (SIGTERM) once its standard input ends: its parent closed it, or is no more.

    The operating system closes a pipe when the process at its other end is killed, so this needs no word from it.
    """
    def watch() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end with stdin").start()


def _leaving(name: str) -> Callable[[int, FrameType | None], NoReturn]:
    """A handler that ends the process with the documented status, whatever it is in."""
    def leave(signum: int, frame: FrameType | None) -> NoReturn:
        with contextlib.suppress(OSError):
            os.write(2, f"{name}: {SIGNALS[signum]}\n".encode())
        _tidy()
        os._exit(128 + signum)
    return leave


@atexit.register            # before begin() is called, so it is the last of all
def _tidy() -> None:
    """Remove what is half-written: a signal may end us at once, or between any two lines of what would remove it."""
    for path in list(unfinished):
        if f".{os.getpid()}-" in path:      # a forked process knows its parent's files, too
            with contextlib.suppress(OSError):
                os.unlink(path)


def _deaf() -> None:
    """Ignore signals from here on: all is done, and Python, which takes itself apart, has no handlers any more."""
    for signum in _heard():
        signal.signal(signum, signal.SIG_IGN)


def _would_be_lost(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or any(part in code.co_filename for part in DEAF):
            return True
        frame = frame.f_back
    return False


def _open_what_is_closed() -> None:
    """Give the null device to descriptors 0 to 2 that are closed: a file would get the number, and our messages."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)


class _Lasting(io.FileIO):
    """A descriptor to write to that goes nowhere once writing failed: a run goes on without its output.

    That a reader went away is no fault; another one, a full disk, is raised, but only once.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno not in READER_GONE:
                raise
        return len(data)


def _stream(stream: Any, descriptor: int) -> Any:
    """A standard stream in which every text can be written, readers or not; others than standard stay as they are."""
    if stream is None:
        return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    try:
        if stream.fileno() != descriptor:
            return stream
        stream.flush()
    except (AttributeError, OSError, ValueError):
        return stream
    raw = _Lasting(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding, errors="backslashreplace",
                            line_buffering=stream.line_buffering or stream.write_through)
