"""Random architectures at equal time: as many candidates as fit into the measured processor time of a search.

A row of an experiment with ``candidates_like = "hrmas"`` waits for that row's run of the same size, partition and seed.
How many candidates it has follows from what that run measured, and then stands in its settings: such a run can be
repeated to the bit by its own command, like any other.
"""

from typing import NamedTuple

from hrmas_sparse.environment import option
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.settings.schema import ITERATION, Config
from hrmas_sparse.storage.errors import InputError

SHORT = 4               # a candidate is trained for one part in so many of the epochs of retraining
MOST = 10_000           # candidates; what the settings take
CHOOSING = ("search-1", "search-2", "candidates")     # phases in which an architecture is chosen


class Fitting(NamedTuple):
    """What a row's settings become, and the run whose measured search has to be there before that is known, or None."""

    candidates: int
    epochs: int
    waits: RunDir | None

    @property
    def words(self) -> str:
        """As for ``--set``."""
        return f"search.candidates={self.candidates} search.candidate_epochs={self.epochs}"


def choosing_seconds(result: dict) -> float | None:
    """Return the processor time in which a finished run chose its architecture; None if that was not recorded."""
    measured = result.get("processor_seconds")
    return None if measured is None else sum(measured.get(phase, 0.0) for phase in CHOOSING)


def fitting(settings: Config, run: RunDir, reference: RunDir) -> Fitting:
    """Return how many candidates a run has.

    Parameters
    ----------
    settings : of the run, but for the candidates
    run : once it has begun the number stays as it is
    reference : the run whose search is measured; while it has not ended, or if it measured none, the number is a rough
        one, and ``waits`` names it

    Raises
    ------
    Damaged
        The reference's result is damaged.
    """
    if run.manifest_path.exists():
        begun = run.config()
        return Fitting(begun.search.candidates, begun.candidate_epochs, None)
    training = settings.training
    epochs = settings.search.candidate_epochs or max(1, training.retrain_epochs // SHORT)
    measured = _measured(reference)
    if measured is None:                # so far, roughly; in steps of training
        return Fitting(_between(ITERATION * training.search_epochs / epochs), epochs, reference)
    search, retrain = measured
    # A candidate's epoch goes through one half of the training part.
    return Fitting(_between(search * 2 * reference.config().training.retrain_epochs / (epochs * retrain)), epochs, None)


def check(reference: RunDir) -> None:
    """Raise InputError if a run that has ended measured no search and retraining for others to take as long as."""
    if _measured(reference) is None:
        raise InputError(f"{reference.path}: expected the processor time of a search and of retraining, found none: an "
                         f"earlier version began it; give another {option('name')}, or {option('rows')} without the "
                         "rows that are to take as long")


def _measured(reference: RunDir) -> tuple[float, float] | None:
    """Processor time of a run's search and of its retraining; None if it has not ended or did not measure both."""
    result = reference.result() if reference.finished else {}
    search, retrain = choosing_seconds(result), (result.get("processor_seconds") or {}).get("retrain")
    return (search, retrain) if search and retrain else None


def _between(count: float) -> int:
    return int(min(MOST, max(1, count)))
