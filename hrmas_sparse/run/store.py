"""Where what a run finds goes: into its folder, or into memory alone. Both have the same methods."""

import json
import os

from hrmas_sparse import __version__
from hrmas_sparse.engine import architecture
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.environment import option
from hrmas_sparse.run.networks import arrays_of
from hrmas_sparse.run.state import check_finite, load_state, save_state
from hrmas_sparse.run.summary import summary
from hrmas_sparse.storage import arrayfile, files
from hrmas_sparse.storage.atomic import append_line, write_bytes, write_json, write_text
from hrmas_sparse.storage.errors import InputError


class MemoryStore:
    """A run without a folder: what it found last is kept as attributes, and gone with the process."""

    def __init__(self):
        self.lines, self.architectures, self.search, self.diagnosis = [], None, None, None
        self.parameters, self.result, self.v_th = None, None, None

    def resume(self, learner, expected):
        """Put what was checkpointed into a learner; returns its position, or None at the start of a run."""

    def checkpoint(self, learner, position):
        """Keep learner and position; Diverged if something learnt is not finite."""
        check_finite(learner, position)

    def thresholds(self):
        """The thresholds that :meth:`keep_thresholds` kept; None before."""
        return self.v_th

    def keep_thresholds(self, v_th):
        """Keep the thresholds that were chosen for the hidden layers."""
        self.v_th = v_th

    def cut(self, lines):
        """Forget the lines of metrics that came after a checkpoint."""
        del self.lines[lines:]

    def add_line(self, line):
        """Keep an epoch's metrics."""
        self.lines.append(line)

    def architecture(self, network_settings):
        """The architecture of every hidden layer; None where the settings want none."""
        return self.architectures

    def keep_architecture(self, architectures):
        """Keep what was found, drawn or given."""
        self.architectures = architectures

    def keep_search(self, alpha, intrinsic):
        """Keep what the search ended with, for figures: alpha, R and tau, which retraining begins anew."""
        self.search = alpha.replaced(intrinsic)

    def searched(self):
        """What :meth:`keep_search` kept, as parameters; None without a search."""
        return self.search

    def keep_diagnosis(self, cost):
        """Keep what making the network discrete costs."""
        self.diagnosis = cost

    def keep_weights(self, parameters):
        """Keep the trained parameters."""
        self.parameters = parameters

    def finish(self, result):
        """Keep the result: the run is finished."""
        self.result = result


class FolderStore:
    """A run's folder; see :class:`MemoryStore` for the methods.

    Parameters
    ----------
    run : :class:`hrmas_sparse.run.folder.RunDir`, its manifest written
    data, seed : as in the manifest
    """

    def __init__(self, run, data, seed):
        self._run = run
        # Settings as they were written when the run began: older versions knew fewer, and saved fewer.
        self.identity = {"config": run.manifest()["config"], "data": {"fingerprint": data.meta.fingerprint},
                         "seed": seed}

    @property
    def run(self):
        """The run's folder, once more seen to be the one that is worked on."""
        self._run.check()
        return self._run

    def resume(self, learner, expected):
        try:
            return load_state(self.run.checkpoint_path, learner, self.identity, expected)
        except InputError as error:
            made_by = self.run.version()
            if made_by in (None, __version__):
                raise
            raise InputError(f"{error}. The run was made by hrmas_sparse {made_by}, this is {__version__}; "
                             f"{option('fresh')} sets it aside and starts over") from error

    def checkpoint(self, learner, position):
        save_state(self.run.checkpoint_path, learner, position, self.identity)

    def thresholds(self):
        return self.run.thresholds()

    def keep_thresholds(self, v_th):
        write_json(self.run.manifest_path, self.run.manifest() | {"v_th": list(v_th)})

    def cut(self, lines):
        path, whole = self.run.metrics_path, self.run.metrics_text()
        kept = whole.split(b"\n")[:-1][:lines]
        if len(kept) < lines:
            raise InputError(f"{path}: expected at least {lines} lines, found {len(kept)}; "
                             f"{option('fresh')} sets the run aside and starts over")
        text = b"".join(line + b"\n" for line in kept)
        if text != whole or files.shared(path):  # never in place: a file may have other names
            write_bytes(path, text)

    def add_line(self, line):
        append_line(self.run.metrics_path, json.dumps(line))  # on the disk before the next checkpoint is

    def architecture(self, network_settings):
        return architecture.load_fitting(self.run.architecture_path, network_settings)

    def keep_architecture(self, architectures):
        architecture.save(self.run.architecture_path, architectures)

    def keep_search(self, alpha, intrinsic):
        self._save("search", arrayfile.flatten({"alpha": alpha.flatten(), "intrinsic": intrinsic.flatten()}))

    def searched(self):
        path = self.run.search_path
        if not os.path.lexists(path):
            return None
        arrays, about = arrayfile.load(path, "search")
        if about.get("identity") != self.identity:
            raise InputError(f"{path}: of another run; {option('fresh')} sets this one aside and starts over")
        layers = len(self.run.config().network.neurons) + 1
        parts = arrayfile.unflatten(arrays, "alpha", "intrinsic")
        alpha, intrinsic = (Parameters.unflatten(part, layers) for part in parts)
        return alpha.replaced(intrinsic)

    def keep_diagnosis(self, cost):
        write_json(self.run.diagnosis_path, cost)

    def keep_weights(self, parameters):
        self._save("weights", arrays_of(parameters))

    def _save(self, kind, arrays):
        arrayfile.save(getattr(self.run, f"{kind}_path"), kind, arrays, {"identity": self.identity})

    def finish(self, result):
        write_text(self.run.summary_path, "\n".join(summary(self.run, result)) + "\n")
        write_json(self.run.result_path, result)
