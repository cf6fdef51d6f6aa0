"""A process that gives mutated files to the commands that read them, with 2 GiB of memory and 20 seconds each.

A command must do its work, or say why not in one line of plain text; it must not touch another file.
run/test_mutations.py starts this, and asks for kinds of file, a line each: kind, mutations, seed. Each kind has a child
of its own, made of a process that has imported everything; the answer is a line too. The file "at" says which mutation
is being tried, should the child die of it.
"""

import contextlib
import faulthandler
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from pathlib import Path

import raw_mutations
import raws
from mutations import mutate
from raws import RAWS

SECONDS, MEMORY = 20, 2 << 30
os.fsync = lambda descriptor: None  # nobody pulls the plug here
KINDS = ("cache", "checkpoint", "weights", "search", "architecture", "manifest", "result", "metrics", "diagnosis",
         "experiment", "reported metrics", "reported search", "reported result")
RUN, TWIN, CACHE = Path("runs/out/one"), Path("runs/out/twin"), "cache.h5"
SETTINGS = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
            "training.search_epochs=2 training.retrain_epochs=1")
SEARCH = ("search", "ntidigits", "--raw", "words.hdf5", "--set", SETTINGS, "--name")
SHOW, RUNS, EVALUATE = ("show", str(RUN)), ("runs",), ("evaluate", str(RUN))
DIFF, EXACT = ("diff", str(RUN), str(TWIN)), ("diff", "--exact", str(RUN), str(TWIN))
RESUME = (*SEARCH, "one")
USES = {
    "cache": [("data", "verify", CACHE), ("data", "info", CACHE)],
    "checkpoint": [RESUME], "weights": [EVALUATE, EXACT], "search": [EXACT], "architecture": [SHOW, EXACT, EVALUATE],
    "manifest": [RUNS, SHOW, DIFF, EXACT, EVALUATE, RESUME], "result": [RUNS, SHOW, DIFF, EXACT],
    "metrics": [RUNS, SHOW, EXACT, RESUME], "diagnosis": [SHOW, EXACT], "experiment": [("report",)],
    "reported metrics": [("report",)], "reported search": [("report",)], "reported result": [("report",)]}
MANY = Path("runs/out/many")
FILES = {"cache": Path(CACHE), "experiment": MANY / "experiment.json", "checkpoint": RUN / "checkpoint.h5",
         "reported metrics": MANY / "hrmas-s0/metrics.jsonl", "reported search": MANY / "hrmas-s0/search.h5",
         "reported result": MANY / "hrmas-s0/result.json",
         **{kind: RUN / f"{kind}.h5" for kind in ("weights", "search")}, "metrics": RUN / "metrics.jsonl",
         **{kind: RUN / f"{kind}.json" for kind in ("architecture", "manifest", "result", "diagnosis")}}


def prepare(words):
    """A finished run, a twin of it, an experiment and a cache, in the working directory."""
    from hrmas_sparse import cli
    shutil.copy(words, "words.hdf5")
    assert cli.main([*SEARCH, "one"]) == 0
    shutil.copytree(RUN, TWIN)
    shutil.copytree(RUN, "runs/out/many/hrmas-s0")
    shutil.copy(next(Path("data/cache").glob("*.h5")), CACHE)
    Path("runs/out/many/experiment.json").write_text(json.dumps({
        "schema": 1, "experiment": "many", "title": "A title", "paper": "Table 1", "baseline": "hrmas",
        "rows": {"hrmas": {"title": "HRMAS", "set": ""}},
        "runs": {"hrmas-s0": {"row": "hrmas", "neurons": [6], "partition": "official", "seed": 0}}}))
    _report()                                               # so that what it needs is imported once
    shutil.copytree("runs/out", "pristine")
    shutil.copy(CACHE, "pristine.h5")


def uses(kind):
    return [RAWS[kind].words] if kind in RAWS else USES[kind]


def restore(kind):
    """Put everything back, and take away the end of the run where it is to be resumed."""
    if kind in RAWS:
        for path in (Path("aside"), raws.MADE):
            remove(path)
        put_back(pristine_raw(kind), raws.FOLDER)
        raws.MADE.mkdir(parents=True)
        return
    put_back(Path("pristine"), Path("runs/out"))
    put_back(Path("pristine.h5"), Path(CACHE))
    if kind == "checkpoint":
        for name in ("result.json", "weights.h5", "summary.txt"):
            (RUN / name).unlink()


def put_back(pristine, place, known={}):  # noqa: B006 (what was put where, and when)
    """Make a file or folder what it was; only what has been touched since is written."""
    if pristine.is_dir():
        if not place.is_dir() or place.is_symlink():
            remove(place)
            place.mkdir()
        wanted = set(os.listdir(pristine))
        for name in set(os.listdir(place)) - wanted:
            remove(place / name)
        for name in wanted:
            put_back(pristine / name, place / name)
    elif not os.path.lexists(place) or known.get(place) != (pristine, state(place)):
        remove(place)
        shutil.copy2(pristine, place)
        known[place] = pristine, state(place)


def state(path):
    """What changes with a file."""
    now = os.lstat(path)
    return now.st_mode, now.st_ino, now.st_nlink, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def pristine_raw(kind):
    """A folder with the sound recordings of a kind, made when they are first asked for."""
    folder = Path("pristine raw") / kind
    if not folder.exists():
        remove(raws.FOLDER)
        where = RAWS[kind].make()
        folder.parent.mkdir(exist_ok=True)
        raws.FOLDER.rename(folder)
        (folder.parent / f"{kind}.txt").write_text(str(where))
    return folder


