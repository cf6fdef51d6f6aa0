"""snnTorch: RSynaptic with a recurrent Linear, Synaptic as output."""

import snntorch
import torch

from runs.bench import workloads as w
from runs.bench.peers.common import Peer


class Step(Peer):
    """The same membrane and synapse as ours; input and output layers run over all steps at once."""

    def build(self, w1, recurrent, w_out):
        decays = {"alpha": 1 - 1 / w.TAU_S, "beta": 1 - 1 / w.TAU_M, "reset_mechanism": "zero"}
        self.first, self.last = self.linear(w1), self.linear(w_out)
        self.hidden = snntorch.RSynaptic(**decays, threshold=w.V_TH, linear_features=self.meta["hidden"])
        self.hidden.recurrent.weight.data = recurrent
        self.out = snntorch.Synaptic(**decays, threshold=w.V_TH_OUT)
        self.parameters = [*self.first.parameters(), *self.hidden.parameters(), *self.last.parameters()]

    def run(self):
        spike, syn, mem = self.hidden.init_rsynaptic()
        hidden, out = [], []
        for current in self.first(self.x):
            spike, syn, mem = self.hidden(current, spike, syn, mem)
            hidden.append(spike)
        hidden = torch.stack(hidden)
        syn, mem = self.out.init_synaptic()
        for current in self.last(hidden):
            spike, syn, mem = self.out(current, syn, mem)
            out.append(spike)
        return hidden, torch.stack(out)


make = Step
