"""A process that ends with the one that started it, whatever happened to that one."""

import os
import signal
import threading


def end_with_stdin():
    """Ask this process to stop (SIGTERM) once its standard input ends: its parent closed it, or is no more.

    The operating system closes a pipe when the process at its other end is killed, so this needs no word from it.
    """
    def watch():
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end with stdin").start()
