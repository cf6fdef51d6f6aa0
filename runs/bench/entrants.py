"""Who runs on what: the rows of the bench."""

import json
from dataclasses import dataclass

# What glibc's allocator would hand back to the system after every step, and fault in again, it keeps.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
ALL = ("W1", "W2", "W3", "W4")
OUR_RULE = ("peers.tssl", "peers.quadratic", "peers.jax_rule", "peers.brainevent_peer")  # modules of peers


@dataclass(frozen=True)
class Entrant:
    """One row.

    key : its name on the command line; label : in tables; function : module.function under runs.bench
    kind : of problem; workloads : where it runs; needs : package beside its framework, or "" for our own engine
    framework : "torch" or "jax"
    compiled : torch.compile, and the allocator tuned; threads : fixed number, or None for --threads
    device : "cpu" or "cuda"; graph : a step as one CUDA graph
    """

    key: str
    label: str
    function: str
    kind: str
    workloads: tuple = ALL
    needs: str = ""
    compiled: bool = False
    threads: int | None = None
    device: str = "cpu"
    graph: bool = False
    framework: str = "torch"

    @property
    def our_rule(self):
        """Whether its gradients must be those of our engine on the CPU."""
        return self.function.startswith(OUR_RULE) or (self.ours and self.device != "cpu")

    @property
    def flags(self):
        """What its worker is told."""
        framework = [f"--framework={self.framework}"] if self.device != "cpu" and not self.ours else []
        return [f"--device={self.device}", *framework, *["--compiled"] * self.compiled, *["--graph"] * self.graph]

    @property
    def ours(self):
        """Whether it is this engine."""
        return not self.needs

    def environment(self, threads, cache):
        """Environment variables of its process."""
        variables = {name: str(threads) for name in (
            "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        if self.compiled:
            variables |= MALLOC | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
        if self.framework == "jax" and self.device != "cpu":
            # As the others: no TF32, and no more of the memory than is needed. Dense input and spans of a whole
            # recording, or 100 steps, for what is tuned is the CPU's.
            variables |= {"JAX_PLATFORMS": self.device, "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                          "JAX_DEFAULT_MATMUL_PRECISION": "highest",
                          "BENCH_VARIANT": json.dumps({"span": 100, "input": "dense"})}
        elif self.framework == "jax":  # one device a thread, see peers/jax_rule.py
            flags = f"--xla_force_host_platform_device_count={threads} --xla_cpu_multi_thread_eigen=false"
            variables |= MALLOC | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        return variables


def _peer(key, label, function, kind, needs="torch", **others):
    return Entrant(key, label, f"peers.{function}", kind, needs=needs, **others)


def _jax(key, label, function, kind, needs="jax", **others):
    return _peer(key, label, function, kind, needs=needs, framework="jax", **others)


TSSL, JAX = "same rule, O(T) in PyTorch, ", "same rule, O(T) in JAX, "
ENTRANTS = (
    Entrant("ours", "hrmas_sparse", "ours.make", "motif"),
    Entrant("ours-1thread", "hrmas_sparse, one thread", "ours.make", "motif", threads=1),
    _peer("blocks", TSSL + "block-diagonal", "tssl.blocks", "blocks"),
    _peer("blocks-compiled", TSSL + "block-diagonal, compiled", "tssl.blocks", "blocks", compiled=True),
    _peer("dense", TSSL + "dense", "tssl.dense", "motif"),
    _peer("dense-compiled", TSSL + "dense, compiled", "tssl.dense", "motif", compiled=True),
    _jax("jax-blocks", JAX + "block-diagonal", "jax_rule.blocks", "blocks"),
    _jax("jax-links", JAX + "blocks and links between motifs", "jax_rule.blocks", "motif"),
    _jax("jax-dense", JAX + "dense", "jax_rule.dense", "motif"),
    _jax("brainevent", JAX + "recurrence by brainevent", "brainevent_peer.make", "motif", needs="brainevent"),
    _jax("spyx", "spyx RCuBaLIF", "spyx_peer.make", "motif", needs="spyx"),
    _peer("snntorch", "snnTorch RSynaptic", "snntorch_peer.make", "motif", needs="snntorch"),
    _peer("spikingjelly", "SpikingJelly Linear + LIFNode", "spikingjelly_peer.make", "motif", needs="spikingjelly"),
    _peer("norse", "norse LIFRecurrent", "norse_peer.make", "motif", needs="norse"),
    Entrant("ours-feedforward", "hrmas_sparse", "ours.make", "feedforward"),
    _peer("recursion", TSSL + "feedforward", "tssl.dense", "feedforward"),
    _peer("quadratic", "TSSL-BP as published, O(T^2), feedforward", "quadratic.make", "feedforward"),
    Entrant("ours-supernet", "hrmas_sparse", "ours.make", "supernet"),
    _peer("supernet", TSSL + "dense", "tssl.dense", "supernet", workloads=("W1", "W4")),
    _peer("supernet-compiled", TSSL + "dense, compiled", "tssl.dense", "supernet", workloads=("W1", "W4"),
          compiled=True),
    _jax("jax-supernet", JAX + "dense", "jax_rule.dense", "supernet", workloads=("W1", "W4")),
    _jax("jax-band", JAX + "band", "jax_rule.band", "supernet", workloads=("W1", "W4")),
    Entrant("ours-w-step", "hrmas_sparse, w step of a search", "ours.make_w_step", "supernet", workloads=("W1",)),
    Entrant("ours-iteration", "hrmas_sparse, whole HRMAS iteration", "ours.make_iteration", "supernet",
            workloads=("W1",)),
)


@dataclass(frozen=True)
class Target:
    """A ratio we want: the best of ``over`` to the best of ``under`` in ``field``, at least ``least``.

    Or at most ``most``; without ``under`` it is the best of ``over`` itself.
    """

    text: str
    workload: str
    over: tuple
    under: tuple
    least: float | None = None
    field: str = "ms"
    most: float | None = None

    def met(self, ratio):
        """Whether a ratio is what was wanted; None if nothing was."""
        if self.least is None and self.most is None:
            return None
        return ratio >= self.least if self.most is None else ratio <= self.most


STRONGEST = "strongest peer that has all links / ours"


def _targets():
    blocks, dense = ("blocks", "blocks-compiled"), ("dense", "dense-compiled")
    libraries = ("snntorch", "spikingjelly", "norse", "spyx")
    equal = (*dense, "jax-links", "jax-dense", "brainevent", *libraries)
    targets = [Target(STRONGEST, name, equal, ("ours",), least)
               for name, least in (("W1", 3.5), ("W2", 3.5), ("W3", 8), ("W4", 5))]
    for name, b, d, q in (("W1", 3, 9, 40), ("W2", 5, 8, 130), ("W3", 10, 10, 40), ("W4", 2.5, 40, 75)):
        targets += [Target("best motif-block PyTorch / ours", name, blocks, ("ours",), b),
                  Target("best dense PyTorch / ours", name, dense, ("ours",), d),
                  Target("published O(T^2) / ours, both feedforward", name, ("quadratic",), ("ours-feedforward",), q)]
    for name, d in (("W1", 5), ("W4", 20)):
        targets += [Target("best dense PyTorch / ours, supernet with alpha", name, ("supernet", "supernet-compiled"),
                           ("ours-supernet",), d),
                    Target("strongest peer / ours, supernet with alpha", name,
                           ("supernet", "supernet-compiled", "jax-supernet", "jax-band"), ("ours-supernet",))]
    for name in ALL:
        targets += [Target("best peer without links between motifs / ours", name, (*blocks, "jax-blocks"), ("ours",)),
                    Target("best library / ours", name, libraries, ("ours",), None),
                    Target("leanest peer / ours, memory", name, (*blocks, "jax-blocks", *equal), ("ours",), 3, "mb"),
                  Target("one thread / two threads, ours", name, ("ours-1thread",), ("ours",), 1.7)]
    targets.append(Target("whole HRMAS iteration / w step", "W1", ("ours-iteration",), ("ours-w-step",), None))
    return targets


TARGETS = _targets()

WAYS = {"": "", "-compiled": ", compiled", "-graph": ", as a CUDA graph",
        "-compiled-graph": ", compiled, as a CUDA graph"}


def _ways(key, label, function, kind):
    """A peer on the GPU, step by step, through torch.compile, as a CUDA graph, and both."""
    return tuple(_peer(key + way, label + text, function, kind, device="cuda", compiled="-compiled" in way,
                       graph="-graph" in way) for way, text in WAYS.items())


def _gpu(key, label, function, kind, **others):
    return Entrant(key, label, function, kind, device="cuda", **others)


GPU_ENTRANTS = (
    _gpu("ours", "hrmas_sparse", "ours.make", "motif"),
    _gpu("ours-seeds", "hrmas_sparse, five seeds together", "ours.make_seeds", "motif"),
    *_ways("blocks", TSSL + "block-diagonal", "tssl.blocks", "blocks"),
    *_ways("dense", TSSL + "dense", "tssl.dense", "motif"),
    _jax("jax-blocks", JAX + "block-diagonal", "jax_rule.blocks", "blocks", device="cuda"),
    _jax("jax-links", JAX + "blocks and links between motifs", "jax_rule.blocks", "motif", device="cuda"),
    _jax("jax-dense", JAX + "dense", "jax_rule.dense", "motif", device="cuda"),
    _gpu("ours-feedforward", "hrmas_sparse", "ours.make", "feedforward"),
    _peer("quadratic", "TSSL-BP as published, O(T^2), feedforward", "quadratic.make", "feedforward", device="cuda"),
    _gpu("ours-supernet", "hrmas_sparse", "ours.make", "supernet"),
    *_ways("supernet", TSSL + "dense", "tssl.dense", "supernet"),
    _jax("jax-supernet", JAX + "dense", "jax_rule.dense", "supernet", device="cuda"),
    _jax("jax-band", JAX + "band", "jax_rule.band", "supernet", device="cuda"),
)


def _gpu_targets():
    blocks, dense, supernet = (tuple(key + way for way in WAYS) for key in ("blocks", "dense", "supernet"))
    targets = [Target("ours, ms (wanted on an H200)", "W1", ("ours",), (), most=1)]
    for name, least in (("W1", 10), ("W2", None), ("W3", None), ("W4", 20)):
        targets += [Target("best PyTorch / ours", name, blocks + dense, ("ours",), least),
                  Target("best motif-block PyTorch / ours", name, blocks, ("ours",)),
                  Target("best dense PyTorch / ours", name, dense, ("ours",)),
                  Target(STRONGEST, name, (*dense, "jax-links", "jax-dense"), ("ours",)),
                  Target("best peer without links between motifs / ours", name, (*blocks, "jax-blocks"), ("ours",)),
                  Target("best dense PyTorch / ours, supernet with alpha", name, supernet, ("ours-supernet",)),
                  Target("strongest peer / ours, supernet with alpha", name, (*supernet, "jax-supernet", "jax-band"),
                         ("ours-supernet",)),
                  Target("published O(T^2) / ours, both feedforward", name, ("quadratic",), ("ours-feedforward",)),
                  Target("leanest peer / ours, memory", name, blocks + dense, ("ours",), field="mb"),
                  Target("five seeds together / one, ours", name, ("ours-seeds",), ("ours",), most=1.5)]
    return targets


GPU_TARGETS = _gpu_targets()
BENCHES = {"cpu": (ENTRANTS, TARGETS), "cuda": (GPU_ENTRANTS, GPU_TARGETS)}
