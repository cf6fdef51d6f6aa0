"""norse: LIFRecurrent as the hidden layer, Linear and LIF as output."""

import torch
from norse.torch import LIF, LIFParameters, LIFRecurrent

from runs.bench import workloads as w
from runs.bench.peers.common import Peer


class Step(Peer):
    """Its membrane has gain 1/tau_m, so thresholds are lower by that."""

    def build(self, w1, recurrent, w_out):
        def parameters(v_th):
            return LIFParameters(tau_syn_inv=torch.tensor(1 / w.TAU_S), tau_mem_inv=torch.tensor(1 / w.TAU_M),
                                 v_th=torch.tensor(v_th / w.TAU_M))

        self.hidden = LIFRecurrent(self.meta["inputs"], self.meta["hidden"], p=parameters(w.V_TH), dt=1.0,
                                   input_weights=w1, recurrent_weights=recurrent, autapses=True)
        self.last, self.out = self.linear(w_out), LIF(p=parameters(w.V_TH_OUT), dt=1.0)
        self.parameters = [*self.hidden.parameters(), *self.last.parameters()]

    def run(self):
        hidden, _ = self.hidden(self.x)
        out, _ = self.out(self.last(hidden))
        return hidden, out


make = Step
