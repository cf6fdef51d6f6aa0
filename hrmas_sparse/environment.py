"""What the machine and the process offer: folders, cores, control groups, packages, matplotlib.

Whoever wants to know asks here. Nothing is taken for granted: a container may have no home and no name for its
user, a batch system may grant less than the machine has, a notebook leaves variables behind.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

# What a batch system says it gave us: Slurm, Grid Engine, LSF, PBS.
GRANTED = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "NSLOTS", "LSB_DJOB_NUMPROC", "PBS_NCPUS")
MOST_THREADS = 4096
UNSUPPORTED = "hrmas_sparse runs on Linux and macOS; on Windows, install it in WSL2"


# ---- packages ----------------------------------------------------------------------------------------------


def version(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def checkout() -> Path | None:
    """The folder of the checkout this program runs from; None where it was installed like any other package."""
    folder = Path(__file__).resolve().parents[1]
    return folder if all((folder / name).is_file() for name in ("Makefile", "setup.cfg")) else None


def install(extra: str = "") -> str:
    """The command that installs us, or one of our extras, into the Python that runs; for our checkout's folder."""
    extra = f"[{extra}]" if extra else ""
    pip = Path(sys.executable).with_name("pip")
    try:
        pip = pip.relative_to(Path.cwd())
    except (OSError, ValueError):  # elsewhere; or the working directory is no more
        pass
    return f'{pip} install -e ".{extra}"' if checkout() else f'{pip} install "hrmas_sparse{extra}"'


def option(name: str) -> str:
    """An option as a hint names it: of a checkout's users, most give it to make."""
    variable = f"{name.upper()}={'1' if name in ('fresh', 'strict', 'apart', 'detach') else ''}"
    return f"--{name} ({variable})" if checkout() else f"--{name}"


def command(words: str, target: str) -> str:
    """A command as a hint names it: ``hrmas <words>``, or ``make <target>`` in a checkout."""
    return f"make {target}" if checkout() else f"hrmas {words}"


def commit() -> tuple[dict[str, Any] | None, str]:
    """The commit of the program's checkout.

    Returns
    -------
    dict with "commit" and "changed" (whether files differ from it), or None where git does not tell
    str, why it does not, for the user; empty outside a checkout
    """
    # The folder alone decides: in a hook, or where a user set it, GIT_DIR names another one.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {"LC_ALL": "C"}
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None, ""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, env=variables, capture_output=True, check=True, timeout=10,
                              stdin=subprocess.DEVNULL).stdout.decode(errors="replace").strip()
    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}, ""
    except subprocess.CalledProcessError as error:
        if b"dubious ownership" in error.stderr:
            return None, (f"{folder} belongs to another user, and git reads it after: git config --global --add "
                          f"safe.directory {shlex.quote(str(folder))}")
        return None, printable((error.stderr.decode(errors="replace").splitlines() or ["git failed"])[0])
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"git does not run ({getattr(error, 'strerror', None) or type(error).__name__})"


def matplotlib() -> Any:
    """Import matplotlib, whatever a notebook left in ``MPLBACKEND``: a name it cannot load would end the very import.

    Raises
    ------
    ImportError
        It is not installed.
    """
    left = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if left is not None:
            os.environ["MPLBACKEND"] = left
    return matplotlib


def new_figure(**options: Any) -> Any:
    """A :class:`matplotlib.figure.Figure` that belongs to no window or notebook: it is drawn when it is saved.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    """
    matplotlib()
    from matplotlib.figure import Figure
    return Figure(**options)


# ---- folders -----------------------------------------------------------------------------------------------


def home() -> Path | None:
    """The user's folder; None where there is none, as for a user without a name in a container."""
    folder = os.path.expanduser("~") if os.environ.get("HOME") != "" else ""  # Python takes the root for that
    return Path(folder) if os.path.isabs(folder) else None


def user_cache() -> Path | None:
    """The folder for what programs can make anew: ``XDG_CACHE_HOME``, else ``.cache`` in the user's; or None."""
    given, folder = os.environ.get("XDG_CACHE_HOME", ""), home()
    if os.path.isabs(given):  # the specification says that others do not count
        return Path(given)
    return folder / ".cache" if folder else None


def expanded(text: str) -> str:
    """A name or path as a user writes it, with ``~`` for a user's folder.

    Raises
    ------
    ValueError
        It is empty, or nobody knows the folder that ``~`` stands for: it would be made, of that name, right here.
    """
    if not text or "\0" in text:
        raise ValueError("a path")
    user, slash, rest = text.partition("/")
    if not user.startswith("~") or os.path.lexists(user):
        return text
    folder = home() if user == "~" else os.path.expanduser(user)
    if folder is None or str(folder) == user:
        raise ValueError(f"a path in full, for nobody knows the folder of {user}")
    return f"{folder}{slash}{rest}"


