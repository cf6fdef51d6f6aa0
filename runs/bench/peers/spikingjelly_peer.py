"""SpikingJelly: Linear layers and LIFNodes in a loop over time; its neuron has no synaptic filter."""

import torch
from spikingjelly.activation_based import functional, neuron

from runs.bench import workloads as w
from runs.bench.peers.common import Peer


class Step(Peer):
    """Thresholds are lower by the gain of the missing filter; input and output layers run over all steps at once."""

    def build(self, w1, recurrent, w_out):
        self.first, self.back, self.last = self.linear(w1), self.linear(recurrent), self.linear(w_out)
        node = {"tau": w.TAU_M, "decay_input": False, "v_reset": 0.0}
        self.hidden = neuron.LIFNode(v_threshold=w.V_TH / w.TAU_S, step_mode="s", **node)
        self.out = neuron.LIFNode(v_threshold=w.V_TH_OUT / w.TAU_S, step_mode="m", **node)
        self.parameters = [layer.weight for layer in (self.first, self.back, self.last)]

    def run(self):
        functional.reset_net(self.hidden)
        functional.reset_net(self.out)
        spike, hidden = torch.zeros(self.meta["samples"], self.meta["hidden"]), []
        for current in self.first(self.x):
            spike = self.hidden(current + self.back(spike))
            hidden.append(spike)
        hidden = torch.stack(hidden)
        return hidden, self.out(self.last(hidden))


make = Step
