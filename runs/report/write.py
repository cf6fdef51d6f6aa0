"""Write the report of an experiment: report.html, and figures/ as PNG and SVG, in its folder.

    hrmas report table3-ti46
"""

import io
import sys

from hrmas_sparse.storage.atomic import write_bytes, write_json, write_text
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.run.figure import plots, save
from runs.report import collect, figures, networks, page, tables

WIDEST = 8.8  # inches; a figure that wide takes the whole width of the page

# Name of the file, what draws it.
SEARCH = [("loss-accuracy", figures.loss_and_accuracy), ("entropy", figures.entropies),
          ("rates-intrinsic", figures.rates_and_intrinsic), ("intrinsic-end", figures.intrinsic)]
FOUND = [("motif", networks.motif), ("motifs", networks.motifs), ("weights", networks.weights)]
DOES = [("confusion", networks.confusion), ("raster", networks.raster)]


class Drawn:
    """Draws figures into a folder and remembers what could not be drawn."""

    def __init__(self, study, folder):
        self.study, self.folder, self.left_out = study, folder, []
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name, draw):
        """A figure as HTML, written as PNG and SVG; empty text where there is nothing to draw."""
        with plots().rc_context(figures.STYLE):
            try:
                drawn = draw(self.study)
            except InputError as error:
                self.left_out.append(f"{name}: {error}")
                return ""
            return "" if drawn is None else self._written(name, *drawn)

    def _written(self, name, image, text, runs):
        vector = io.BytesIO()
        image.savefig(vector, format="svg", metadata={"Date": None}, bbox_inches="tight")
        write_bytes(self.folder / f"{name}.svg", vector.getvalue())
        save(image, self.folder / f"{name}.png", dpi=160)
        width = min(1.0, image.get_size_inches()[0] / WIDEST)
        return page.figure(vector.getvalue(), width, text, figures.in_full(runs))


def write(study):
    """Write the report of a :class:`collect.Study`; returns its path and what was left out."""
    drawn = Drawn(study, study.folder / "figures")
    parts = [*_warnings(study), _results(study, drawn)]
    if len(study.sizes) > 1:
        parts.append(page.section("Size", drawn("size", figures.scaling)))
    if figures.with_and_without(study):
        parts.append(page.section("The search", *(drawn(name, draw) for name, draw in SEARCH)))
    parts += _made_discrete(study)
    parts.append(page.section("Retraining", drawn("retraining", figures.retraining)))
    if study.shown:
        sections = [drawn(name, draw) for name, draw in FOUND]
        parts += [page.section("What was found", *sections)] if any(sections) else []
        classes = page.table(*tables.class_rows(study, networks.class_names(study)))
        parts.append(page.section("What it does", *(drawn(name, draw) for name, draw in DOES), classes))
    parts.append(_appendix(study, drawn))
    path = study.folder / "report.html"
    write_text(path, page.page(study.record["title"], _about(study), parts))
    write_json(study.folder / "numbers.json", tables.numbers(study))
    return path, drawn.left_out


def _about(study):
    runs = study.runs
    paper = f"The paper's {study.record['paper']}. " if study.record["paper"] else ""
    run = (study.shown or runs)[0]
    return [f"{paper}Data: {collect.data_in_words(runs)}.",
            f"{len(runs)} runs, {collect.which_in_words(runs)}; {collect.settings_in_words(run.settings)}; "
            f"{collect.commits(runs)}."]


def _warnings(study):
    texts = []
    words = collect.provenance(study.runs)
    if words.startswith("synthetic"):
        texts.append("These runs used a synthetic stand-in. Nothing here is a result on the real recordings.")
    elif words.startswith("a part"):
        texts.append(f"The recordings are {words}. Accuracies cannot be compared with those on the whole data set.")
    if study.missing:
        texts.append(f"Not finished, and so not in here: {', '.join(study.missing)}.")
    own = ("search.candidates:", "search.candidate_epochs:")     # measured for each run where a row is like another
    mixed = [study.title(row) for (row, _), runs in study.groups.items()
             if any(collect.settings_differ(runs[0].settings, run.settings, own if study.like(row) else ())
                    for run in runs)]
    if mixed:
        texts.append(f"Not all runs of a row have the same settings: {', '.join(dict.fromkeys(mixed))}.")
    if len({run.manifest["data"]["fingerprint"] for run in study.runs}) > 1:
        texts.append("The runs were made from recordings that are not all the same.")
    return [page.paragraph(text, "warning") for text in texts]