def user_path(text: str) -> Path:
    """As :func:`expanded`, a path."""
    return Path(expanded(text))


def first_line(text: str | None) -> str:
    """The first line of a docstring; nothing where Python leaves them out (-OO)."""
    return (text or "").strip().partition("\n")[0]


def printable(text: object) -> str:
    """Text for one line of a terminal: what is not seen as itself is escaped, a non-breaking space as ``\\xa0``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))


def as_path(text: str) -> Path:
    """The path that :func:`printable` made text of; one that is there as it stands is meant as it stands."""
    if os.path.lexists(text):
        return Path(text)
    escape = r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([nrt]))"
    return Path(re.sub(escape, lambda match: {"n": "\n", "r": "\r", "t": "\t"}.get(match[4]) or chr(
        min(int(match[1] or match[2] or match[3], 16), sys.maxunicode)), text))


# ---- cores and control groups ------------------------------------------------------------------------------


def cores() -> int:
    """Cores this process may use: those it is bound to, and no more than its control groups and batch system grant."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = [whole_number(os.environ.get(name)) for name in GRANTED]
    return max(1, min([bound, *filter(None, granted), *_quotas()]))


def threads() -> int:
    """Threads to compute with: ``NUMBA_NUM_THREADS`` if it is a number of threads, else one a core."""
    return whole_number(os.environ.get("NUMBA_NUM_THREADS")) or cores()


def whole_number(text: str | None) -> int | None:
    """The number of threads or cores a variable holds, 1 to ``MOST_THREADS``; None for everything else."""
    if text is None or not re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        return None
    return int(text) if 1 <= int(text) <= MOST_THREADS else None


def mend_numba() -> str:
    """Take away a ``NUMBA_NUM_THREADS`` that Numba cannot be imported with; to be called before that.

    Returns
    -------
    str, one line about it for the user, or nothing
    """
    given = os.environ.get("NUMBA_NUM_THREADS")
    if given is None or whole_number(given):
        return ""
    del os.environ["NUMBA_NUM_THREADS"]
    return (f"NUMBA_NUM_THREADS: expected a number of threads, 1 to {MOST_THREADS}, found {given!r}; "
            f"taking {cores()}, one a core")


def _quotas() -> Iterator[int]:
    """Cores each control group around this process grants, part of one counted as one."""
    for folder, unified in control_groups("cpu"):
        try:
            if unified:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
            if quota != "max" and int(quota) > 0:
                yield max(1, -(-int(quota) // max(1, int(period))))
        except (OSError, ValueError):  # no such file in this group
            continue


def control_groups(controller: str, process: Path = Path("/proc/self")) -> Iterator[tuple[Path, bool]]:
    """Folders of the control groups this process is in, each with those around it, the innermost first.

    Parameters
    ----------
    controller : "cpu" or "memory"
    process : its folder in /proc

    Yields
    ------
    folder, whether it is of the unified hierarchy (version 2)
    """
    try:
        # With os.fsdecode, for a folder's name is bytes.
        groups = os.fsdecode((process / "cgroup").read_bytes()).splitlines()
        mounts = os.fsdecode((process / "mountinfo").read_bytes()).splitlines()
    except OSError:
        return
    for line in groups:
        _, names, path = (*line.split(":", 2), "", "")[:3]
        if names and controller not in names.split(","):
            continue
        for root, point in _mounted(mounts, controller if names else ""):
            inside = path[len(root.rstrip("/")):] if (path + "/").startswith(root.rstrip("/") + "/") else path
            folder = Path(point, *(part for part in inside.split("/") if part not in ("", "..")))
            while folder != Path(point):
                yield folder, not names
                folder = folder.parent
            yield folder, not names


def _mounted(lines: list[str], controller: str) -> Iterator[tuple[str, str]]:
    """(root inside the hierarchy, where it is mounted) of a controller's mounts; "" for the unified hierarchy."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), (after.split() or [""])
        if len(fields) < 5 or kind[0] != ("cgroup" if controller else "cgroup2"):
            continue
        if not controller or controller in kind[-1].split(","):
            yield _unescaped(fields[3]), _unescaped(fields[4])


def _unescaped(text: str) -> str:
    r"""A path of mountinfo, in which \040 is a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
