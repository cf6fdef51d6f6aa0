"""Computes results, one job after the other; each is a file, written whole.

``python -m runs.comparison.worker`` reads a list of jobs, a line of JSON, from standard input and ends when that ends.
With the name of a file it reads one job from that, and nobody else computes it meanwhile.

A method is a function ``(cache, settings, seed, progress)``: an opened spike cache, a dict, an int, and a function
that wraps the iterable of epochs. It returns ``right``, one bool per sample of "train" and "test", and the number of
trained weights.
"""

import contextlib
import importlib
import importlib.metadata
import json
import platform
import sys
import time
from pathlib import Path

from tqdm import tqdm

from hrmas_sparse import __version__
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.atomic import write_json
from hrmas_sparse.storage.locks import locked
from hrmas_sparse.storage.records import read_json
from hrmas_sparse.process import end_with_stdin
from hrmas_sparse.data.cache import open_cache

METHODS = {"gru": "networks.gru", "lstm": "networks.lstm", "snntorch": "networks.snntorch", "norse": "networks.norse",
           "logistic": "logistic.logistic"}
WITH_TORCH = {"gru": ("torch",), "lstm": ("torch",), "snntorch": ("torch", "snntorch"), "norse": ("torch", "norse")}
PACKAGES = ("numpy", "scipy", "h5py", "torch", "snntorch", "norse")


def versions():
    """Versions of Python and of what is loaded of what can change a number."""
    return {"hrmas_sparse": __version__, "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES if name in sys.modules}}


def compute(job):
    """Train and score one method once; write ``result.json`` into the job's folder.

    Parameters
    ----------
    job : dict, see :func:`runs.comparison.jobs.planned`

    Returns
    -------
    dict, what was written
    """
    module, function = METHODS[job["method"]].split(".")
    method = getattr(importlib.import_module(f"runs.comparison.{module}"), function)
    cache = open_cache(job["cache"]).of_grid(tuple(job["grid"]))
    began, used = time.monotonic(), time.process_time()

    def progress(epochs):
        return tqdm(epochs, job["name"], unit="epoch", disable=None, leave=False)

    right, weights = method(cache, job["settings"], job["seed"], progress)
    score = {split: {"accuracy": float(hits.mean()), "samples": len(hits)} for split, hits in right.items()}
    result = {**{key: job[key] for key in ("method", "title", "settings", "data", "partition", "seed")},
              "provenance": cache.meta.provenance, "fingerprint": cache.meta.fingerprint, **score,
              "chance": 1 / cache.meta.classes, "trained_weights": weights,
              "seconds": {"train": time.monotonic() - began},
              "processor_seconds": time.process_time() - used, "versions": versions(), "git": job["git"]}
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", result)
    return result


def run(jobs, say=print):
    """Compute jobs in order, a line about each."""
    for job in jobs:
        result = compute(job)
        test, train = (100 * result[split]["accuracy"] for split in ("test", "train"))
        say(f"{job['name']}: scored {test:.2f} % of {result['test']['samples']} samples, training part "
            f"{train:.2f} %, {result['seconds']['train']:.0f} s")


def main():
    """Jobs from standard input; the exit status is 2 for what the user can mend."""
    try:
        jobs = [read_json(Path(sys.argv[1]))] if sys.argv[1:] else json.loads(sys.stdin.readline())
        end_with_stdin()
        with contextlib.ExitStack() as stack:
            if sys.argv[1:]:
                stack.enter_context(locked(Path(jobs[0]["folder"]) / "lock", jobs[0]["name"]))
            run(jobs, lambda text: print(text, flush=True))
    except InputError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the program that started us says so
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
