"""Signals that ask a run to stop. Installed by programs only, never by a function that others may call."""

import contextlib
import os
import signal
import threading

from hrmas_sparse.run.stop import StopRequest

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def stop_on_signals():
    """Turn the first SIGINT, SIGTERM or SIGHUP into a :class:`StopRequest`, which is yielded; the next one kills.

    A signal that is ignored (nohup) stays ignored. On another thread than the main one no signal is heard.
    """
    stop = StopRequest()

    def note(signum, frame):
        stop.request(signum)
        for s in before:
            signal.signal(s, signal.SIG_DFL)
        with contextlib.suppress(OSError):  # not print: it must not interrupt itself
            os.write(2, b"\nstopping after this batch; once more to stop at once\n")

    heard = SIGNALS if threading.current_thread() is threading.main_thread() else []
    before = {s: signal.getsignal(s) for s in heard if signal.getsignal(s) is not signal.SIG_IGN}
    try:
        for s in before:
            signal.signal(s, note)
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
