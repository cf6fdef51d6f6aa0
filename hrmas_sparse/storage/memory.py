"""How much memory there is, and the refusal of what cannot fit."""

import os
import resource
from pathlib import Path

from hrmas_sparse import environment
from hrmas_sparse.storage.errors import InputError

GIB = 1 << 30
_SMALL = 1 << 20  # bytes that are taken without a look at what is free: looking costs more than reading them


def text(size):
    """Bytes for people."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.1f} MiB"


def available():
    """Bytes this process may still take: what the machine has free, control groups and limits on processes."""
    return max(0, min(_machine(), _control_groups(), _own_limit()))


def _machine():
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_groups():
    """What a container or batch system leaves, the tightest of all groups around us."""
    return min((_left_in(folder, unified) for folder, unified in environment.control_groups("memory")), default=1 << 62)


def _left_in(folder, unified):
    """What one control group leaves; the cache of files counts as free, files in memory (tmpfs) do not."""
    limit, used, prefix = (("memory.max", "memory.current", "") if unified
                           else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"))
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        free = sum(int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
        return int((folder / limit).read_text()) - int((folder / used).read_text()) + free
    except (OSError, ValueError):  # no limit ("max"), or none of memory in this group
        return 1 << 62


def _own_limit():
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return 1 << 62
    try:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        taken = 0
    return limit - taken


def require_room(what, size, copies=1):
    """Refuse to take memory that is not free for ``what``, a file or a data set of ``size`` bytes, ``copies`` times.

    Raises
    ------
    InputError
        With both numbers.
    """
    if copies * size <= _SMALL:
        return
    free = available()
    if copies * size > free:
        raise InputError(f"{what}: {text(size)} do not fit into the {text(free)} of memory that are free")


def require(needed, free=None, of="memory", others="fewer threads (NUMBA_NUM_THREADS) or another machine"):
    """Refuse what cannot fit.

    Parameters
    ----------
    needed : bytes by what they are for
    free : bytes, default what this process may still take
    of, others : what is short, and what would do beside a smaller network and batch; for the message

    Raises
    ------
    InputError
        With all the numbers, if the sum of ``needed`` is more than is free.
    """
    total, free = sum(needed.values()), available() if free is None else free
    if total > free:
        parts = ", ".join(f"{what} {text(size)}" for what, size in sorted(needed.items(), key=lambda x: -x[1]))
        raise InputError(f"this run needs about {text(total)} of {of} and {text(free)} are free: {parts}. Fewer "
                         f"network.neurons, a smaller training.batch, {others} would do")
