"""Passes as CUDA graphs: all that a pass starts is started by one call of the driver.

A pass of a kind runs as it is ``PLAIN`` times. The next time it is recorded besides, with parameters, input and labels
in arrays of its own, and what the graph gives is compared with what the pass gave, bit for bit. From then on the
parameters and the batch are copied there, the graph is started, and results are copied from it. Whatever was started
while a graph was recorded had its arrays kept, so their memory is nobody else's as long as there is the graph.

For passes of dense input through layers that spike, one chunk each, with a loss of ours, and no plasticity: all they
start is kernels of this backend and products. Where anything goes wrong with a graph, there are none from then on.
"""

import sys
import weakref
from contextlib import contextmanager

from hrmas_sparse.data.events import joined
from hrmas_sparse.engine.backends.base import is_dense
from hrmas_sparse.engine.backends.cuda import chunks, compiled, copies, losses, products, started
from hrmas_sparse.engine.backends.cuda.arrays import memory_info, to_host, write, xp

PLAIN = 2     # passes of a kind before it is recorded: kernels are compiled, and patterns of links known, by then
KEPT = 6      # graphs at most, those used last: a search has two at a time
SHARE = 1/16  # of the free memory that what a graph keeps may take; where it needs more, launching costs little beside


class Driver:
    """Records what is started, and starts it again: by the driver."""

    def __init__(self):
        from cuda.bindings import driver
        self._driver = driver
        self._stream = self._done(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))

    @staticmethod
    def _done(answer):
        error, *given = answer
        if error:
            raise RuntimeError(f"the driver: {error!r}")
        return given[0] if given else None

    @contextmanager
    def recorded(self):
        """Record what is started while the block runs; gives a list.

        Afterwards that has a function that starts it all again, and what has to be kept for it.
        """
        driver, made, stream = self._driver, [], int(self._stream)
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED    # memory may be asked for meanwhile
        self._done(driver.cuStreamBeginCapture(self._stream, mode))
        try:
            products.direct().on(stream)
            with started.recording(stream) as held:
                yield made
        finally:    # the stream is of use again, whatever has happened
            answer = driver.cuStreamEndCapture(self._stream)
            products.direct().on(0)
        graph = self._done(answer)
        executable = self._done(driver.cuGraphInstantiate(graph, 0))
        self._done(driver.cuGraphDestroy(graph))

        def start():
            self._done(driver.cuGraphLaunch(executable, 0))
        weakref.finalize(start, driver.cuGraphExecDestroy, executable).atexit = False
        made += start, held


class _Graph:
    """A recorded pass of some networks."""

    def __init__(self, recorder, backend, function, requests):
        self._fixed = [request._replace(parameters=request.parameters.map(xp.empty_like)) for request in requests]
        self._given = [array for request in self._fixed for array in _arrays(request.parameters)]
        chunk, = backend.chunks([request.batch for request in requests], requests[0].stack.dtype)
        self._chunk = chunk._replace(labels=xp.array(chunk.labels))     # of its own, whatever it came from
        with backend.prepared(self._chunk), recorder.recorded() as made:
            self._results = function(self._fixed)
        self._start, self._held = made
        self._made = [array for result in self._results for array in _of_result(result)]

    def __call__(self, requests):
        """The results of a pass, in arrays of their own."""
        copies.copy_all([array for request in requests for array in _arrays(request.parameters)], self._given)
        batch = joined([request.batch for request in requests])
        values = self._chunk.spikes.values
        chunks.pack(batch, 0, len(batch), values.dtype, 0, len(requests), values)
        write(self._chunk.labels, batch.labels)
        self._start()
        made = [xp.empty(array.shape, array.dtype) for array in self._made]
        copies.copy_all(self._made, made)
        rest = iter(made)
        return [result._replace(numbers=next(rest), gradients=result.gradients and result.gradients.map(
            lambda _: next(rest))) for result in self._results]


def _arrays(parameters):
    return [array for layer in parameters.layers for array in layer.values()]


def _of_result(result):
    """The arrays of a result, in the order in which :class:`_Graph` gives them back."""
    return [result.numbers, *(_arrays(result.gradients) if result.gradients else ())]


class Graphs:
    """The graphs of a backend."""

    def __init__(self, backend, recorder=Driver):
        self._backend, self._recorder, self._seen = backend, recorder, {}
        self.problem = "" if products.direct() and compiled.as_known() else "cuBLAS or kernels cannot be recorded"

    def run(self, function, requests):
        """Return function(requests), the results of passes, from a graph where there is one."""
        key = None if self.problem else self._key(function, requests)
        if key is None:
            return function(requests)
        passes, graph, _ = self._seen.pop(key, (0, None, None))
        if graph is not None:
            results = graph(requests)
        else:
            results = function(requests)
            if passes == PLAIN and self._backend.needed() < SHARE * memory_info()[0]:
                graph = self._recorded(function, requests, results)
        self._seen[key] = passes + 1, graph, [request.stack for request in requests]   # keeps the ids alive
        while len(self._seen) > (0 if self.problem else KEPT):
            self._seen.pop(next(iter(self._seen)))
        return results

    def _key(self, function, requests):
        """What passes have in common that one graph is good for; None where there can be none."""
        stack, _, batch, options = requests[0]
        if (options.record or options.intrinsic or options.plasticity is not None or stack.smooth
                or stack.layers[-1].windows or losses.known(stack.loss) is None
                or not is_dense(batch, self._backend.dense) or len(requests) > self._backend.networks(len(batch))
                or len(batch) > self._backend.chunk):
            return None
        return (function, options, len(batch), batch.steps, batch.channels, *(
            (id(request.stack), *(array.shape for array in _arrays(request.parameters))) for request in requests))

    def _recorded(self, function, requests, results):
        """The graph of passes, if it gives the results that they gave."""
        try:
            if isinstance(self._recorder, type):
                self._recorder = self._recorder()
            graph = _Graph(self._recorder, self._backend, function, requests)
            for one, other in zip(graph(requests), results):
                for a, b in zip(_of_result(one), _of_result(other), strict=True):
                    if to_host(a).tobytes() != to_host(b).tobytes():
                        raise RuntimeError("it gives other numbers")
            return graph
        except Exception as error:   # whatever it is, passes go on without
            self.problem = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"no CUDA graphs in this process: {self.problem}", file=sys.stderr, flush=True)
            return None
