"""The GPU as PyTorch sees it: time and memory of a peer, and a step as one CUDA graph."""

import torch

from runs.bench import measure

WARM = 3  # steps before a capture: libraries choose and allocate then


class Device(measure.Gpu):
    """See :class:`measure.Gpu`."""

    wait = staticmethod(torch.cuda.synchronize)
    free = staticmethod(torch.cuda.mem_get_info)
    release = staticmethod(torch.cuda.empty_cache)

    def mark(self):
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start, end):
        return start.elapsed_time(end)

    def launches(self, entrant):
        """Counted by PyTorch's profiler; copies and fills count as kernels."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU,
                                                torch.profiler.ProfilerActivity.CUDA]) as profile:
            entrant.step()
            torch.cuda.synchronize()
        return count(profile.events())


def count(events):
    """Calls that start work on the device, and pieces of work on it, among the profiler's events."""
    starts = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
    return {"calls": sum(event.name.startswith(starts) for event in events),
            "kernels": sum(event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
                           for event in events)}


class Captured:
    """A step as one CUDA graph: recorded once, replayed with the same tensors from then on."""

    def __init__(self, entrant):
        self.entrant, self.graph = entrant, torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                entrant.step()
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self.graph):
            self.found = entrant.step()

    def step(self):
        """Forward, loss, all gradients."""
        self.graph.replay()
        return self.found

    def gradients(self):
        """Gradients as arrays."""
        return {name: value.cpu().numpy() for name, value in self.step().items()}
