"""What the commands do; each returns the exit status. Those about data stand in data.py."""

import functools
import sys

from hrmas_sparse import environment, places
from hrmas_sparse.cli.data import configured, prepared
from hrmas_sparse.run.folder import all_runs, open_run, status_line
from hrmas_sparse.process import end_with_stdin
from hrmas_sparse.settings.load import with_overrides
from hrmas_sparse.settings.validators import check_name
from hrmas_sparse.storage.errors import InputError


def _run_name(options, default, seed):
    if options.name is None:
        return f"{default}-s{seed}"
    return options.name if len(options.seeds) == 1 else f"{options.name}-s{seed}"


def _check_names(options, default):
    """The names of the runs, one a seed, before any work is done for them."""
    names = [_run_name(options, default, seed) for seed in options.seeds]
    for name in names:
        check_name(name, "--name")
    return names


def _every_seed(options, names, settings, data, backend, raw, given=None, origin=None):
    """One run a seed; returns the worst exit status."""
    from hrmas_sparse.run.baseline import count_accuracy
    from hrmas_sparse.run.seeds import Task, execute
    from hrmas_sparse.run.signals import stop_on_signals
    task = Task(settings, data, backend, {"raw": environment.printable(raw) if raw else None, **(origin or {})}, given,
                None if options.baseline == "off" else functools.partial(count_accuracy, data))
    folders = [(options.out or places.out()) / name for name in names]
    with stop_on_signals() as stop:
        return execute(options.seeds, folders, task, stop, options.fresh)


def _raw_of(run):
    """The recordings a run was made of, if it was given any."""
    raw = run.manifest()["raw"]
    return raw and environment.as_path(raw)


def search(options):
    from hrmas_sparse.engine.selftest import tested_backend
    if options.end_with_stdin:
        end_with_stdin()
    settings, raw = configured(options)
    names, backend = _check_names(options, settings.data.dataset), tested_backend(options.backend)
    data = prepared(settings, raw, options.strict)
    if options.profile is None and data.meta.provenance != "real":
        options.profile = "demo"
        demo, _ = configured(options)
        data = data if demo.data == settings.data else prepared(demo, raw, options.strict)
        settings = demo
    if options.check_determinism:
        from hrmas_sparse.run.determinism import check
        return check(settings, options.seeds[0], data, options.backend)
    return _every_seed(options, names, settings, data, backend, raw)


def retrain(options):
    from hrmas_sparse.engine.selftest import tested_backend
    from hrmas_sparse.run.given import architectures_for, origin_of
    source = open_run(options.run)
    settings = _at_another_size(source, options.set)
    given = architectures_for(source, settings)
    names, backend = _check_names(options, f"{source.path.resolve().name}-retrain"), tested_backend(options.backend)
    raw = options.raw or _raw_of(source)
    data = prepared(settings, raw, options.strict)
    return _every_seed(options, names, settings, data, backend, raw, given, origin_of(source, given))


def _at_another_size(source, overrides):
    """The settings of a run that is retrained: of the motif sizes that were searched only the found ones must fit."""
    try:
        return with_overrides(source.config(), overrides)
    except InputError:
        words = " ".join(overrides)
        if "network.neurons" not in words or "network.motif_sizes" in words:
            raise
        sizes = sorted({layer.motif_size for layer in source.architecture()})
        return with_overrides(source.config(), [f"network.motif_sizes={sizes}", *overrides] if sizes else overrides)


def evaluate(options):
    from hrmas_sparse.run.classes import recall_table
    from hrmas_sparse.run.trained import Run
    run = open_run(options.run)
    settings = run.config()
    raw = options.raw or _raw_of(run)
    data = prepared(settings, raw, options.strict, lambda line: print(line, file=sys.stderr), needed=(options.split,))
    score = Run.of_folder(run, options.backend).score(getattr(data, options.split))
    if options.json or options.csv:
        from hrmas_sparse.run import scored
        print(scored.as_json(run, data, options.split, score) if options.json
              else scored.as_csv(data, options.split, score))
        return 0
    real = "" if data.meta.provenance == "real" else f" ({data.meta.provenance})"
    print(f"{run.name} on {data.meta.dataset}{real}, {options.split}: accuracy {100 * score.accuracy:.2f} % of "
          f"{score.samples} samples, loss {score.loss:.4g}")
    print("\n".join(recall_table(score.confusion, data.class_names)))
    return 0


def export(options):
    from hrmas_sparse.run.trained import Run
    Run.of_folder(open_run(options.run), "cpu").export(options.file, dt=options.dt, folded=options.folded)
    beside = f" and {options.file.with_suffix('.c').name}" if options.file.suffix == ".h" else ""
    print(f"{options.file}{beside}: see docs/howto/export.md")
    return 0


def gradcheck(options):
    from hrmas_sparse.gradcheck import main as check
    return check(options.golden, options.backend)


def doctor(options):
    from hrmas_sparse import doctor
    if options.gpu:
        doctor.require_gpu()
        return 0
    lines, works = doctor.self_test() if options.self_test else doctor.report()
    print("\n".join(lines))
    return 0 if works else 1


def runs(options):
    known = all_runs()
    if not known:
        print(f"no runs in {environment.printable(places.out())}; make one: hrmas search ntidigits")
    for run in known:
        print(status_line(run))
    return 0


def show(options):
    from hrmas_sparse.run.summary import details, summary
    run = open_run(options.run)
    if options.figure:
        from hrmas_sparse.run.figure import draw
        draw(run, options.figure)
        print(f"{options.figure}: how it learnt, its motif, its weights\n")
    if run.finished:
        print("\n".join([*summary(run, run.result()), *details(run)]))
        return 0
    print(status_line(run))
    if run.architecture_path.exists():
        from hrmas_sparse.engine import architecture
        for each in architecture.load(run.architecture_path):
            print("\n".join(each.describe()))
    return 0


def diff(options):
    from hrmas_sparse.run import diff as compare
    a, b = open_run(options.a), open_run(options.b)
    differing = compare.exact_differences(a, b) if options.exact else compare.differences(a, b)
    if not differing:
        print("bit-identical, wall clock apart" if options.exact else "same settings, data and results")
    print("\n".join(differing), end="\n" if differing else "")
    return 1 if differing and options.exact else 0
