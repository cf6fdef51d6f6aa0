"""What a finished run found, in words."""

import json

from hrmas_sparse.engine import architecture
from hrmas_sparse.engine.recurrence import Discrete
from hrmas_sparse.run.classes import class_names, confusion_table, recall_table
from hrmas_sparse.run.warnings import complaints_of_test, kind, lasting
from hrmas_sparse.settings.load import OWN, datasets, load
from hrmas_sparse.storage.errors import InputError, printable


def connections(recurrence):
    """Counts of a layer's recurrent connections by type; None where they have none (no recurrence, or all free)."""
    if not isinstance(recurrence, Discrete):
        return None
    motif = recurrence
    excitatory = int(motif.excitatory.sum())
    return {"possible": motif.possible, "excitatory": excitatory, "inhibitory": motif.excitatory.size - excitatory,
            "none": motif.possible - motif.excitatory.size, "dense": motif.neurons**2}


def summary(run, result):
    """Lines of text about a finished run; the provenance stands in the title."""
    manifest, test = run.manifest(), result["test"]
    data = manifest["config"]["data"]["dataset"]
    if manifest["data"]["provenance"] != "real":
        data += f" ({manifest['data']['provenance']}: not the real recordings)"
    lines = [printable(f"{data}, seed {manifest['seed']}, preset {manifest['config']['preset']}, "
                       f"profile {manifest['config']['profile']}"), "",
             f"test accuracy   {100 * test['accuracy']:.2f} %  of {test['samples']} samples" if test
             else "no test part", f"  chance        {100 * result['chance']:.2f} %"]
    if result["counts_baseline"] is not None:
        lines.append(f"  counts alone  {100 * result['counts_baseline']:.2f} %  "
                     "(logistic regression on spikes per channel)")
    lines += [f"train accuracy  {100 * result['train']['accuracy']:.2f} %",
              f"trained weights {result['trained_weights']:,}",
              *_ended_early(run), *_made_discrete(run.diagnosis()),
              "time            " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result["seconds"].items())]
    net = run.config().network
    architectures = architecture.load_fitting(run.architecture_path, net) or []
    for n, (own, counts) in enumerate(zip(architectures, result["recurrence"]), start=1):
        lines += ["", f"layer {n}: {counts['excitatory']:,} excitatory, {counts['inhibitory']:,} inhibitory, "
                  f"{counts['none']:,} none of {counts['possible']:,} possible connections; "
                  f"{100 * (counts['excitatory'] + counts['inhibitory']) / counts['dense']:.2f} % of a dense matrix"]
        lines += own.describe()
    if not architectures:
        lines += ["", "fully connected recurrence, every weight trained" if net.recurrence == "full"
                  else "no recurrent connections"]
    return lines + _warnings(run.metrics(), test and complaints_of_test(test, names_of(run, test)))


def details(run):
    """Further lines about a finished run: what its settings change, whose architecture it has, its decisions."""
    manifest, settings, test = run.manifest(), run.config(), run.result()["test"]
    lines, overrides = [], changed(settings)
    if overrides:
        lines += ["", printable(f"not as in preset {settings.preset}, profile {settings.profile}: "
                                f"{'; '.join(overrides)}")]
    origin = manifest.get("architecture_of")
    if isinstance(manifest.get("architecture"), str):
        lines += ["", f"architecture of {origin}" if isinstance(origin, str) and origin.isprintable()
                  else "the architecture was given"]
    if test:
        names = names_of(run, test)
        lines += ["", *recall_table(test["confusion"], names), "", *confusion_table(test["confusion"], names)]
    return lines


def names_of(run, test):
    """The names of a run's classes."""
    return class_names(run.manifest()["data"], len(test["confusion"]))


def changed(settings):
    """The settings that are not as preset and profile have them, as "section.key = value (theirs: value)"."""
    try:
        theirs = load(settings.data.dataset if settings.data.dataset in datasets() else OWN, settings.preset,
                      settings.profile)
    except InputError:  # a preset or profile of the user's own file
        return []
    ours, theirs = settings.as_dict(), theirs.as_dict()
    sections = [name for name in ours if isinstance(ours[name], dict) and not (
        name == "data" and settings.data.dataset not in datasets())]
    return [f"{section}.{key} = {json.dumps(value)} (theirs: {json.dumps(theirs[section][key])})"
            for section in sections for key, value in ours[section].items() if value != theirs[section][key]]


def _ended_early(run):
    """Where the search ended, if it was to end once alpha had decided; see patience.py."""
    settings, phases = run.config(), [line["phase"] for line in run.metrics()]
    if not settings.search.patience or not any(phase.startswith("search") for phase in phases):
        return []
    done = " + ".join(str(phases.count(f"search-{n}")) for n in (1, 2))
    return [f"search          {done} of {settings.stages[0]} + {settings.stages[1]} epochs at most; a stage ends after "
            f"{settings.search.patience} without a change"]


def _made_discrete(diagnosis):
    """What making the searched network discrete cost, see diagnosis.py."""
    if diagnosis is None:
        return []
    text = {name: f"{100 * diagnosis[name]['accuracy']:.2f} %" for name in ("relaxed", "discrete", "reset", "adapted")
            if diagnosis[name]}
    lines = [f"made discrete   {text['relaxed']} -> {text['discrete']}  "
             f"(weights of the search, {diagnosis['relaxed']['samples']} samples that judged alpha)"]
    if "adapted" in text:
        lines.append(f"  plasticity    {text['adapted']} after {diagnosis['windows']} windows; "
                     f"{text['reset']} with R and tau as the search began")
    return lines


def _warnings(metrics, of_test):
    """What was wrong with a layer, each once, with the first epoch it was seen in; what the test shows."""
    first, last = {}, {line["phase"]: line.get("warnings", []) for line in metrics}
    for line in metrics:
        phase = line["phase"]
        for complaint in line.get("warnings", []):
            if lasting(complaint, last[phase]):
                first.setdefault((phase, kind(complaint)), f"{phase}, epoch {line['epoch']}: {complaint}")
    texts = [*first.values(), *(f"test: {text}" for text in of_test or [])]
    return ["", *(f"warning: {text}" for text in texts)] if texts else []
