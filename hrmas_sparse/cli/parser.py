"""Every option and every command of the program, once. The Makefile's variables have the names of the options."""

import argparse
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from hrmas_sparse import __version__, environment
from hrmas_sparse.settings.load import datasets
from hrmas_sparse.settings.validators import argument, brief, count, hours, partitions, seeds, whole_numbers
from hrmas_sparse.storage.errors import InputError

_PATH, _NAME = argument(environment.user_path), argument(environment.expanded)
_FLAG: dict[str, Any] = {"action": "store_true"}
# Option -> how argparse reads it. A command may give another help text or default, see `Command.options`.
OPTIONS: dict[str, dict[str, Any]] = {
    "raw": {"type": _PATH, "metavar": "PATH", "help": "the raw recordings: a folder, or the file of N-TIDIGITS"},
    "seeds": {"type": argument(seeds), "help": "0, 0-4 or 0,2,5; one run each, on a GPU together (default 0)"},
    "name": {"help": "name of the run; several seeds add -s<seed>"},
    "out": {"type": _PATH, "metavar": "DIR", "help": "where runs go (default runs/out)"},
    "backend": {"default": "auto", "help": "auto, cpu or cuda"},
    "preset": {"default": "default", "help": "default, accurate or published"},
    "profile": {"help": "paper or demo (default: the data set's; demo for the stand-in)"},
    "set": {"action": "append", "default": [], "metavar": "SECTION.KEY=VALUE", "help": "change a setting"},
    "strict": {**_FLAG, "help": "never use the synthetic stand-in"},
    "fresh": {**_FLAG, "help": "set an old run of that name aside and start over"},
    "baseline": {"choices": ("counts", "off"), "default": "counts", "help": "what the result is compared with: "
                 "logistic regression on spike counts, computed once for a data set (default), or nothing"},
    "steps": {"type": argument(count), "metavar": "N",
              "help": "steps of a sample (default 100; of .npz, what there is)"},
    "step-ms": {"type": float, "metavar": "MS", "help": "length of a step, for spikes in seconds (default 10)"},
    "test": {"type": _PATH, "metavar": "FILE", "help": "for import: the test part, if it is not the second file"},
    "channels": {"type": argument(count), "metavar": "N",
                 "help": "number of input channels (default: the largest there is + 1)"},
    "split": {"choices": ("train", "test"), "default": "test"},
    "json": {**_FLAG, "help": "print one JSON object: accuracy, recall of each class, confusion, every sample's class"},
    "csv": {**_FLAG, "help": "print a line for every sample: its id, its class, the decided class"},
    "dt": {"type": float, "default": 1e-4, "metavar": "S", "help": "seconds of a step in NIR (default 0.0001)"},
    "folded": {**_FLAG, "help": "put the gain R/tau of each neuron into its weights, for programs that ignore R"},
    "golden": {"type": _PATH, "metavar": "DIR", "help": "folder of golden .npz files"},
    "raster": {"type": _PATH, "metavar": "FILE.png", "help": "for info: draw a sample of each class"},
    "figure": {"type": _PATH, "metavar": "FILE", "help": "draw it too: PNG, SVG or PDF (extra `plots`)"},
    "gpu": {**_FLAG, "help": "instead: say nothing, or, with exit status 2, why no GPU can be used"},
    "self-test": {**_FLAG, "help": "instead: compare the GPU with the CPU and keep the verdict, for --backend auto"},
    "exact": {**_FLAG, "help": "every array and attribute, bit by bit, wall clock apart; exit status 1 if any differs"},
    "check-determinism": {**_FLAG, "help": "instead: a short search twice, on one thread and on two, compared bit by "
                                           "bit"},
    "end-with-stdin": {**_FLAG, "help": "stop, checkpointed, when standard input ends: for programs that start runs"},
    "data": {"type": str.split, "help": "data set, several, or a settings file (default: the experiment's)"},
    "rows": {"type": str.split, "help": "only these rows"},
    "neurons": {"type": argument(whole_numbers), "help": "only these layer sizes, for an experiment that has several"},
    "partitions": {"type": argument(partitions), "help": 'values of data.partition, such as "official resample-1..4"'},
    "jobs": {"type": argument(count), "help": "runs at a time (default: one a core; on a GPU, one)"},
    "cluster": {"metavar": "WHERE", "help": "tcp://host:8786, a scheduler's file (JSON) or a batch system's (TOML); "
                                            "default: this machine"},
    "same-cpu": {**_FLAG, "help": "refuse workers whose processor is another model, where the last digits may differ"},
    "apart": {**_FLAG, "help": "the cluster's workers share no folder with this machine: runs and data are sent"},
    "detach": {**_FLAG, "help": "leave the runs to the cluster and end; `hrmas status` shows how far they are"},
    "port": {"type": argument(count), "metavar": "N", "help": "port on the loopback address (default: a free one)"},
    "tensorboard": {**_FLAG, "help": "instead: write the metrics for TensorBoard (extra `tensorboard`)"},
    "ranges": {"type": _PATH, "metavar": "FILE.toml", "help": "what is tried (default: runs/tuning/ranges.toml)"},
    "hours": {"type": argument(hours), "metavar": "H", "help": "stop after so many hours; the same command goes on"},
    "list": {**_FLAG, "help": "instead: print a command for each run that has not ended"},
    "methods": {"help": 'such as "gru logistic" (default: all of them)'},
    "trials": {**_FLAG, "help": "the settings of trials.toml, on the training part alone"},
    "settings": {"type": _PATH, "metavar": "FILE.toml", "help": "settings that differ, such as those of `hrmas tune "
                                                                "--methods`"},
    "peer-python": {"metavar": "PYTHON", "help": "a Python that has PyTorch, snnTorch and norse"},
}
_DATASET = ("dataset", {"type": _NAME, "help": f"{', '.join(datasets())}, a saved data set (.h5), or a settings file "
                                               "(TOML)"})
