"""Who is taken for whom, in words: recall of each class and the confusion matrix."""

import numpy as np

from hrmas_sparse.run.score import recall


def recall_table(confusion, names):
    """Lines of text: samples, recall and decisions of each class.

    Parameters
    ----------
    confusion : (classes, classes) counts, [true][decided]
    names : of the classes
    """
    counts, wide = np.array(confusion), max(5, *map(len, names))
    lines = [f"{'class':{wide}s} samples recall decided"]
    for name, share, there, decided in zip(names, recall(confusion), counts.sum(axis=1), counts.sum(axis=0)):
        text = f"{100 * share:5.1f}%" if there else "     -"
        lines.append(f"{name:{wide}s} {there:7d} {text} {decided:7d}")
    return lines


def confusion_table(confusion, names):
    """Lines of text: a row for each true class, a column for each decided one."""
    counts = np.array(confusion)
    wide, cell = max(4, *map(len, names)), max(2, len(str(counts.max())), *(len(name[:4]) for name in names))
    head = " ".join(f"{name[:4]:>{cell}s}" for name in names)
    return [f"{'true':{wide}s} {head}  <- decided"] + [
        f"{name:{wide}s} " + " ".join(f"{n or '.':>{cell}}" for n in row) for name, row in zip(names, counts.tolist())]


def class_names(about, classes):
    """The names of a run's classes; numbers where a version before kept none.

    Parameters
    ----------
    about : dict, "data" of its manifest
    classes : how many there are
    """
    names = about.get("class_names")
    if isinstance(names, list) and len(names) == classes and all(isinstance(name, str) for name in names):
        return names
    return [str(n) for n in range(classes)]
