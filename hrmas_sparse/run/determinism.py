"""Does the same search give the same bits twice? Asked of this machine, these versions and one's own data."""

import dataclasses
import tempfile
from pathlib import Path

from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.run.baseline import Part
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.folder import RunDir, start
from hrmas_sparse.run.seeds import Task

BATCHES = 4  # of each half of the training set, in each of the three phases


def check(settings, seed, cache, backend="auto"):
    """Run a short search twice, on one thread and on two, and compare everything.

    Returns
    -------
    int, the exit status: 0 if bit-identical, else 1
    """
    training = dataclasses.replace(settings.training, search_epochs=2, retrain_epochs=1)
    short = dataclasses.replace(settings, training=training,
                                search=dataclasses.replace(settings.search, stage1_fraction=0.5))
    samples = 2 * BATCHES * training.batch
    part = Part(cache, {"train": samples, "test": samples})
    with tempfile.TemporaryDirectory(prefix="hrmas-determinism-") as folder:
        runs = []
        for threads in (1, 2):
            run, task = RunDir(Path(folder) / f"threads-{threads}"), Task(
                short, part, get_backend(backend, threads), {"raw": None})
            with run.working():
                start(run, short, seed, part, task.origin)
                task.job(run, seed).execute()
            runs.append(run)
        differs = exact_differences(*runs)
    what = f"{settings.data.dataset}, seed {seed}, {len(part.train)} training samples, search and retraining"
    if differs:
        print(f"{what}: one thread and two differ in {', '.join(differs)}")
        return 1
    print(f"{what}: bit-identical on one thread and on two")
    return 0
