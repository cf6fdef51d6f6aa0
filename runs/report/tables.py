"""The numbers of a report: what each row scores, how it differs from the baseline, how long it takes."""

import numpy as np

from hrmas_sparse.run.score import recall
from runs.report import collect, stats


def milliseconds(runs):
    """Wall clock per batch of the search and of retraining, mean over runs; None for what was not done."""
    def mean(phases, which):
        values = [1000 * run.seconds(*phases) / run.iterations()[which] for run in runs if run.iterations()[which]]
        return sum(values) / len(values) if values else None
    return mean(("search-1", "search-2"), 0), mean(("retrain",), 1)


def scores(study):
    """One dict for each row and layer size: how many runs, best, mean and std of the test accuracy, ..."""
    rows = []
    for (row, neurons), runs in study.groups.items():
        base = study.baseline(neurons)
        rows.append({
            "row": row, "title": study.title(row), "neurons": list(neurons),
            "changes": collect.changes(runs[0].settings, base[0].settings) if base else [],
            **_summary(runs)})
    return rows + [{"row": row, "title": study.title(row), "neurons": [], "changes": [], **_summary(runs)}
                   for row, runs in study.peers.items()]


def _summary(runs):
    return {**stats.summarise([run.accuracy for run in runs])._asdict(),
            "trained_weights": sum(run.result["trained_weights"] for run in runs) / len(runs)}


def counts_baseline(study):
    """Accuracy of logistic regression on spikes per channel, mean over the partitions; None where it was not done."""
    baselines = {run.partition: run.result["counts_baseline"] for run in study.runs}
    values = [value for value in baselines.values() if value is not None]
    return sum(values) / len(values) if values else None


def differences(study):
    """One dict for each row but the baseline's: its difference to the baseline at the same size, pair by pair."""
    rows = []
    others = [((row, ()), runs) for row, runs in study.peers.items()]
    for (row, neurons), runs in [*study.groups.items(), *others]:
        base = study.baseline(neurons) if neurons else study.shown
        if row == study.record["baseline"] or not base:
            continue
        ours, other = ({run.pair: run.accuracy for run in group} for group in (runs, base))
        difference = stats.difference(other, ours, runs[0].test_over_train)
        if difference:
            rows.append({"row": row, "title": study.title(row), "neurons": list(neurons), **difference._asdict()})
    return rows


def made_discrete(study):
    """One dict for each row that was searched: mean accuracies around the step to the discrete architecture.

    "cost" and "repair" are paired differences of accuracies, discrete - relaxed and adapted - discrete; what a search
    without plasticity has not is None. See :mod:`hrmas_sparse.run.diagnosis`.
    """
    rows = []
    for (row, neurons), runs in study.groups.items():
        scored = {run.pair: run.diagnosis for run in runs if run.diagnosis}
        if not scored:
            continue
        each = {name: {pair: scores[name]["accuracy"] for pair, scores in scored.items() if scores[name]}
                for name in ("relaxed", "reset", "discrete", "adapted")}
        # Each run scores one half of its training part and has learnt from the other.
        cost, repair = (stats.difference(each[before], each[after], 1.0)
                        for before, after in (("relaxed", "discrete"), ("discrete", "adapted")))
        rows.append({"row": row, "title": study.title(row), "neurons": list(neurons), "n": len(scored),
                      "windows": max(scores["windows"] for scores in scored.values()),
                      **{name: sum(values.values()) / len(values) if values else None for name, values in each.items()},
                      "cost": cost._asdict(), "repair": repair and repair._asdict()})
    return rows


def times(study):
    """One dict for each row and layer size: milliseconds a batch, minutes a run; wall clock."""
    rows = []
    for (row, neurons), runs in study.groups.items():
        search, retrain = milliseconds(runs)
        rows.append({"row": row, "title": study.title(row), "neurons": list(neurons), "search_ms": search,
                      "retrain_ms": retrain, **processor(runs),
                      "search_epochs": sum(run.search_epochs for run in runs) / len(runs),
                      "search_minutes": sum(run.seconds("search-1", "search-2") for run in runs) / len(runs) / 60,
                      "retrain_minutes": sum(run.seconds("retrain") for run in runs) / len(runs) / 60})
    return rows


def processor(runs):
    """Of a row: mean number of architectures tried, processor hours a run; None where they were not measured."""
    means = {"candidates": sum(run.candidates for run in runs) / len(runs)}
    for name in ("choosing_hours", "processor_hours"):
        values = [getattr(run, name) for run in runs]
        means[name] = None if None in values else sum(values) / len(values)
    return means


def equal_times(study):
    """One dict for each row whose candidates were to take as long as another row's search, over common pairs."""
    rows = []
    for (row, neurons), runs in study.groups.items():
        other = {run.pair: run for run in study.groups.get((study.like(row), neurons), [])}
        pairs = [(run, other[run.pair]) for run in runs if run.pair in other]
        hours = [(run.choosing_hours, ref.choosing_hours) for run, ref in pairs]
        if not hours or any(None in each for each in hours):
            continue
        rows.append({"row": row, "title": study.title(row), "neurons": list(neurons), "like": study.like(row),
                     "n": len(pairs), "candidates": [run.candidates for run, _ in pairs],
                     "share": sum(ours for ours, _ in hours) / sum(theirs for _, theirs in hours)})
    return rows


