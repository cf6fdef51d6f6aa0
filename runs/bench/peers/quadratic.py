"""TSSL-BP as published, feedforward: every step sums over all later steps, O(T^2). Our own writing of it.

For each step t from the last to the first it holds, for every neuron, how v[t] moves the psc at t, t+1, ..., T-1
(mathematics 5 before it is made a recursion): through a spike at t and its synaptic kernel, and through the next
steps that the reset at t changes. That row of T - t numbers is multiplied with dL/da of those steps and summed.
Synapses are filtered where they are sent, layers multiply whole recordings, time is the last axis, as published.
"""

import torch

from runs.bench import workloads as w
from runs.bench.peers.common import on


class _Layer:
    """One feedforward LIF layer."""

    def __init__(self, weights, v_th, steps):
        self.weights, self.v_th = weights, v_th
        self.kernel = (1 - 1 / w.TAU_S) ** torch.arange(steps, dtype=weights.dtype, device=weights.device)

    def forward(self, psc):
        """psc of the senders (B, C, T) -> own psc (B, N, T)."""
        self.received = psc
        current = torch.einsum("bct,cn->tbn", psc, self.weights).contiguous()
        u = trace = torch.zeros_like(current[0])
        before, v, spikes, sent = [], [], [], []
        for now in current:
            before.append(u)
            v.append(u * (1 - 1 / w.TAU_M) + now)
            spikes.append((v[-1] > self.v_th).to(u.dtype))
            u = v[-1] * (1 - spikes[-1])
            trace = trace * (1 - 1 / w.TAU_S) + spikes[-1]
            sent.append(trace)
        self.before, self.v, self.spikes, self.sent = (torch.stack(each, -1) for each in (before, v, spikes, sent))
        return self.sent

    def backward(self, gradient):
        """dL/da (B, N, T) -> gradient of the weights (C, N) and dL/da of the senders (B, C, T)."""
        steps = gradient.shape[-1]
        rate = (1 / (self.v - self.before)).clamp(0, w.CAP / self.v_th) * self.spikes
        argument = ((self.v - self.v_th) / (w.WIDTH * self.v_th)).clamp(-8, 8)
        slope = torch.sigmoid(argument) * torch.sigmoid(-argument) / (w.WIDTH * self.v_th)
        silent = self.sent < 0.25
        delta = torch.empty_like(gradient)
        effect = torch.zeros_like(gradient[..., :0])  # of v[t+1] on the psc at t+1, t+2, ...
        for t in range(steps - 1, -1, -1):
            p, s = rate[..., t, None], self.spikes[..., t, None]
            kernel, later = self.kernel[:steps - t], gradient[..., t:]
            on = torch.where(s > 0, p * self.v[..., t, None] / w.TAU_M, 1 - 1 / w.TAU_M)
            inter = p * kernel
            intra = torch.nn.functional.pad(on * effect, (1, 0))
            effect = inter + intra
            through_spikes = (effect * later).sum(-1)
            through_slope = (kernel * later).sum(-1) * slope[..., t]
            delta[..., t] = torch.where(silent[..., t], through_slope, through_spikes)
        return torch.einsum("bct,bnt->cn", self.received, delta), torch.einsum("bnt,cn->bct", delta, self.weights)


class Step:
    """One training step."""

    def __init__(self, problem, threads, dtype, device):
        torch.set_num_threads(threads)
        self.samples, real = problem["meta"]["samples"], getattr(torch, dtype)
        self.x = on(device, w.dense_input(problem, dtype)).permute(1, 2, 0).contiguous()
        self.desired = on(device, w.desired_psc(problem, dtype)).permute(1, 2, 0).contiguous()
        steps = problem["meta"]["steps"]
        self.layers = [_Layer(on(device, problem[f"p.{name}"]).to(real), v_th, steps)
                       for name, v_th in (("w1", w.V_TH), ("w_out", w.V_TH_OUT))]

    @torch.no_grad()
    def step(self):
        """Forward, loss, all gradients."""
        trace, psc = torch.zeros_like(self.x[..., 0]), []
        for t in range(self.x.shape[-1]):
            trace = trace * (1 - 1 / w.TAU_S) + self.x[..., t]
            psc.append(trace)
        psc = torch.stack(psc, -1)
        for layer in self.layers:
            psc = layer.forward(psc)
        error = (psc - self.desired) / self.samples
        dw_out, effect = self.layers[1].backward(error)
        dw1, _ = self.layers[0].backward(effect)
        return {"w1": dw1, "w_out": dw_out}

    def gradients(self):
        """Gradients as arrays."""
        return {name: value.cpu().numpy() for name, value in self.step().items()}


def make(problem, threads, dtype="float32", compiled=False, device="cpu"):
    """See :mod:`runs.bench.peers`; problems of kind "feedforward"."""
    return Step(problem, threads, dtype, device)
