"""Results as tables in Markdown."""

from statistics import mean, stdev


def tried(results):
    """A row for each setting tried: what differs from the method's first, accuracy on each validation part, mean."""
    lines = []
    for method in dict.fromkeys(r["method"] for r in results):
        rows = [r for r in results if r["method"] == method]
        parts = list(dict.fromkeys(r["partition"] for r in rows))
        start = rows[0]["settings"]
        lines += [f"{rows[0]['title']}: {_words(start)}", "", "| changed | " + " | ".join(parts)
                  + " | mean | training part | s |", "|---" * (len(parts) + 4) + "|"]
        for settings in _different(r["settings"] for r in rows):
            row = [r for r in rows if r["settings"] == settings]
            changed = {key: value for key, value in settings.items() if value != start[key]}
            each = [_percent([r for r in row if r["partition"] == part]) for part in parts]
            lines.append("| " + " | ".join([_words(changed) or "-", *each, _percent(row), _percent(row, "train"),
                                            f"{mean(r['seconds']['train'] for r in row):.0f}"]) + " |")
        lines.append("")
    return "\n".join(lines)


def scored(results):
    """A row for each method, a column for each partition: mean over the seeds, with their standard deviation."""
    parts = list(dict.fromkeys(r["partition"] for r in results))
    lines = ["| accuracy, % | " + " | ".join(parts) + " |", "|---" * (len(parts) + 1) + "|"]
    for method in dict.fromkeys(r["method"] for r in results):
        rows = [r for r in results if r["method"] == method]
        each = [_percent([r for r in rows if r["partition"] == part], spread=True) for part in parts]
        lines.append("| " + " | ".join([rows[0]["title"], *each]) + " |")
    return "\n".join(lines)


def _percent(results, split="test", spread=False):
    values = [100 * r[split]["accuracy"] for r in results]
    if not values:
        return ""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if spread and len(values) > 1 else "")


def _different(dicts):
    different = []
    for each in dicts:
        if each not in different:
            different.append(each)
    return different


def _words(settings):
    return ", ".join(f"{key} {value}" for key, value in settings.items())