def single_runs(study):
    """One dict for each run: test accuracy with its Wilson interval, what was found."""
    return [{"row": run.row, "title": study.title(run.row), "neurons": list(run.neurons), "seed": run.seed,
             "partition": run.partition, "accuracy": run.accuracy,
             "wilson": stats.wilson(run.accuracy, run.result["test"]["samples"]),
             "train_accuracy": run.result["train"]["accuracy"], "motif_sizes": run.motif_sizes,
             "hidden_rate": run.result["test"]["rates"][0]} for run in study.runs]


def numbers(study):
    """Everything above, as JSON takes it."""
    return {"scores": scores(study), "differences": differences(study), "made_discrete": made_discrete(study),
            "times": times(study), "equal_times": equal_times(study), "runs": single_runs(study)}


# ---- as text ---------------------------------------------------------------------------------------------------


def per_cent(value, digits=2):
    """A fraction as per cent, or a dash for None."""
    return "\N{EN DASH}" if value is None else f"{100 * value:.{digits}f}"


def points(value):
    """A difference of fractions in percentage points, with its sign."""
    return f"{100 * value:+.2f}".replace("-", "\N{MINUS SIGN}")


def interval(pair, text=points):
    """"from to" as text, or a dash."""
    return "\N{EN DASH}" if pair is None else f"{text(pair[0])} to {text(pair[1])}"


def size(neurons):
    """[1600] -> "1,600" """
    return " + ".join(f"{n:,}" for n in neurons)


def rounded(value, digits=1):
    """A number, or a dash for None."""
    return "\N{EN DASH}" if value is None else f"{value:,.{digits}f}"


def score_rows(study):
    """Header and rows of the table of accuracies."""
    return (["", "neurons", "differs in", "n", "best", "mean", "std", "trained weights"],
            [[row["title"], size(row["neurons"]), ", ".join(row["changes"]), str(row["n"]), per_cent(row["best"]),
              per_cent(row["mean"]), per_cent(row["std"]), rounded(row["trained_weights"], 0)]
             for row in scores(study)])


def difference_rows(study):
    """Header and rows of the table of paired differences; a column more where partitions are several."""
    compared = differences(study)
    several = any(row["corrected"] for row in compared)
    rows = [[row["title"], size(row["neurons"]), str(row["n"]), points(row["mean"]), interval(row["interval"]),
             *([interval(row["corrected"])] if several else []),
             f"{row['better']} / {row['equal']} / {row['worse']}"] for row in compared]
    return ["", "neurons", "pairs", "mean difference", "95 % interval", *(["corrected interval"] if several else []),
            "better / equal / worse"], rows


def discrete_rows(study):
    """Header and rows of the table about the step to the discrete architecture."""
    def change(row):
        if row is None:
            return "\N{EN DASH}"
        around = row["corrected"] or row["interval"]
        return points(row["mean"]) + (f" ({interval(around)})" if around else "")
    rows = [[row["title"], size(row["neurons"]), str(row["n"]),
             *(per_cent(row[name]) for name in ("relaxed", "reset", "discrete", "adapted")),
             change(row["cost"]), change(row["repair"])] for row in made_discrete(study)]
    return ["", "neurons", "n", "relaxed", "reset", "discrete", "with IP", "discrete \N{MINUS SIGN} relaxed",
            "with IP \N{MINUS SIGN} discrete"], rows


def time_rows(study):
    """Header and rows of the table of times."""
    return (["", "neurons", "search, ms a batch", "retraining, ms a batch", "search, epochs", "search, min a run",
             "retraining, min a run", "candidates", "choosing, processor h", "whole run, processor h"],
            [[row["title"], size(row["neurons"]), rounded(row["search_ms"]), rounded(row["retrain_ms"]),
              rounded(row["search_epochs"] or None), rounded(row["search_minutes"] or None),
              rounded(row["retrain_minutes"]), rounded(row["candidates"]), rounded(row["choosing_hours"], 4),
              rounded(row["processor_hours"], 4)] for row in times(study)])


def run_rows(study):
    """Header and rows of the table of all runs."""
    return (["", "neurons", "seed", "partition", "test", "95 % interval", "train", "motif", "hidden rate, %"],
            [[row["row"], size(row["neurons"]), str(row["seed"]), row["partition"], per_cent(row["accuracy"]),
              interval(row["wilson"], per_cent), per_cent(row["train_accuracy"]), row["motif_sizes"] or "\N{EN DASH}",
              per_cent(row["hidden_rate"])] for row in single_runs(study)])


def class_rows(study, names):
    """Header and rows of the table of classes, all shown runs together: samples, recall, decisions."""
    counts = sum(np.array(run.result["test"]["confusion"]) for run in study.shown)
    return (["class", "samples", "recall", "decided"],
            [[name, str(there), per_cent(share) if there else "\N{EN DASH}", str(decided)]
             for name, there, share, decided in zip(names, counts.sum(axis=1), recall(counts), counts.sum(axis=0))])


def markdown(header, rows):
    """A table as Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])
