"""The early end of a stage of the search: once alpha has decided, and keeps to it.

A stage ends when, for ``search.patience`` epochs in a row, what would be kept was the same at the end of each as at the
end of the one before, and alpha is at least ``search.decided`` sure of it. What decides that is in the checkpoint, so a
run that goes on ends its stages where a straight one does.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple


class Patience(NamedTuple):
    """When a stage is over.

    epochs : in a row without a change; at least 1
    decided : least certainty, 0 to 1
    decision : function () -> (bytes, certainty), what would be kept now and how sure alpha is of it; see
        :func:`hrmas_sparse.search.hrmas.decision`
    """

    epochs: int
    decided: float
    decision: Callable[[], tuple[bytes, float]]

    def look(self, position: Any) -> dict[str, Any]:
        """Look at the decision at the end of an epoch; what the epoch's line of metrics says of it."""
        choice, certainty = self.decision()
        digest, before = hashlib.sha256(choice).hexdigest()[:16], position.settled
        same = before is not None and before["choice"] == digest
        position.settled = {"choice": digest, "epochs": before["epochs"] + 1 if same else 0, "certainty": certainty}
        return {"unchanged": position.settled["epochs"], "certainty": certainty}

    def over(self, position: Any) -> bool:
        """Whether the stage has ended."""
        settled = position.settled
        return settled is not None and settled["epochs"] >= self.epochs and settled["certainty"] >= self.decided
