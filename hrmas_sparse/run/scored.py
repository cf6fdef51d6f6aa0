"""What a network makes of a data set, for other programs: JSON or CSV."""

import csv
import io
import json

import numpy as np


def as_json(run, data, split, score):
    """One JSON object as text.

    Parameters
    ----------
    run : :class:`hrmas_sparse.run.folder.RunDir`
    data : :class:`hrmas_sparse.data.dataset.Dataset`, of which ``split`` ("train" or "test") was scored
    score : :class:`hrmas_sparse.run.score.Score`
    """
    recall = {name: None if np.isnan(share) else float(share) for name, share in zip(data.class_names, score.recall)}
    return json.dumps({
        "run": run.name, "dataset": data.meta.dataset, "provenance": data.meta.provenance, "split": split,
        **score.as_dict(), "class_names": list(data.class_names), "recall": recall,
        "predicted": [{"id": id, "class": true, "decided": decided} for id, true, decided in _samples(
            data, split, score)]}, indent=1)


def as_csv(data, split, score):
    """A header and a line for every sample: id, class, decided class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("id", "class", "decided"), *_samples(data, split, score)])
    return text.getvalue().rstrip("\n")


def _samples(data, split, score):
    names = data.class_names
    return [(id, names[true], names[decided]) for id, true, decided in zip(
        data.ids(split), getattr(data, split).labels.tolist(), score.predicted.tolist(), strict=True)]
