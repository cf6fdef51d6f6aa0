"""The engine itself, as the bench runs it."""

from types import SimpleNamespace

import numpy as np

from runs.bench import workloads as w


def network(problem, threads, dtype="float32", device="cpu", backend=None):
    """Network, parameters and events of a problem."""
    from hrmas_sparse.engine.architecture import Architecture
    from hrmas_sparse.engine.backends import get_backend
    from hrmas_sparse.engine.layers import LIF, Feedforward, Motifs, Supernet
    from hrmas_sparse.engine.network import Network
    from hrmas_sparse.engine.parameters import Parameters
    from hrmas_sparse.data.events import Events

    meta = problem["meta"]
    layer = Feedforward(meta["hidden"])
    if meta["kind"] == "supernet":
        layer = Supernet(meta["hidden"], tuple(meta["sizes"]))
    elif meta["kind"] != "feedforward":
        layer = Motifs(meta["hidden"], architecture=Architecture(meta["hidden"], meta["motif"],
                                                                 meta["kind"] == "motif", problem["types"]))
    neuron = LIF(w.TAU_M, w.TAU_S, w.V_TH / w.TAU_S, w.V_TH_OUT / w.TAU_S, w.CAP, w.WIDTH)
    net = Network(meta["inputs"], meta["outputs"], [layer], neuron, backend=backend or get_backend(device, threads),
                  dtype=dtype)
    parameters = Parameters.unflatten({key[2:]: value.astype(dtype) for key, value in problem.items()
                                       if key.startswith("p.")})
    events = Events(problem["indptr"], problem["step"], problem["channel"], np.ones(len(problem["step"]), np.uint8),
                    problem["label"], meta["steps"], meta["inputs"])
    return net, parameters.replaced(net.initial_intrinsic()), events


class Step:
    """One training step: forward, loss, all gradients; as the training loop takes it, of data that is checked."""

    def __init__(self, problem, threads, dtype="float32", device="cpu"):
        self.net, *self.state = network(problem, threads, dtype, device)
        self.rates = None

    def step(self):
        parameters, events = self.state
        (outcome,), _ = self.net.outcomes(self.net.passes([parameters], events, backward=True), events)
        self.rates = [round(rate, 5) for rate in outcome.rates]
        return outcome.gradients.flatten()

    gradients = step


class Seeds:
    """As :class:`Step`, one step of each of several networks together, as ``--seeds`` trains them.

    The first is the problem's; the others have the same weights, types of links inside motifs and samples, shuffled.
    What is left out is the change from one seed's thread to the next's, a few for each step.
    """

    def __init__(self, problem, threads, dtype, device, count):
        self.given = [network(problem, threads, dtype, device)]
        for seed in range(1, count):
            net, parameters, events = network(_shuffled(problem, seed), threads, dtype,
                                                         backend=self.given[0][0].backend)
            order = np.random.default_rng(seed).permutation(len(events))
            self.given.append((net, parameters, events[order]))
        self.rates = None

    def step(self):
        from hrmas_sparse.engine.passes import PassOptions, Request, run

        backend = self.given[0][0].backend
        requests = [Request(net.stack, parameters.map(backend.to_device), events, PassOptions(backward=True))
                    for net, parameters, events in self.given]
        results = run(requests)
        numbers = backend.fetch([result.numbers for result in results])
        gradients = [result.gradients.map(backend.to_host) for result in results]
        net, _, events = self.given[0]
        self.rates = [round(count / (len(events) * events.steps * layer.size), 5)
                      for count, layer in zip(numbers[0][:, -len(net.layers):].sum(axis=0).tolist(), net.layers)]
        return gradients[0].flatten()

    gradients = step


def _shuffled(problem, seed):
    """The problem with its types and weights in another order; as many excitatory links as before."""
    rng, types, inside = np.random.default_rng(seed), problem["types"].copy(), problem["meta"]["motif"] ** 2
    types[:inside] = rng.permutation(types[:inside])
    weights = {name: rng.permutation(problem[name], axis=1) for name in ("p.w1", "p.w_out")}
    return problem | {"types": types} | weights


class Learning(Step):
    """As :class:`Step`, but a step that learns: ``w``, the w step; ``iteration``, a whole HRMAS iteration.

    An iteration is the second-order alpha step, the w step and the plasticity window.
    """

    def __init__(self, problem, threads, whole, device="cpu"):
        from hrmas_sparse.settings.load import load
        from hrmas_sparse.engine.network import Plasticity
        from hrmas_sparse.search.optim import Adam
        from hrmas_sparse.search.hrmas import Learner

        super().__init__(problem, threads, device=device)
        parameters, events = self.state
        backend = self.net.backend
        self.data, self.order = backend.loader(events), np.arange(len(events))
        self.learner = Learner(parameters, Adam(), Adam((0.5, 0.999))).to(backend.to_device)
        parameters = self.learner.parameters
        self.plasticity = Plasticity(16.0, 0.02, 0.1)
        self.start, self.whole = parameters.intrinsic(), whole
        # Rates of 0 keep the network, and so its spike rate, what it is; the work is the same.
        self.settings = SimpleNamespace(**vars(load("ti46").search) | {"eta": 2e-3, "alpha_lr": 0.0})

    def step(self):
        from hrmas_sparse.search.hrmas import StepSettings, search_step, weight_step

        self.learner.parameters = self.learner.parameters.replaced(self.start)
        events = self.data[self.order]
        if not self.whole:
            result = weight_step(self.net, self.learner, events, StepSettings(0.0, 1.0))
        else:
            result = search_step(self.net, self.learner, events, self.data[self.order], self.settings,
                                 StepSettings(0.0, 1.0, self.plasticity, "window"))
        self.rates = [round(rate, 5) for rate in result.outcome.rates]


def make(problem, threads, dtype="float32", compiled=False, device="cpu"):
    """See :mod:`runs.bench.peers`."""
    return Step(problem, threads, dtype, device)


def make_seeds(problem, threads, dtype="float32", compiled=False, device="cpu", count=5):
    """Five seeds together."""
    return Seeds(problem, threads, dtype, device, count)


def make_w_step(problem, threads, dtype="float32", compiled=False):
    """The w step of a search."""
    return Learning(problem, threads, whole=False)


def make_iteration(problem, threads, dtype="float32", compiled=False):
    """A whole HRMAS iteration."""
    return Learning(problem, threads, whole=True)
