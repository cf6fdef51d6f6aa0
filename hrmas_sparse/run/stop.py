"""How a run is asked to end early, and what it raises once it has."""


class Stopped(Exception):
    """A stop was wanted; a run that has a folder has been checkpointed."""


class StopRequest:
    """A wish that a run ends after its batch.

    A run asks by calling it; any function () -> bool can stand in its place, such as ``threading.Event().is_set``.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._wanted = False

    def request(self, signum: int | None = None) -> None:
        """Ask for the stop, from any thread; ``signum`` is the signal that asked, if one did."""
        self.signum, self._wanted = signum, True

    def __call__(self) -> bool:
        return self._wanted


def never() -> bool:
    """A stop that nobody wants."""
    return False
