"""Batches of a training set on the device: of one that lies there as a whole, or of one too large for that.

Of the latter the batches are carried there, the next one while this one is computed with. A batch is gathered in
pinned memory, which the device copies from by itself, on a stream of its own. Each batch has a slot, memory here and
there. The slot that was asked for longest ago is used anew: two are for the batches of a step of the search, two for
the next's.
"""

import numpy as np

from hrmas_sparse.data.events import EVENT_ARRAYS, Events
from hrmas_sparse.engine.backends.base import Loader
from hrmas_sparse.engine.backends.cuda import batches, launch
from hrmas_sparse.engine.backends.cuda.arrays import carry, computing, copying, pinned, to_device, xp

SLOTS = 4


class DeviceEvents(Events):
    """Events whose arrays of events lie on the device; indptr and label stay with NumPy."""

    @classmethod
    def of(cls, events):
        """Events, carried to the device."""
        return cls._of(**vars(events) | {name: to_device(getattr(events, name)) for name in EVENT_ARRAYS})

    def __getitem__(self, index):
        start = self.indptr[index]
        length = self.indptr[np.asarray(index) + 1] - start
        indptr = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        # As of Events; only the samples' starts travel.
        given = tuple(getattr(self, name) for name in EVENT_ARRAYS)
        taken = tuple(xp.empty(int(indptr[-1]), array.dtype) for array in given)
        if indptr[-1]:
            batches.take[len(length), launch.TILE](*map(to_device, (start, indptr)), given, taken)
        return self._with(indptr=indptr, labels=self.labels[index], **dict(zip(EVENT_ARRAYS, taken)))


class _Slot:
    """Room for one batch."""

    def __init__(self):
        self.index, self.batch, self.arrived = None, None, None
        self._here, self._there = {}, {}

    def fill(self, events, index, stream):
        """Gather a batch and have it copied; what it held before must have been asked for by all who need it."""
        batch = events[index]
        if self.arrived is not None:
            self.arrived.synchronize()             # the device has read what lies in the pinned memory
        arrays = {name: self._room(name, getattr(batch, name)) for name in EVENT_ARRAYS}
        stream.wait_event(computing().record())    # what was launched with the batch before comes first
        for name, (here, there) in arrays.items():
            here[:] = getattr(batch, name)
            carry(here, there, stream)
        self.index, self.arrived = np.array(index), stream.record()
        self.batch = DeviceEvents._of(**vars(batch) | {name: there for name, (_, there) in arrays.items()})

    def _room(self, name, values):
        """Arrays of the length of some values, pinned and on the device."""
        if name not in self._here or len(self._here[name]) < len(values):
            room = len(values) * 5 // 4
            self._here[name], self._there[name] = pinned(room, values.dtype), xp.empty(room, values.dtype)
        return self._here[name][:len(values)], self._there[name][:len(values)]


class CarryingLoader(Loader):
    """Events on the host whose batches come to the device; a batch is good until four others have been asked for."""

    def __init__(self, events):
        super().__init__(events)
        self._slots, self._stream = [_Slot() for _ in range(SLOTS)], copying()

    def __getitem__(self, index):
        slot = self._slot_of(index)
        computing().wait_event(slot.arrived)
        return slot.batch

    def prefetch(self, index):
        """Start to carry a batch that will be taken soon, unless it is on its way."""
        self._slot_of(index)

    def _slot_of(self, index):
        """The slot of a batch, from now on the last to be used anew."""
        same = (slot for slot in self._slots if slot.index is not None and np.array_equal(slot.index, index))
        held = next(same, None)
        slot = held or self._slots[0]
        self._slots.remove(slot)
        self._slots.append(slot)
        if held is None:
            slot.fill(self._events, index, self._stream)
        return slot
