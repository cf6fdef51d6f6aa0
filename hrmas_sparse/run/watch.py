"""Watching the file that a run's events are mapped from."""

import os
import weakref

from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError


class Watch:
    """Sees that a mapped spike cache stays what it was: deleted it may be, for we hold it open, changed it may not."""

    def __init__(self, data):
        self._path = data.path
        with files.opened(data.path) as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._before = self._state()
        self._maps = data.train, data.test
        self.check()

    def _state(self):
        found = os.fstat(self._descriptor)
        return found.st_size, found.st_mtime_ns

    def check(self):
        """Raise InputError if the file was changed in place."""
        if self._state() != self._before:
            raise InputError(f"{self._path}: the spike cache was changed during the run; nothing was learnt from that. "
                             "Delete it and give the same command again: it is rebuilt and the run goes on")
