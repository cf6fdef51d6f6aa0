"""Where kernels and products are started: on the default stream, but for what is recorded as a graph, see graphs.py."""

from contextlib import contextmanager


class Started:
    """The stream of the driver, and a list of all that was given to what is started on it, while that is recorded."""

    stream, held = 0, None


NOW = Started()


@contextmanager
def recording(stream):
    """Start everything on a stream while the block runs; gives a list that keeps what it works on."""
    NOW.stream, NOW.held = stream, []
    try:
        yield NOW.held
    finally:
        NOW.stream, NOW.held = 0, None
