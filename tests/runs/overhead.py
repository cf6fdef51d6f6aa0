"""What it costs to have twelve short runs made by this or that engine: processor time, memory, time of the clock.

    python tests/runs/overhead.py [--other CHECKOUT] [--runs 12]

Twelve commands one after the other; Dask in the command's own process; Dask over TCP with 1, 2 and 4 workers. With
``--other`` a checkout of a version that had a pool of its own, with a .venv of its own, makes the same runs, too. Each
program makes one run first, so that its kernels are compiled. It takes about three minutes on two idle cores.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
SETTINGS = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
            "training.search_epochs=60 training.retrain_epochs=1")
TOML = """
title = "One row"
data = ["ntidigits"]
seeds = "0"
baseline = "hrmas"
[rows.hrmas]
title = "HRMAS"
"""


class Measured:
    """Processes that are started, watched until the first ends, and added up."""

    def __init__(self, home):
        self._home, self._processes, self._most = home, [], {}

    def start(self, words, root):
        """Start a process in the folder, with the program of a checkout."""
        process = subprocess.Popen(list(map(str, words)), cwd=self._home, env=os.environ | {"PYTHONPATH": str(root)},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._processes.append(process)
        return process.pid

    def until(self, pid):
        """Wait for a process, then end the others; processor seconds of all, MB of all but the runs."""
        seconds = self._wait(pid)
        for process in reversed(self._processes):   # workers before their scheduler
            if process.pid != pid:
                os.kill(process.pid, signal.SIGTERM)
                seconds += self._wait(process.pid)
        return seconds, sum(self._most.values())

    def _wait(self, pid):
        """Processor seconds of a process and of those it has started."""
        while True:
            for process in self._processes:
                try:
                    text = Path(f"/proc/{process.pid}/status").read_text()
                    self._most[process.pid] = int(text.partition("VmHWM:")[2].split()[0]) / 1024
                except (OSError, IndexError):       # it has ended
                    pass
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if ended:
                assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGTERM), f"process {pid}: status {status}"
                return used.ru_utime + used.ru_stime
            time.sleep(0.2)


def once(home, words, root, runs, workers=None):
    """Make runs; (seconds of the clock, processor seconds, MB of the engine)."""
    shutil.rmtree(home / "runs", ignore_errors=True)
    measured, more = Measured(home), []
    if workers is not None:
        file = home / "scheduler.json"
        file.unlink(missing_ok=True)
        dask = words[0].with_name("dask")
        measured.start([dask, "scheduler", "--scheduler-file", file, "--host", "127.0.0.1", "--port", 0,
                        "--no-dashboard"], root)
        while not file.exists():
            time.sleep(0.1)
        for n in range(workers):
            measured.start([dask, "worker", "--scheduler-file", file, "--host", "127.0.0.1", "--nthreads", 1,
                            "--no-nanny", "--no-dashboard", "--name", n, "--local-directory", home], root)
        more = ["--cluster", file]
        time.sleep(3)
    began = time.monotonic()
    client = measured.start([*words, "one.toml", "--raw", "words.hdf5", "--set", SETTINGS, "--seeds", f"0-{runs - 1}",
                             *more], root)
    seconds, megabytes = measured.until(client)
    found = len(list(home.glob("runs/out/one-ntidigits/*/result.json")))
    assert found == runs, f"{found} of {runs} runs ended"
    return time.monotonic() - began, seconds, megabytes


def by_hand(home, words, root, runs):
    """The same runs, a command each, one after the other."""
    shutil.rmtree(home / "runs", ignore_errors=True)
    began, seconds = time.monotonic(), 0.0
    for n in range(runs):
        measured = Measured(home)
        one = [*words, "ntidigits", "--raw", "words.hdf5", "--set", SETTINGS, "--seeds", n, "--name", f"s{n}"]
        seconds += measured.until(measured.start(one, root))[0]
    return time.monotonic() - began, seconds, 0.0


def main():
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--other", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--runs", type=int, default=12)
    options = parser.parse_args()
    from event_files import write_words
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        write_words(home / "words.hdf5")
        (home / "one.toml").write_text(TOML)
        hrmas = Path(sys.executable).with_name("hrmas")
        ways = [("a command each, one after the other", by_hand, [hrmas, "search"], ROOT, {}),
                ("Dask in the command's process", once, [hrmas, "experiment"], ROOT, {})]
        ways += [(f"Dask over TCP, {n} worker{'s' * (n > 1)}", once, [hrmas, "experiment"], ROOT, {"workers": n})
                 for n in (1, 2, 4)]
        if options.other:
            other = options.other.resolve()
            words = [other / ".venv/bin/python", "-m", "runs.experiment"]
            ways.insert(1, ("the earlier version's own pool", once, words, other, {}))
        print("| engine | processor time a run, s | engine, MB | time, s | runs a minute |\n|---|---|---|---|---|")
        for name, function, words, root, more in ways:
            if not more:
                function(home, words, root, 1)      # compiles what is not compiled yet
            took, seconds, megabytes = function(home, words, root, options.runs, **more)
            print(f"| {name} | {seconds / options.runs:.2f} | {megabytes:.0f} | {took:.1f} | "
                  f"{60 * options.runs / took:.0f} |", flush=True)


if __name__ == "__main__":
    main()
