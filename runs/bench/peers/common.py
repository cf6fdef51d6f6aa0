"""What the peers share, and what the libraries do: data, weights, loss.

The libraries train with their own neurons and surrogate gradients.
"""

import torch

from runs.bench import workloads as w


def on(device, array):
    """An array as a tensor on a device."""
    return torch.from_numpy(array).to(device)


class Peer:
    """A recurrent network of a library: sizes, weights and constants of the problem, its own learning rule.

    Subclasses build in ``build()`` and return hidden and output spikes, (T, B, N) and (T, B, O), from ``run()``.
    """

    def __init__(self, problem, threads, dtype="float32", compiled=False):
        torch.set_num_threads(threads)
        self.meta = problem["meta"]
        self.x = torch.from_numpy(w.dense_input(problem, "float32"))
        self.target = torch.zeros(self.meta["steps"], self.meta["samples"], self.meta["outputs"])
        self.target[:, torch.arange(self.meta["samples"]), torch.from_numpy(problem["label"])] = 1
        self.rates = None
        self.build(torch.from_numpy(problem["p.w1"].T.copy()), self._recurrent(problem),
                   torch.from_numpy(problem["p.w_out"].T.copy()))

    def _recurrent(self, problem):
        """The motif's weights as a dense matrix, row = receiver."""
        dense = torch.zeros(self.meta["hidden"], self.meta["hidden"])
        links = torch.full((len(problem["source"]),), -2.0)
        links[torch.from_numpy(problem["excitatory"])] = torch.from_numpy(problem["p.rec1.w_exc"])
        dense[torch.from_numpy(problem["target"]), torch.from_numpy(problem["source"])] = links
        return dense

    def linear(self, weights):
        """A layer without bias that starts at the given weights."""
        layer = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
        layer.weight.data = weights
        return layer

    def step(self):
        """Forward, loss, all gradients."""
        for parameter in self.parameters:
            parameter.grad = None
        hidden, out = self.run()
        loss = 0.5 * (self.target - out).square().sum() / self.meta["samples"]
        loss.backward()
        if self.rates is None:
            self.rates = [round(float(spikes.detach().mean()), 5) for spikes in (hidden, out)]
