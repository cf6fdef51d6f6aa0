"""The program ``hrmas``: one subcommand per job, user mistakes as one line and exit status 2."""

import argparse
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

from hrmas_sparse import __version__
from hrmas_sparse.settings import validators as checks
from hrmas_sparse.settings import load as config
from hrmas_sparse.run import folder as rundir
from hrmas_sparse.storage.errors import Diverged, InputError
from hrmas_sparse.storage.locks import locked
from hrmas_sparse.run.parent import end_with_stdin

CACHE = Path("data/cache")


def _parser():
    parser = argparse.ArgumentParser(prog="hrmas", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"hrmas_sparse {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name, function, text):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(function=function)
        return sub

    def job_options(sub):
        sub.add_argument("--raw", type=Path, help="the raw recordings: a folder, or the file of N-TIDIGITS")
        sub.add_argument("--seeds", type=checks.argument(checks.seeds), default=[0],
                         help="0, 0-4 or 0,2,5; one run each, on a GPU together (default 0)")
        sub.add_argument("--name", help="name of the run; several seeds add -s<seed>")
        sub.add_argument("--out", type=Path, default=rundir.OUT, metavar="DIR", help="where runs go (runs/out)")
        sub.add_argument("--backend", default="auto", help="auto, cpu or cuda")
        sub.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change a setting")
        sub.add_argument("--strict", action="store_true", help="never use the synthetic stand-in")
        sub.add_argument("--fresh", action="store_true", help="set an old run of that name aside and start over")

    sub = command("search", search, "the whole job: cache, search, discretise, retrain, test")
    sub.add_argument("dataset", help=f"{', '.join(config.datasets())}, or a settings file (TOML)")
    sub.add_argument("--preset", default="default", help="default, accurate or published")
    sub.add_argument("--profile", help="paper or demo (default: the data set's; demo for the stand-in)")
    sub.add_argument("--check-determinism", action="store_true",
                     help="instead: a short search twice, on one thread and on two, compared bit by bit")
    sub.add_argument("--end-with-stdin", action="store_true",
                     help="stop, checkpointed, when standard input ends: for programs that start runs")
    job_options(sub)

    sub = command("retrain", retrain, "train the architecture another run found, from fresh weights, and test it")
    sub.add_argument("run", help="a run's name or folder")
    job_options(sub)

    sub = command("evaluate", evaluate, "score a finished run on any raw recordings of the same layout")
    sub.add_argument("run", help="a run's name or folder")
    sub.add_argument("--raw", type=Path, help="raw recordings; default: those of the run")
    sub.add_argument("--split", choices=("train", "test"), default="test")
    sub.add_argument("--backend", default="auto")
    sub.add_argument("--strict", action="store_true", help="never use the synthetic stand-in")

    sub = command("data", data, "recordings and spike caches: fetch, build, verify, describe; check the front end")
    sub.add_argument("action", choices=("build", "verify", "info", "download", "check"))
    sub.add_argument("target", nargs="?", help="data set or settings file; for verify and info a cache file does too")
    sub.add_argument("--golden", type=Path, metavar="DIR", help="for check: folder of golden .npz files")
    sub.add_argument("--raster", type=Path, metavar="FILE.png", help="for info: draw a sample of each class")
    sub.add_argument("--raw", type=Path, help="the raw recordings; for download where they go (data/raw/<data set>)")
    sub.add_argument("--preset", default="default", help="as for search")
    sub.add_argument("--profile", help="as for search")
    sub.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    sub.add_argument("--strict", action="store_true")

    sub = command("gradcheck", gradcheck, "check the gradients against finite differences, or golden numbers")
    sub.add_argument("--golden", type=Path, metavar="DIR", help="folder of golden .npz files")
    sub.add_argument("--backend", default="auto")

    sub = command("doctor", doctor, "what is installed and found here, what is missing, how to install it")
    sub.add_argument("--gpu", action="store_true", help="instead: say nothing, or, with exit status 2, why no GPU "
                     "can be used")

    command("runs", runs, "list the runs in runs/out")
    sub = command("show", show, "what a run found")
    sub.add_argument("run", help="a run's name or folder")
    sub.add_argument("--figure", type=Path, metavar="FILE", help="draw it too: PNG, SVG or PDF (extra `plots`)")
    sub = command("diff", diff, "compare two runs: settings and results")
    sub.add_argument("a")
    sub.add_argument("b")
    sub.add_argument("--exact", action="store_true",
                     help="every array and attribute, bit by bit, wall clock apart; exit status 1 if any differs")
    return parser


# ---- commands: each returns the exit status ----------------------------------------------------------


def _prepare(settings, raw, strict, say=print, needed=("train", "test")):
    """The up to date cache of a configuration's data; one process at a time builds."""
    from data_prep import prepare
    from hrmas_sparse.data.cache import open_cache, verify_cache
    with locked(CACHE / "lock", str(CACHE), wait=True) if _writable(CACHE) else contextlib.nullcontext():
        path = prepare(settings.data, raw, CACHE, strict=strict, say=say, needed=needed)
    verify_cache(path)
    return open_cache(path)


def _writable(folder):
    """Whether a folder can be written to, or could if it were made."""
    while not folder.exists():
        folder = folder.absolute().parent
    return os.access(folder, os.W_OK)


def _run_name(args, default, seed):
    if args.name is None:
        return f"{default}-s{seed}"
    return args.name if len(args.seeds) == 1 else f"{args.name}-s{seed}"


def _check_names(args, default):
    """The names of the runs, one a seed, before any work is done for them."""
    names = [_run_name(args, default, seed) for seed in args.seeds]
    for name in names:
        if not checks.plain(name):
            raise InputError(f"--name: expected a plain name, found {name!r}")
    return names


def _every_seed(args, names, settings, cache, backend, raw, given=None, origin=None):
    """One run a seed; returns the worst exit status."""
    from data_prep.separability import count_baseline
    from hrmas_sparse.run import seeds
    facts = {"raw": str(raw) if raw else None, **(origin or {})}
    return seeds.execute(args.seeds, [args.out / name for name in names], settings, cache, backend, facts,
                         lambda: count_baseline(cache), given, args.fresh)


def search(args):
    from hrmas_sparse.engine.backends import get_backend
    if args.end_with_stdin:
        end_with_stdin()
    settings = config.load(args.dataset, args.preset, args.profile, args.set)
    names, backend = _check_names(args, settings.data.dataset), get_backend(args.backend)
    cache = _prepare(settings, args.raw, args.strict)
    if args.profile is None and cache.meta.provenance != "real":
        demo = config.load(args.dataset, args.preset, "demo", args.set)
        cache = cache if demo.data == settings.data else _prepare(demo, args.raw, args.strict)
        settings = demo
    if args.check_determinism:
        from hrmas_sparse.run.determinism import check
        return check(settings, args.seeds[0], cache, args.backend)
    return _every_seed(args, names, settings, cache, backend, args.raw)


def retrain(args):
    from hrmas_sparse.engine import architecture
    from hrmas_sparse.engine.backends import get_backend
    source = rundir.open_run(args.run)
    settings = config.with_overrides(source.config(), args.set)
    if settings.plasticity.carry_intrinsic:
        raise InputError("plasticity.carry_intrinsic: R and tau of the search are not kept; a retrained architecture "
                         "starts from tau_m. Add --set plasticity.carry_intrinsic=false")
    if not source.architecture_path.exists():
        raise InputError(f"{source.path}: has no architecture yet (or no recurrence); let its search end first")
    given = architecture.load(source.architecture_path)
    names, backend = _check_names(args, f"{source.path.resolve().name}-retrain"), get_backend(args.backend)
    raw = args.raw or source.manifest()["raw"]
    cache = _prepare(settings, raw, args.strict)
    origin = {"architecture": source.architecture_path.read_text(encoding="utf-8")}
    return _every_seed(args, names, settings, cache, backend, raw, given=given, origin=origin)


def evaluate(args):
    from hrmas_sparse.run.job import load_trained
    from hrmas_sparse.run.loop import evaluate as score
    run = rundir.open_run(args.run)
    settings = run.config()
    raw = args.raw or run.manifest()["raw"]
    cache = _prepare(settings, raw, args.strict, lambda line: print(line, file=sys.stderr), needed=(args.split,))
    network, parameters, intrinsic = load_trained(run, settings, cache.meta, args.backend)
    found = score(network, parameters, intrinsic, getattr(cache, args.split))
    real = "" if cache.meta.provenance == "real" else f" ({cache.meta.provenance})"
    print(f"{run.name} on {cache.meta.dataset}{real}, {args.split}: accuracy {100 * found['accuracy']:.2f} % of "
          f"{found['samples']} samples, loss {found['loss']:.4g}")
    return 0


def data(args):
    from data_prep.check import main as check
    from hrmas_sparse.data.cache import open_cache, verify_cache
    if args.action == "check":
        if args.golden is None or args.target is not None:
            raise InputError("data check: takes --golden DIR, the folder of golden .npz files, and nothing else")
        return check(args.golden)
    if args.target is None:
        raise InputError(f"data {args.action}: which data set? One of {', '.join(config.datasets())}, or a file")
    if args.action == "download":
        from data_prep.download import download
        download(config.load(args.target, overrides=args.set).data.dataset, args.raw)
        return 0
    if Path(args.target).suffix in (".h5", ".hdf5"):
        if args.action == "build":
            raise InputError(f"{args.target}: is a cache already; give a data set or a settings file")
        cache = open_cache(args.target)
    else:
        settings = config.load(args.target, args.preset, args.profile, args.set)
        cache = _prepare(settings, args.raw, args.strict, say=print if args.action == "build" else lambda line: None)
    if args.action == "build":
        print(cache.path)
    if args.action == "verify":
        verify_cache(cache.path)
        print(f"{cache.path}: sound")
    if args.action == "info":
        from data_prep.report import details, raster
        print("\n".join([str(cache.path), cache.summary(), *details(cache)]))
        if args.raster:
            raster(cache, args.raster)
            print(f"{args.raster}: one sample of each class")
    return 0


def gradcheck(args):
    from hrmas_sparse.gradcheck import main as check
    return check(args.golden, args.backend)


def doctor(args):
    from hrmas_sparse import doctor
    if args.gpu:
        doctor.require_gpu()
        return 0
    lines, works = doctor.report()
    print("\n".join(lines))
    return 0 if works else 1


def runs(args):
    found = rundir.all_runs()
    if not found:
        print(f"no runs in {rundir.OUT}; make one: hrmas search ntidigits")
    for run in found:
        print(rundir.status_line(run))
    return 0


def show(args):
    from hrmas_sparse.run.summary import summary
    run = rundir.open_run(args.run)
    if args.figure:
        from hrmas_sparse.run.figure import draw
        draw(run, args.figure)
        print(f"{args.figure}: how it learnt, its motif, its weights\n")
    if run.finished:
        print("\n".join(summary(run, run.result())))
        return 0
    print(rundir.status_line(run))
    if run.architecture_path.exists():
        from hrmas_sparse.engine import architecture
        for found in architecture.load(run.architecture_path):
            print("\n".join(found.describe()))
    return 0


def diff(args):
    from hrmas_sparse.run import diff as compare
    a, b = rundir.open_run(args.a), rundir.open_run(args.b)
    found = compare.exact_differences(a, b) if args.exact else compare.differences(a, b)
    if not found:
        print("bit-identical, wall clock apart" if args.exact else "same settings, data and results")
    print("\n".join(found), end="\n" if found else "")
    return 1 if found and args.exact else 0


class _Terminated(BaseException):
    """SIGTERM, outside training; as KeyboardInterrupt, so that what is half-written is cleaned away."""


@contextlib.contextmanager
def _terminable():
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(signum, frame):
        raise _Terminated

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv=None):
    """Run the program.

    Returns
    -------
    int, the exit status: 0 done, 1 a check failed or training diverged, 2 bad input, 128 + n stopped by signal n
    """
    args = _parser().parse_args(argv)
    try:
        with _terminable():
            return args.function(args)
    except InputError as error:
        print(f"hrmas: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("hrmas: interrupted", file=sys.stderr)
        return 130
    except _Terminated:
        print("hrmas: terminated", file=sys.stderr)
        return 143
    except MemoryError as error:
        print(f"hrmas: out of memory {error}; what was checkpointed is kept", file=sys.stderr)
        return 1
    except OSError as error:  # a disk or folder that failed where nobody expected it to
        print(f"hrmas: {error.filename or 'input or output'}: {error.strerror or error}; what was checkpointed is kept",
              file=sys.stderr)
        return 1
    except Diverged as error:
        print(f"hrmas: training diverged: {error}; the last checkpoint is kept. Try a smaller training.lr or "
              "network.slope_cap, or a larger network.v_th", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
