"""Watching the file that a run's events are mapped from."""

import os
import weakref

from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError


class Watch:
    """Sees that a mapped spike cache is not changed. It may be deleted: it is held open."""

    def __init__(self, data):
        self._path = data.path
        with files.opened(data.path) as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._before = self._state()
        self._maps = data.train, data.test
        self.check()

    def _state(self):
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns

    def check(self):
        """Raise InputError if the file was changed in place."""
        if self._state() != self._before:
            raise InputError(f"{self._path}: the spike cache was changed during the run; nothing was learnt from that. "
                             "Give the same command again: a cache of recordings is rebuilt and the run goes on; a "
                             "file of your own must be put back first")
