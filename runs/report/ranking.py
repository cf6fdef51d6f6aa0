"""Experiments' folders as tables in Markdown: every row on every data set, against the baseline, pair by pair."""

from hrmas_sparse.storage.errors import InputError
from runs.report import collect, stats
from runs.report.tables import interval, markdown, per_cent, points, rounded

NONE = "\N{EN DASH}"


def standing(study):
    """One dict for each row of a study at its first size, those of other methods among them.

    n : pairs (seed, partition); mean : of all; official, others : means of the official partition and of the others,
    std : over the seeds of the official one; difference : baseline - row over the pairs both have, or None;
    processor_hours : of all runs together, or None
    """
    base = {run.pair: run.accuracy for run in study.shown}
    ours = {row: runs for (row, neurons), runs in study.groups.items() if neurons == study.sizes[0]}
    rows = []
    for row, title in ((row, entry["title"]) for row, entry in study.record["rows"].items()):
        runs = ours.get(row) or study.peers.get(row, [])
        if not runs:
            continue
        official = [run.accuracy for run in runs if run.partition == "official"]
        others = [run.accuracy for run in runs if run.partition != "official"]
        hours = [run.processor_hours for run in runs]
        rows.append({
            "row": row, "title": title, "n": len(runs), "mean": _mean([run.accuracy for run in runs]),
            "official": _mean(official), "std": stats.summarise(official).std if official else None,
            "others": _mean(others), "processor_hours": None if None in hours else sum(hours),
            "difference": None if row == study.record["baseline"] else stats.difference(
                {run.pair: run.accuracy for run in runs}, base, runs[0].test_over_train)})
    return rows


def _mean(values):
    return sum(values) / len(values) if values else None


def heading(study):
    """Return a study's data set; a stand-in is named as one."""
    if study.runs:
        name, real = study.runs[0].settings.data.dataset, collect.provenance(study.runs).startswith(("real", "a part"))
    else:
        result = next(iter(study.peers.values()))[0].result
        name, real = result["data"].get("dataset", "unknown data"), result.get("provenance") == "real"
    return f"{name}" if real else f"{name}, stand-in"


def text(folders):
    """Return the tables of some experiments' folders; one without a finished run is named."""
    studies, left_out = [], []
    for folder in folders:
        try:
            studies.append(collect.read(str(folder)))
        except InputError as error:
            left_out.append(str(error))
    parts = [_overview(studies), *map(_one, studies)] if studies else []
    return "\n\n".join([*parts, *(f"Left out: {reason}" for reason in left_out)]) + "\n"


def _overview(studies):
    """Mean accuracy of every row on every data set, with the number of pairs."""
    means = [{row["row"]: f"{per_cent(row['mean'])} ({row['n']})" for row in standing(study)} for study in studies]
    titles = {key: row["title"] for study in reversed(studies) for key, row in study.record["rows"].items()}
    order = dict.fromkeys(key for study in studies for key in study.record["rows"])
    rows = [[titles[key], *(own.get(key, NONE) for own in means)] for key in order if any(key in own for own in means)]
    return (markdown(["test accuracy, % (pairs)", *map(heading, studies)], rows)
            + "\n\nMeans over all pairs of seed and partition, their number in brackets.")


def _one(study):
    """The rows of one data set: partitions apart, differences, processor time."""
    base = study.title(study.record["baseline"])
    rows = []
    for row in standing(study):
        found, hours = row["difference"], row["processor_hours"]
        compared = [NONE] * 5 if found is None else [
            str(found.n), points(found.mean), interval(found.interval), interval(found.corrected),
            f"{found.better} / {found.equal} / {found.worse}"]
        spread = f" ± {per_cent(row['std'])}" if row["std"] is not None else ""
        rows.append([row["title"], str(row["n"]), per_cent(row["mean"]), per_cent(row["official"]) + spread,
                     per_cent(row["others"]), *compared, rounded(hours, 3),
                     rounded(None if hours is None else hours / row["n"], 4)])
    header = ["", "runs", "mean, %", "official, %", "other partitions, %", "pairs", f"{base} \N{MINUS SIGN} row",
              "95 % interval", "corrected interval", "better / equal / worse", "processor h", "processor h a run"]
    missing = f"\n\nNot finished: {', '.join(study.missing)}." if study.missing else ""
    about = (f"Data: {collect.data_in_words(study.runs)}; "
             f"{collect.settings_in_words((study.shown or study.runs)[0].settings)}; {collect.commits(study.runs)}."
             ) if study.runs else "No run of our networks has finished yet, so there is nothing to compare with."
    return (f"### {heading(study)}\n\n{about}\n\n{markdown(header, rows)}\n\nDifferences in percentage points, over "
            "pairs of the same seed and partition; the interval is Student's t, the corrected one heeds that "
            "partitions share samples (Nadeau and Bengio 2003). Processor hours are those of all threads." + missing)
