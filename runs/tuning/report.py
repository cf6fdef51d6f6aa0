"""What a study found: the best settings as a TOML file, a picture, a few words."""

import json

from data_prep.load import configured, is_file
from hrmas_sparse import environment
from hrmas_sparse.run.figure import save
from hrmas_sparse.settings.load import profiles
from hrmas_sparse.settings.schema import SECTIONS
from hrmas_sparse.storage.atomic import write_text

EPOCHS = ("search_epochs", "retrain_epochs")
SHOWN = 5                   # settings whose trials are drawn one by one


def write(plan, study, defaults):
    """Write best.toml and tuning.png into a study's folder.

    Parameters
    ----------
    plan : what a trial is, see :mod:`runs.tuning.plans`; study : :class:`runs.tuning.study.Study`
    defaults : accuracy of the settings as they are, or None

    Returns
    -------
    str, what it found, in a few lines
    """
    best, home, options = study.best(), plan.home, plan.options
    if best is None:
        return f"{home}: no trial has ended yet"
    content, use = plan.found(study.overrides(best))
    text = f"trial {best.number}: {100 * best.value:.2f} %" + (
        f", the settings as they are: {100 * defaults:.2f} %" if defaults is not None else "")
    where = f"{' and '.join(options.partitions)} of the training part of {options.dataset}"
    write_text(home / "best.toml", f"# Found by trials on {where}: mean accuracy on the samples set aside\n"
                                   f"# {text}\n{content}")
    lines = [f"{len(study.finished())} of {study.count()} trials went to their ends. Best is {text}",
             f"{home / 'best.toml'}: its settings, for {use}"]
    try:
        environment.matplotlib()
    except ImportError:
        return "\n".join([*lines, f"no picture without matplotlib: {environment.install('plots')}"])
    if len(study.finished()) > 1:
        draw(study, defaults, home / "tuning.png")
        lines.append(f"{home / 'tuning.png'}: the trials, and how much each setting matters")
    return "\n".join(lines)


def as_toml(settings, dataset, tuned=()):
    """Settings as a file that ``--data`` takes, whole: no preset changes them.

    The epochs are those that the data set's profiles have, unless they are among the ``tuned``; what else the profiles
    differ in is theirs, too, unless somebody has set it.
    """
    table = {key: value for key, value in settings.as_dict().items() if key in SECTIONS}
    table["data"]["partition"] = "official"
    names = [settings.profile] if is_file(dataset) else profiles(dataset)
    lines = [f'\ndefault_profile = "{settings.profile}"']
    own = {name: configured(dataset, settings.preset, name).as_dict()["training"] for name in names}
    here = own[settings.profile]
    of_profiles = [key for key, value in table["training"].items() if f"training.{key}" not in tuned
                   and (key in EPOCHS or value == here[key] and any(value != other[key] for other in own.values()))]
    for name, values in own.items():
        table[f"profile.{name}.training"] = {key: values[key] for key in of_profiles}
    for key in of_profiles:
        del table["training"][key]
    for section, values in table.items():
        lines += ["", f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def draw(study, defaults, path):
    """Write a picture: how much each setting matters, all trials in order, and each trial by the settings that do."""
    trials, importance = study.finished(), study.importance()
    order = sorted(importance, key=importance.get)
    names = order[::-1][:SHOWN]
    figure = environment.new_figure(figsize=(2.3 * SHOWN, 5.6))
    grid = figure.add_gridspec(2, 2 * SHOWN)
    bars, history = figure.add_subplot(grid[0, :SHOWN - 1]), figure.add_subplot(grid[0, SHOWN - 1:])
    slices = [figure.add_subplot(grid[1, 2 * n:2 * n + 2]) for n in range(len(names))]
    bars.barh(order, [importance[name] for name in order], color="#0b4f8a")
    bars.set_title("importance of each setting", fontsize=9)
    numbers, values = [trial.number for trial in trials], [100 * trial.value for trial in trials]
    history.plot(numbers, values, "o", color="#0b4f8a", markersize=3)
    history.step(numbers, [max(values[:n + 1]) for n in range(len(values))], where="post", color="#e69f00")
    if defaults is not None:
        history.axhline(100 * defaults, color="#666666", linestyle="--", linewidth=1)
    history.set_title("all trials, the best so far, the settings as they are (dashed)", fontsize=9)
    for axes in (history, slices[0]):
        axes.set_ylabel("samples set aside, % right", fontsize=8)
    for axes, name in zip(slices, names):
        _slice(axes, name, trials, values)
    for axes in (bars, history, *slices):
        axes.tick_params(labelsize=7)
    figure.tight_layout()
    save(figure, path)


def _slice(axes, name, trials, values):
    """The accuracy of each trial by one of its settings."""
    found = [trial.params[name] for trial in trials]
    if isinstance(found[0], str):
        choices = trials[0].distributions[name].choices
        axes.plot([choices.index(one) for one in found], values, "o", color="#0b4f8a", markersize=3)
        axes.set_xticks(range(len(choices)), [choice.partition(" ")[0].partition("=")[2] for choice in choices])
        axes.set_xlim(-0.5, len(choices) - 0.5)
    else:
        axes.plot(found, values, "o", color="#0b4f8a", markersize=3)
        if trials[0].distributions[name].log:
            axes.set_xscale("log")
            low, high = min(found), max(found)
            ticks = [low, (low * high) ** 0.5, high]
            axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            axes.minorticks_off()
    axes.set_title(name, fontsize=9)
