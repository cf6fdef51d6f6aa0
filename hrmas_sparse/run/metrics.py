"""The numbers of an epoch: added up batch by batch, kept in checkpoints, averaged for a line of metrics."""

from dataclasses import dataclass, field, fields

_PER_LAYER = ("rate{}", "gradient_norm{}", "gradient_norm{}_max")


@dataclass
class Totals:
    """Sums over samples, of one batch or of an epoch so far.

    Attributes
    ----------
    samples : int
    loss : float
    correct : int
    norm : float, gradient norm of the weights
    rates : list, spikes per neuron and step of each layer, output last
    norms : list, gradient norm of each layer
    largest_norms : list, the largest of a batch so far: no sum
    valid_loss, valid_correct : float, of the batches that judge alpha; None outside a search
    """

    samples: int = 0
    loss: float = 0
    correct: float = 0
    norm: float | None = None
    rates: list = field(default_factory=list)
    norms: list = field(default_factory=list)
    largest_norms: list = field(default_factory=list)
    valid_loss: float | None = None
    valid_correct: float | None = None

    def add(self, batch):
        """Add the totals of a batch."""
        if not self.samples:
            vars(self).update(vars(batch))
            return
        self.largest_norms = [max(a, b) for a, b in zip(self.largest_norms, batch.largest_norms)]
        for each in fields(self):
            a, b = getattr(self, each.name), getattr(batch, each.name)
            if each.name == "largest_norms" or a is None:
                continue
            setattr(self, each.name, [x + y for x, y in zip(a, b)] if isinstance(a, list) else a + b)

    def means(self):
        """Return the means over samples as a dict for a line of metrics."""
        def mean(value):
            return value / self.samples

        line = {"loss": mean(self.loss), "accuracy": mean(self.correct)}
        if self.norm is not None:
            line["gradient_norm"] = mean(self.norm)
        for n, (rate, norm, largest) in enumerate(zip(self.rates, self.norms, self.largest_norms), start=1):
            line |= {f"rate{n}": mean(rate), f"gradient_norm{n}": mean(norm), f"gradient_norm{n}_max": largest}
        if self.valid_loss is not None:
            line |= {"valid_loss": mean(self.valid_loss), "valid_accuracy": mean(self.valid_correct)}
        return line

    def flat(self):
        """Return the totals as checkpoints keep them: {name: number}, empty before the first batch."""
        if not self.samples:
            return {}
        line = {"samples": self.samples, "loss": self.loss, "correct": self.correct}
        if self.norm is not None:
            line["gradient_norm"] = self.norm
        for n, (rate, norm, largest) in enumerate(zip(self.rates, self.norms, self.largest_norms), start=1):
            line |= {f"rate{n}": rate, f"gradient_norm{n}": norm, f"gradient_norm{n}_max": largest}
        if self.valid_loss is not None:
            line |= {"valid_loss": self.valid_loss, "valid_correct": self.valid_correct}
        return line

    @classmethod
    def of_flat(cls, flat):
        """The totals that :meth:`flat` gave.

        Raises
        ------
        ValueError
            Keys are missing or unknown.
        """
        layers = range(1, 1 + sum(key.startswith("rate") for key in flat))
        lists = ([flat.get(name.format(n)) for n in layers] for name in _PER_LAYER)
        totals = cls(flat.get("samples", 0), flat.get("loss", 0), flat.get("correct", 0), flat.get("gradient_norm"),
                    *lists, flat.get("valid_loss"), flat.get("valid_correct"))
        if totals.flat() != flat:
            raise ValueError("not the totals of an epoch")
        return totals