_RUN = ("run", {"type": _NAME, "help": "a run's name or folder"})
_HOME = ("name", {"type": _NAME, "help": "an experiment's folder: its name in runs/out, or its path"})
_JOB = "raw seeds name out backend set strict fresh baseline"


class Command(NamedTuple):
    """A command: the function "module:name" that does it, its help, its positional arguments and its options."""

    function: str
    help: str
    positional: Sequence[tuple[str, dict[str, Any]]] = ()
    options: str = ""                                      # names of OPTIONS
    changed: dict[str, dict[str, Any]] = {}                # what is different here in OPTIONS


COMMANDS = {
    "search": Command("hrmas_sparse.cli.commands:search",
                      "the whole job: cache, search, discretise, retrain, test", [_DATASET],
                      f"preset profile check-determinism end-with-stdin {_JOB}", {"seeds": {"default": [0]}}),
    "retrain": Command("hrmas_sparse.cli.commands:retrain",
                       "train the architecture another run found, from fresh weights, and test it",
                       [_RUN], _JOB, {"seeds": {"default": [0]}}),
    "evaluate": Command("hrmas_sparse.cli.commands:evaluate",
                        "score a finished run on any raw recordings of the same layout", [_RUN],
                        "raw split backend strict json csv",
                        {"raw": {"help": "raw recordings; default: those of the run"}}),
    "export": Command("hrmas_sparse.cli.commands:export",
                      "write a finished run's network for other programs: NIR, NumPy's arrays, C",
                      [_RUN, ("file", {"type": _PATH, "help": "name.nir, name.npz or name.h (with name.c)"})],
                      "dt folded"),
    "data": Command("hrmas_sparse.cli.data:data",
                    "recordings and data sets: fetch, import, build, verify, describe; check the front end",
                    [("action", {"choices": ("build", "import", "verify", "info", "download", "check")}),
                     ("target", {"type": _NAME, "nargs": "*", "help": "data set or settings file; a saved data set; "
                                 "for import files of spikes: .npz, or HDF5 in the form of SHD"})],
                    "golden raster raw preset profile set strict out test fresh steps step-ms channels",
                    {"out": {"metavar": "FILE.h5", "help": "for import: the data set to make"},
                     "fresh": {"help": "for import: replace the data set that is there"}}),
    "download": Command("hrmas_sparse.cli.data:download", "fetch recordings to data/raw/, or say how to get them",
                        [_DATASET], "raw set", {"raw": {"help": "where they go (default data/raw/<data set>)"}}),
    "runs": Command("hrmas_sparse.cli.commands:runs", "list the runs in runs/out"),
    "show": Command("hrmas_sparse.cli.commands:show", "what a run found", [_RUN], "figure"),
    "diff": Command("hrmas_sparse.cli.commands:diff", "compare two runs: settings and results",
                    [(name, {"type": _NAME}) for name in "ab"], "exact"),
    "experiment": Command("runs.experiment:run", "many runs side by side: table2, comparison, ranking ...",
                          [("experiment", {"help": "its name, or a TOML file of the same form as runs/experiments/*"})],
                          "data raw seeds rows neurons partitions name preset profile set jobs backend strict baseline "
                          "cluster same-cpu apart detach list peer-python",
                          {"seeds": {"help": "0, 0-4 or 0,2,5 (default: the experiment's)"},
                           "name": {"help": "name of the folder in runs/out (default <experiment>-<data set>)"},
                           "set": {"help": "change a setting of every row; what a row names itself wins"}}),
    "tune": Command("runs.tuning.tune:run", "choose settings by trials on the training part alone (extra `tune`)",
                    [_DATASET], "raw seeds partitions methods name ranges trials hours preset profile set jobs backend "
                    "strict baseline cluster same-cpu apart peer-python",
                    {"trials": {"action": "store", "type": argument(count), "metavar": "N", "default": None,
                                "help": "settings to try in all (default 50, or as many as fit into --hours)"},
                     "seeds": {"default": [0], "help": "each trial is run with each of them (default 0)"},
                     "partitions": {"default": ["valid-1", "valid-2"], "help": "divisions of the training part that "
                                    "each trial is run on (default valid-1 valid-2)"},
                     "name": {"help": "name of the folder in runs/out (default tune-<data set>)"},
                     "methods": {"metavar": "METHOD", "help": "instead: the settings of a method of `hrmas compare`"},
                     "set": {"help": "change a setting of every trial"}}),
    "status": Command("runs.status:run", "how far the runs of an experiment or a study are", [_HOME]),
    "watch": Command("runs.watch:run", "the same as a page in a browser, with learning curves that grow", [_HOME],
                     "port tensorboard"),
    "report": Command("runs.report.write:run", "tables and figures of an experiment as one HTML page (extra `plots`)",
                      [_HOME]),
    "compare": Command("runs.comparison.compare:run", "GRU, LSTM, snnTorch, norse and others on the same spikes",
                       [_DATASET], "raw seeds partitions methods name set strict fresh trials settings peer-python",
                       {"seeds": {"default": [0]}, "fresh": {"help": "compute again what is there"},
                        "name": {"help": "folder in runs/out (default compare-<data set>)"}}),
    "gradcheck": Command("hrmas_sparse.cli.commands:gradcheck",
                         "check the gradients against finite differences, or golden numbers", (), "golden backend"),
    "doctor": Command("hrmas_sparse.cli.commands:doctor",
                      "what is installed and found here, what is missing, how to install it", (), "gpu self-test"),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are an InputError: one line. Options may stand before, between and after the rest."""

    _within = False

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def,override]
        many = any(action.nargs == "*" for action in self._get_positional_actions())
        if self._within or not many:
            return super().parse_known_args(args, namespace)
        self._within = True  # argparse would take "*" as nothing where an option comes first
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{brief(message.removeprefix('argument '), 400)} ({self.prog} --help lists the options)")


@functools.cache
def parser() -> argparse.ArgumentParser:
    """Return the parser of the program."""
    program = _Parser(prog="hrmas", description="Recurrent spiking networks built from motifs: search, train, compare.")
    program.add_argument("--version", action="version", version=f"hrmas_sparse {__version__}")
    commands = program.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        for argument_name, how in command.positional:
            sub.add_argument(argument_name, **how)
        for option in command.options.split():
            sub.add_argument(f"--{option}", **OPTIONS[option] | command.changed.get(option, {}))
    return program


def parse(argv: Sequence[str] | None = None) -> tuple[Callable[[argparse.Namespace], int], argparse.Namespace]:
    """Return the function of the command that was asked for, and its options."""
    options = parser().parse_args(argv)
    module, _, name = COMMANDS[options.command].function.partition(":")
    return getattr(importlib.import_module(module), name), options
