"""GRU, LSTM and recurrent spiking layers of snnTorch and norse, trained alike: AdamW, cosine schedule, cross entropy.

The only module here that imports PyTorch. The network after the last epoch is the one that is scored: nothing is
chosen by what it is scored on.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from hrmas_sparse.data.augmentation import augmented
from hrmas_sparse.data.events import epoch_order
from runs.comparison.inputs import binned, root_mean_square

AUGMENTATION = 1  # stream of random numbers of its own
SCORED_AT_ONCE = 250
CLIP = 1.0  # norm of a gradient


class Gated(nn.Module):
    """GRU or LSTM over the bins, its outputs' mean over time read out."""

    def __init__(self, layer, channels, classes, s):
        super().__init__()
        self.layer = layer(channels, s["hidden"], s["layers"], batch_first=True, bidirectional=s["bidirectional"])
        self.dropout_in, self.dropout = nn.Dropout(s["dropout_in"]), nn.Dropout(s["dropout"])
        self.out = nn.Linear(s["hidden"] * (1 + s["bidirectional"]), classes)

    def forward(self, x):
        """(S, bins, channels) -> (S, classes)"""
        return self.out(self.dropout(self.layer(self.dropout_in(x))[0].mean(1)))


class Spiking(nn.Module):
    """One layer of snnTorch's RLeaky or, with a synapse, RSynaptic, all to all; output neurons sum and never spike.

    `alpha` 0 is RLeaky. Where `learn` is true every neuron learns decays of its own.
    """

    def __init__(self, channels, classes, s):
        import snntorch
        from snntorch import surrogate
        super().__init__()
        snntorch.SpikingNeuron.init()  # else it would keep every network ever made
        self.first, self.out = nn.Linear(channels, s["hidden"]), nn.Linear(s["hidden"], classes)
        self.dropout_in, self.dropout = nn.Dropout(s["dropout_in"]), nn.Dropout(s["dropout"])
        ones = torch.ones(s["hidden"]) if s["learn"] else torch.ones(())
        slopes = {"fast_sigmoid": surrogate.fast_sigmoid, "atan": surrogate.atan}
        common = {"beta": s["beta"] * ones, "learn_beta": s["learn"], "linear_features": s["hidden"],
                  "spike_grad": slopes[s["surrogate"]](s["slope"]), "reset_mechanism": s["reset"]}
        self.synapse = s["alpha"] > 0
        self.hidden = (snntorch.RSynaptic(alpha=s["alpha"] * ones, learn_alpha=s["learn"], **common) if self.synapse
                       else snntorch.RLeaky(**common))

    def forward(self, x):
        """(S, bins, channels) -> (S, classes)"""
        state = self.hidden.reset_mem()
        state = [torch.zeros(len(x), self.out.in_features) for _ in state]
        total = torch.zeros(len(x), self.out.in_features)
        for current in self.first(self.dropout_in(x)).unbind(1):
            state = self.hidden(current, *state)
            total = total + state[0]
        return self.out(self.dropout(total))


class Adaptive(nn.Module):
    """One layer of norse's LSNN: leaky neurons with a synapse, a threshold that rises with each spike, all to all.

    Output neurons sum over the bins and never spike. Time constants are in bins. The surrogate derivative at a
    distance x from the threshold is 1 / (1 + |x|)^2: norse 1.1.0 takes no notice of its slope.
    """

    def __init__(self, channels, classes, s):
        from norse.torch import LSNNParameters, LSNNRecurrentCell
        super().__init__()
        inverse = {f"tau_{name}_inv": torch.as_tensor(1 / s[f"tau_{name}"]) for name in ("mem", "syn", "adapt")}
        neuron = LSNNParameters(**inverse, v_th=torch.as_tensor(s["threshold"]),
                                beta=torch.as_tensor(s["adaptation"]))
        self.hidden = LSNNRecurrentCell(channels, s["hidden"], p=neuron, dt=1.0)
        self.out = nn.Linear(s["hidden"], classes)
        self.dropout_in, self.dropout = nn.Dropout(s["dropout_in"]), nn.Dropout(s["dropout"])

    def forward(self, x):
        """(S, bins, channels) -> (S, classes)"""
        state, total = None, torch.zeros(len(x), self.out.in_features)
        for current in self.dropout_in(x).unbind(1):
            spikes, state = self.hidden(current, state)
            total = total + spikes
        return self.out(self.dropout(total))


def gru(cache, settings, seed, progress):
    """See :mod:`runs.comparison.worker`."""
    return _trained(partial(Gated, nn.GRU), cache, settings, seed, progress)


def lstm(cache, settings, seed, progress):
    """See :mod:`runs.comparison.worker`."""
    return _trained(partial(Gated, nn.LSTM), cache, settings, seed, progress)


def norse(cache, settings, seed, progress):
    """See :mod:`runs.comparison.worker`."""
    return _trained(Adaptive, cache, settings, seed, progress)


def snntorch(cache, settings, seed, progress):
    """See :mod:`runs.comparison.worker`."""
    return _trained(Spiking, cache, settings, seed, progress)


def _trained(kind, cache, s, seed, progress):
    """Train a network and say of each sample whether it is right; on one thread, for bits depend on their number."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    network = kind(cache.meta.channels, cache.meta.classes, s)
    gain = s["gain"] / root_mean_square(cache.train, s["bins"])
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], s["lr"],
                                  weight_decay=s["weight_decay"])
    updates = s["epochs"] * -(-len(cache.train) // s["batch"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for epoch in progress(range(s["epochs"])):
        _epoch(network, cache, s, [seed, epoch], gain, optimiser, schedule)
    right = {split: _right(network, getattr(cache, split), s["bins"], gain) for split in ("train", "test")}
    return right, sum(p.numel() for p in network.parameters() if p.requires_grad)


def _epoch(network, cache, s, seed, gain, optimiser, schedule):
    """One epoch over the training part; `seed` says everything about its order and augmentation."""
    network.train()
    changes = SimpleNamespace(**{name: s[name] for name in ("shift_steps", "shift_channels", "drop", "stretch")})
    rng = np.random.default_rng([*seed, AUGMENTATION])
    for index in epoch_order(len(cache.train), s["batch"], seed):
        batch = augmented(cache.train[index], cache.grid, changes, rng)
        scores = network(torch.from_numpy(np.float32(gain) * binned(batch, s["bins"])))
        loss = nn.functional.cross_entropy(scores, torch.from_numpy(batch.labels), label_smoothing=s["smoothing"])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
        schedule.step()


@torch.no_grad()
def _right(network, events, bins, gain):
    """(S,) bool"""
    network.eval()
    right = []
    for begin in range(0, len(events), SCORED_AT_ONCE):
        batch = events[np.arange(begin, min(begin + SCORED_AT_ONCE, len(events)))]
        scores = network(torch.from_numpy(np.float32(gain) * binned(batch, bins)))
        right.append(scores.argmax(1).numpy() == batch.labels)
    return np.concatenate(right)