def _results(study, drawn):
    header, rows = tables.difference_rows(study)
    baseline = study.title(study.record["baseline"])
    parts = [page.table(*tables.score_rows(study), text_columns=(0, 2)), page.paragraph(_reading(study), "small")]
    parts.append(drawn("accuracies", figures.accuracies))
    if rows:
        parts += [page.table(header, rows), page.paragraph(_pairs(study, baseline), "small")]
    return page.section("Test accuracy, %", *parts)


def _reading(study):
    result = study.runs[0].result
    counts = tables.counts_baseline(study)
    counts = "" if counts is None else f"; logistic regression on spikes per channel scores {tables.per_cent(counts)} %"
    return (f"n is the number of runs, std the sample standard deviation over them. Chance is "
            f"{tables.per_cent(result['chance'])} %{counts}. One test sample is "
            f"{tables.per_cent(1 / result['test']['samples'])} percentage points.")


def _pairs(study, baseline):
    several = len({run.partition for run in study.runs}) > 1
    return (f"Differences to {baseline} in percentage points, over pairs of runs with the same seed and partition; "
            "the interval is Student's t on these differences. It speaks of other seeds, not of other test samples."
            + (" Partitions share samples, which makes it too narrow; the corrected interval averages over seeds and "
               "takes the variance over J partitions with equally many seeds as (1/J + test/train) times theirs "
               "(Nadeau and Bengio 2003); over others the sum of their squared shares of the pairs stands for 1/J."
               if several else ""))


def _made_discrete(study):
    """The section on the step to the discrete architecture, if any run has looked at it."""
    header, rows = tables.discrete_rows(study)
    if not rows:
        return []
    windows = max(row["windows"] for row in tables.made_discrete(study))
    text = ("Accuracy, %, before retraining, with the weights of the search: of the relaxed network, and of the "
            "discrete one made of it, on the half of the training part that judged alpha; means over n runs. Reset: "
            "discrete, R and tau as the search began; otherwise those of the search. With IP: discrete, and intrinsic "
            f"plasticity has run over the other half, in {windows} windows; weights stay. Differences are paired by "
            "run, in percentage points, with 95 % intervals as above. A discrete link weighs w_exc or w_inh where the "
            "relaxed one weighed a part of each.")
    return [page.section("Made discrete", page.table(header, rows), page.paragraph(text, "small"))]


def _appendix(study, drawn):
    parts = [page.table(*tables.time_rows(study)),
             page.paragraph("Wall clock, mean over runs. It depends on the machine and on what else ran there, other "
                            "runs of the experiment among them. Processor hours are those of all threads, mean over "
                            "runs; choosing is what comes before retraining: the search and candidates.", "small"),
             *_equal_times(study),
             page.table(*tables.run_rows(study), text_columns=(0, 3)),
             page.paragraph("The interval of a single run is Wilson's, for its share of the test samples. The hidden "
                            "rate is in spikes per neuron and step on the test part.", "small")]
    if drawn.left_out:
        parts.append(page.paragraph(f"Figures that could not be drawn: {'; '.join(drawn.left_out)}.", "small"))
    return page.section("Times and single runs", *parts)


def _equal_times(study):
    """What rows of candidates that fit into another row's search took, as it was measured."""
    texts = []
    for row in tables.equal_times(study):
        counts = collect.numbers_in_words(row["candidates"])
        texts.append(f"{row['title']}: {counts} candidates fitted into the processor time that the search of "
                     f"{study.title(row['like'])} took in the run of the same seed and partition; choosing among them "
                     f"took {tables.per_cent(row['share'], 0)} % of it, both measured ({row['n']} pairs).")
    return [page.paragraph(text, "small") for text in texts]


def run(options):
    """Write the report that `hrmas report` asks for and print its tables; returns the exit status."""
    plots()
    study = collect.read(options.name)
    if not study.runs:
        print(tables.markdown(*tables.score_rows(study)), end="\n\n")
        print(f"{study.folder}: no run of our networks has finished yet; report.html is written once one has")
        return 0
    path, left_out = write(study)
    for header, rows in (tables.score_rows(study), tables.difference_rows(study), tables.discrete_rows(study)):
        if rows:
            print(tables.markdown(header, rows), end="\n\n")
    for text in left_out:
        print(f"left out: {text}", file=sys.stderr)
    print(f"{path} and {path.parent / 'figures'}/*.png, *.svg")
    return 0
