"""A method of `hrmas compare` as a run that a cluster makes, for experiments and for tuning."""

from dataclasses import dataclass
from pathlib import Path

from hrmas_sparse.environment import option
from hrmas_sparse.storage.atomic import write_json
from hrmas_sparse.storage.errors import InputError
from runs.comparison import compare, jobs
from runs.worker import JOB, Task

LARGEST = 1 << 30           # bytes that a job takes, roughly


@dataclass(frozen=True)
class MethodJob:
    """A result that is to be computed; ``job``: see :func:`runs.comparison.jobs.planned`."""

    job: dict
    partition: str

    @property
    def method(self):
        """Which it is of."""
        return self.job["method"]

    @property
    def folder(self):
        """Where it goes."""
        return Path(self.job["folder"])

    @property
    def run(self):
        """Itself: what of a :class:`hrmas_sparse.run.folder.RunDir` is asked for."""
        return self

    @property
    def name(self):
        """For messages."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def finished(self):
        """Whether it has been computed."""
        return (self.folder / "result.json").exists()

    def result(self):
        """Return what was computed; InputError if it is of other settings."""
        return jobs.result(self.job)

    def metrics(self):
        """Return lines of metrics: there are none, so that no trial is given up."""
        return []


def task(name, one, python, threads, work=1.0):
    """Return a :class:`MethodJob` as a cluster takes it; its folder is made, and says what is to be computed.

    Parameters
    ----------
    name : for messages; python : that computes it
    threads, work : see :class:`runs.worker.Task`
    """
    try:
        one.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{one.folder}: no folder can be made there ({error.strerror}); move what is there away, or "
                         f"give another {option('name')}") from error
    write_json(one.folder / JOB, one.job)
    ours = [f"{key}={value}" for key, value in compare.surroundings().items() if key == "PYTHONPATH"]
    words = [*(["env", *ours] if ours else []), python, "-m", "runs.comparison.worker", str(one.folder / JOB)]
    return Task(name, words, one.folder, Path.cwd(), one.folder.parent / "logs" / f"{one.folder.name}.log", threads,
                work, LARGEST)
