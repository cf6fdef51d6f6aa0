"""How many bytes a simulation takes; needs no GPU."""

THREADS = 1024          # of the largest block, see launch.py, which needs packages of a GPU
UNROLLED = 4            # neurons a thread keeps in registers at most, see step.py
REGISTERS = 64          # of a thread: a multiprocessor has 65,536
MORE_REGISTERS = 72     # where a thread has UNROLLED neurons, in blocks of FEWER threads: seven warps a scheduler
FEWER = 800
RESIDENT = 2048 * 148   # threads that the largest device (a B200) has at once: the driver gives each its local memory
STATE = 9               # numbers of a neuron in a thread's local memory at most


def registers(per):
    """Registers that a thread with ``per`` neurons may take."""
    return MORE_REGISTERS if per == UNROLLED else REGISTERS


def per_thread(neurons, threads=THREADS):
    """Neurons of a thread of a layer with recurrence: a power of two, so that few kernels are compiled."""
    per = 1
    while per * (min(threads, FEWER) if per == UNROLLED else threads) < neurons:
        per *= 2
    return per


def simulation(samples, steps, layers, links, itemsize, networks=1):
    """Return the bytes a GPU needs to simulate a batch forward and back.

    Parameters
    ----------
    samples, steps : of the batch, all networks together
    layers : (senders, neurons) of each layer
    links : recurrent links of all layers and networks
    itemsize : bytes of a number
    networks : that run together
    """
    rows = samples * steps
    # v, errors, spikes as numbers for a GEMM; spikes and silent as bits
    neurons = sum(rows * (3 * itemsize + 1) * n for _, n in layers)
    # psc of the output, its loss gradient in float64 and as errors
    output = rows * (2 * itemsize + 16) * (layers[-1][1] if layers else 0)
    weights = networks * sum(4 * itemsize * senders * n for senders, n in layers)
    return neurons + output + weights + links * (4 * itemsize + 44) + local(layers, itemsize)


def local(layers, itemsize):
    """Return the bytes of local memory: where a thread has many neurons, their state is kept there."""
    per = max((per_thread(n) for _, n in layers), default=1)
    return RESIDENT * STATE * itemsize * per if per > (UNROLLED if itemsize == 4 else 1) else 0