def file_of(kind):
    """The file that is changed."""
    return Path(pristine_raw(kind).with_name(f"{kind}.txt").read_text()) if kind in RAWS else FILES[kind]


def remove(path):
    if Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path)
    Path(path).unlink(missing_ok=True)


def call(words):
    """Run a command; returns its exit status and what it wrote."""
    from hrmas_sparse import cli
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = _report() if words == ("report",) else cli.main(list(words))
    text = "".join(line for line in out.getvalue().splitlines(True) if not line.startswith("time "))
    if words == RESUME and status == 0:
        from hrmas_sparse.storage import arrayfile
        arrays, _ = arrayfile.load(RUN / "weights.h5", "weights")
        text += hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()
    return status, text, err.getvalue()


def _report():
    """The tables of a report, and the numbers in its figures, which need matplotlib."""
    from hrmas_sparse.storage.errors import InputError
    from runs.report import collect, figures, tables
    try:
        study = collect.read("many")
        print(json.dumps(tables.numbers(study)), study.record["title"])
        print(tables.score_rows(study), tables.discrete_rows(study), collect.commits(study.runs))
        for key in ("valid_loss", "size_entropy", "rate1"):
            print(figures.series(study.runs, lambda line: line[key]))                              # noqa: B023
        print(figures.series(study.runs, lambda line: line["R1"][1]), figures.intrinsic_values(study.runs, "tau"))
    except InputError as error:
        print(f"hrmas: {error}", file=sys.stderr)
        return 2
    return 0


class Hang(BaseException):
    """The time is over."""


def _over(signum, frame):
    raise Hang


def problem_with(words, status, out, err, expected):
    """What is wrong with how a command ended; empty if nothing. ``expected`` is what it prints, or None if that may
    differ."""
    text = out + err
    strange = {c for c in text if not c.isprintable() and c != "\n"}
    if strange:
        return f"unprintable {sorted(strange)!r}"
    if "Traceback" in text:
        return "a traceback"
    if status == 2:
        said = [line for line in err.splitlines() if line.startswith("hrmas: ")]
        return "" if len(said) == 1 else f"status 2 and {len(said)} lines that say why: {err[-300:]!r}"
    if status != 0 and not (status == 1 and words[:2] == EXACT[:2]):
        return f"status {status}: {err[-300:]!r}"
    if expected is not None and status == 0 and out != expected:
        return f"a wrong result: {out[-200:]!r}"
    return ""


def altered(kind, rng, foreign):
    """Change the file of a kind; returns what was done and whether its checksums are as they were, or None."""
    try:
        if kind in RAWS:
            return raw_mutations.mutate(kind, file_of(kind), rng, foreign), False
        return mutate(FILES[kind], rng, foreign)
    except Exception as error:
        if os.environ.get("MUTATIONS_DEBUG"):
            traceback.print_exception(error)
        return None


def tried(kind, words, expected, before, what):
    """Run a command on a changed file; returns its exit status, and what is wrong with how it ended."""
    faulthandler.dump_traceback_later(2 * SECONDS, exit=True)
    signal.alarm(SECONDS)
    status = None
    try:
        status, out, err = call(words)
        problem = problem_with(words, status, out, err, expected)
        if kind in RAWS and status == 0 and not problem:
            problem = raws.problem_with(kind, file_of(kind), before, what)
    except Hang:
        problem = "a hang: " + traceback.format_exc()[-1500:]
    except BaseException:
        problem = "an exception: " + traceback.format_exc()[-1500:]
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    return status, problem


def examine(kind, count, seed, folder):
    """Mutate a file so often, and each time try what uses it; returns what was found."""
    foreign, expected, before = Path(folder) / "foreign", {}, None
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    restore(kind)
    for words in uses(kind):
        status, expected[words], err = call(words)
        assert status == 0, err
        before = raws.content()[1] if kind in RAWS else None
        restore(kind)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _over)
    found = {"tried": 0, "refused": 0, "problems": []}
    for n in range(2 * count):          # HDF5 refuses some of what we ask of it
        if found["tried"] == count:
            break
        rng = random.Random(f"{kind} {seed} {n}")
        restore(kind)
        foreign.write_bytes(b"mine")
        done = altered(kind, rng, foreign)
        if done is None:
            continue
        (what, unsigned), refused = done, False
        Path("at").write_text(f"{kind}, seed {seed}, number {n} ({what!a})")
        found["tried"] += 1
        touched = foreign.read_bytes(), foreign.stat().st_mtime_ns
        for words in uses(kind):
            checked = unsigned and kind in ("cache", "weights", "architecture", "checkpoint")
            status, problem = tried(kind, words, expected[words] if checked else None, before, what)
            refused |= status == 2
            if (foreign.read_bytes(), foreign.stat().st_mtime_ns) != touched:
                problem = "another file was touched"
            if problem:
                found["problems"].append(f"{kind} {seed} {n} ({what!a}), {words[0]}: {problem}")
        found["refused"] += refused
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return found


def answer(kind, count, seed, folder):
    """Examine a kind in a child, which may die of it; what was found, or how it ended."""
    found = Path("found")
    found.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            found.write_text(json.dumps(examine(kind, count, seed, folder)))
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(found.read_text()) if found.exists() and not status else {"ended": status}


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    with contextlib.redirect_stdout(sys.stderr):
        prepare(sys.argv[2])
    for line in sys.stdin:
        one, number, start = json.loads(line)
        print(json.dumps(answer(one, number, start, sys.argv[1])), flush=True)
