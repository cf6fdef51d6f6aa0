"""What machine and process offer, and that the program bears whatever they leave out or leave behind."""

import errno
import importlib.util
import os
import random
import re
import shutil
import string
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hrmas_sparse import environment
from hrmas_sparse.storage import memory


# ---- cores, threads, control groups --------------------------------------------------------------------------


def groups(tmp_path, monkeypatch, lines, mounts, files):
    """A /proc/self and control groups as given; what cores() and memory._control_groups() then say."""
    process = tmp_path / "proc"
    process.mkdir()
    (process / "cgroup").write_text("\n".join(lines) + "\n")
    (process / "mountinfo").write_text("".join(
        f"30 25 0:26 {root} {str(tmp_path / point).replace(' ', chr(92) + '040')} rw,nosuid shared:9 - {kind} none "
        f"rw,{options}\n" for root, point, kind, options in mounts))
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    real = environment.control_groups
    monkeypatch.setattr(environment, "control_groups", lambda controller: real(controller, process))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64))
    for name in environment.GRANTED:
        monkeypatch.delenv(name, raising=False)
    return environment.cores(), memory._control_groups()


STAT = "anon 5\nfile 900\nactive_file 300\ninactive_file 200\nshmem 400\n"


def unified(folder, cpu=None, most=None, used=0):
    found = {f"{folder}/memory.stat": STAT, f"{folder}/memory.current": f"{used}\n"}
    return found | ({f"{folder}/cpu.max": cpu} if cpu else {}) | ({f"{folder}/memory.max": most} if most else {})


def old(cpu, mem, quota=None, most=None, used=0):
    found = {f"{mem}/memory.stat": "cache 9\ntotal_active_file 300\ntotal_inactive_file 200\n",
             f"{mem}/memory.usage_in_bytes": f"{used}\n", f"{cpu}/cpu.cfs_period_us": "100000\n"}
    found |= {f"{cpu}/cpu.cfs_quota_us": f"{quota or -1}\n"}
    return found | {f"{mem}/memory.limit_in_bytes": f"{most or 9223372036854771712}\n"}


V2 = [("/", "cg", "cgroup2", "nsdelegate")]
V1 = [("/", "cg/cpu", "cgroup", "cpu,cpuacct"), ("/", "cg/memory", "cgroup", "memory")]
NESTED = "cg/system.slice/slurmstepd.scope/job_7"
TREES = {
    "none": ([], [], {}, 64, 1 << 62),
    "no limits": (["0::/a"], V2, unified("cg/a", "max 100000\n", "max\n"), 64, 1 << 62),
    "a container": (["0::/"], V2, unified("cg", "150000 100000\n", "2000\n", 700), 2, 1800),
    "half a core": (["0::/"], V2, unified("cg", "50000 100000\n", "2000\n", 3000), 1, -500),
    "the outer group is the tighter one": (
        ["0::/system.slice/slurmstepd.scope/job_7/step_0"], V2,
        unified(NESTED, "400000 100000\n", "5000\n", 100) | unified(f"{NESTED}/step_0", "max 100000\n", "max\n", 100)
        | unified("cg/system.slice", "300000 100000\n", "9000\n", 8000), 3, 1500),
    "the inner group is the tighter one": (
        ["0::/a/b"], V2, unified("cg/a/b", "200000 100000\n", "5000\n") | unified("cg/a", "800000 100000\n", "9000\n"),
        2, 5500),
    "version 1, nested": (
        ["9:memory:/slurm/uid_1/job_7", "1:cpu,cpuacct:/slurm/uid_1", "0::/"], V1,
        old("cg/cpu/slurm/uid_1", "cg/memory/slurm/uid_1", 500000, 4000, 1000)
        | old("cg/cpu/slurm", "cg/memory/slurm/uid_1/job_7", 250000, 6000, 1000), 3, 3500),
    "version 1 in a container that sees its host's names": (
        ["9:memory:/docker/f00", "1:cpu,cpuacct:/docker/f00"],
        [("/docker/f00", "cg/cpu", "cgroup", "cpu,cpuacct"), ("/docker/f00", "cg/memory", "cgroup", "memory")],
        old("cg/cpu", "cg/memory", 700000, 8000), 7, 8500),
    "both versions": (
        ["9:memory:/a", "0::/b"], [*V1, ("/", "cg/unified", "cgroup2", "")],
        old("cg/cpu/x", "cg/memory/a", None, 3000) | unified("cg/unified/b", "600000 100000\n"), 6, 3500),
    "blanks in names": (["0::/my jobs/one"], [("/", "control groups", "cgroup2", "")],
                        unified("control groups/my jobs", "500000 100000\n", "1000\n"), 5, 1500),
    "a group outside what is mounted": (["0::/../../elsewhere"], V2, unified("cg", "400000 100000\n", "1000\n"),
                                        4, 1500),
    "nonsense": (["", "x", "0", "::", "0::/a"], [*V2, ("/", "gone", "cgroup2", "")],
                 unified("cg/a", "nonsense\n", "-\n") | unified("cg", "0 0\n", "10^9\n"), 64, 1 << 62),
}


@pytest.mark.parametrize("name", TREES)
def test_control_groups(tmp_path, monkeypatch, name):
    *tree, cores, left = TREES[name]
    assert groups(tmp_path, monkeypatch, *tree) == (cores, left)


def test_our_own_control_groups_are_found():
    if not Path("/proc/self/cgroup").exists():
        pytest.skip("no /proc")
    assert all(isinstance(folder, Path) for folder, _ in environment.control_groups("memory"))
    assert 1 <= environment.cores() <= (os.cpu_count() or 1)


NUMBERS = [("3", 3), (" 3 ", 3), ("1", 1), ("4096", 4096), ("4097", None), ("0", None), ("-1", None), ("+2", None),
           ("", None), ("x", None), ("1.5", None), ("2(x4)", None), ("0x10", None), ("1e3", None), ("\u0663", None),
           ("9" * 5000, None), ("1\n2", None), (None, None)]


@pytest.mark.parametrize("text, number", NUMBERS, ids=lambda x: repr(x)[:12])
def test_numbers_of_threads(monkeypatch, text, number):
    monkeypatch.setattr(environment, "_quotas", lambda: [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64))
    for name in (*environment.GRANTED, "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert environment.whole_number(text) == number
    if text is None:
        return
    monkeypatch.setenv("NUMBA_NUM_THREADS", text)
    assert environment.threads() == (number or 64)
    notice = environment.mend_numba()
    assert bool(notice) == (number is None) and notice.count("\n") == 0
    assert ("NUMBA_NUM_THREADS" in os.environ) == (number is not None)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    for name in environment.GRANTED:
        with monkeypatch.context() as patch:
            patch.setenv(name, text)
            assert environment.cores() == (min(number, 64) if number else 64)


# ---- folders, paths, texts -----------------------------------------------------------------------------------


HOMES = [({"HOME": "/here"}, "/here/.cache"), ({"HOME": "/here", "XDG_CACHE_HOME": "/there"}, "/there"),
         ({"HOME": "/here", "XDG_CACHE_HOME": "there"}, "/here/.cache"), ({"HOME": "/here", "XDG_CACHE_HOME": ""},
         "/here/.cache"), ({"HOME": "here"}, None), ({"HOME": ""}, None), ({}, None), ({"HOME": "~"}, None)]


@pytest.mark.parametrize("given, expected", HOMES)
def test_the_folder_for_caches(monkeypatch, given, expected):
    import pwd

    def unknown(uid):
        raise KeyError(uid)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert environment.user_cache() == (expected and Path(expected))


@pytest.mark.parametrize("text", ["~", "~/x", "~nobody-of-that-name", "~nobody-of-that-name/x", "", "a\0b"])
def test_a_path_that_names_nothing_is_refused(monkeypatch, tmp_path, text):
    import pwd
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    with pytest.raises(ValueError, match="a path"):
        environment.user_path(text)
    if text.startswith("~"):                               # who has such a folder means it
        Path(text).mkdir(parents=True)
        assert environment.user_path(text) == Path(text)


def test_paths_as_users_write_them(monkeypatch):
    monkeypatch.setenv("HOME", "/here")
    assert environment.user_path("~/a b") == Path("/here/a b")
    for text in ("a\u00a0b", "it's", "a\nb", "$(x)", "a~b", "-x", os.fsdecode(b"caf\xe9"), "ü/日本"):
        assert environment.user_path(text) == Path(text)


def test_every_text_becomes_one_line_that_any_terminal_shows():
    rng = random.Random(0)
    texts = ["".join(chr(rng.choice([rng.randrange(0x100), rng.randrange(0x3000), rng.randrange(0x110000)]))
                     for _ in range(rng.randrange(40))) for _ in range(2000)]
    for text in [*texts, "a\u00a0b", "\u200b", os.fsdecode(b"\xff"), "\x1b[2J", "\r", "\u2028", "\U0001f600"]:
        shown = environment.printable(text)
        assert shown.isprintable() and len(shown.splitlines()) <= 1
        shown.encode()
    assert environment.printable("a\u00a0b") == r"a\xa0b" and environment.printable(os.fsdecode(b"\xff")) == r"\udcff"
    for path in ("a\u00a0b", os.fsdecode(b"\xff\n\t"), "\U0001f600", "\U000e0001", "it's", "a\\b"):
        assert environment.as_path(environment.printable(path)) == Path(path)
    plain = string.printable[:95] + "äöü日本"
    assert environment.printable(plain) == plain


# ---- the checkout --------------------------------------------------------------------------------------------


def test_a_checkout_of_somebody_else(tmp_path):
    """As in a container that mounts it: git will not read it, and says so; nothing ends because of that."""
    if os.getuid() or not shutil.which("git"):
        pytest.skip("NOT TESTED: a folder of another user needs root and git")
    where = tmp_path / "it's here"
    shutil.copytree(Path(environment.__file__).parent, where / "hrmas_sparse",
                    ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(where), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    code = "from hrmas_sparse import environment; print(environment.commit())"

    def said(**more):
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
                              env=own | {"PYTHONPATH": str(where), "HOME": str(tmp_path)} | more).stdout
    assert re.match(r"\({'commit': '[0-9a-f]{40}', 'changed': False}, ''\)", said())
    assert said(GIT_DIR="/nowhere", GIT_WORK_TREE="/nowhere") == said()
    for path in (where, *where.rglob("*")):
        os.lchown(path, 54321, 54321)
    found = said()
    assert found.startswith("(None, ")
    assert "git config --global --add safe.directory " in found and "another user" in found


# ---- figures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "TkAgg", "", None])
def test_a_figure_whatever_backend_is_named(tmp_path, backend):
    pytest.importorskip("matplotlib", reason="FIGURES NOT CHECKED: they need the extra `plots`")
    code = ("import os\nfrom hrmas_sparse import environment\nbefore = os.environ.get('MPLBACKEND')\n"
            "figure = environment.new_figure(figsize=(1, 1))\nfigure.subplots(1, 2)\nfigure.tight_layout()\n"
            "figure.savefig('x.png')\nassert os.environ.get('MPLBACKEND') == before")
    own = {name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "DISPLAY")}
    own |= {} if backend is None else {"MPLBACKEND": backend}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=own)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


# ---- the program in an environment of faults -------------------------------------------------------------------


CLOSE = {"nothing": (), "stdin": (0,), "stdout": (1,), "stderr": (2,), "all": (0, 1, 2), "in and out": (0, 1)}
# One of each column is drawn for a trial; "" leaves things as they are.
VARIABLES = [
    {"": {}, **{f"threads {text!r}": {"NUMBA_NUM_THREADS": text} for text in ("0", "-1", "", "x", "1.5", "9" * 20)}},
    {"": {}, "ascii": {"PYTHONIOENCODING": "ascii"}, "ascii, strict": {"PYTHONIOENCODING": "ascii:strict"},
     "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "latin": {"PYTHONIOENCODING": "latin-1"},
     "posix": {"LC_ALL": "POSIX", "LANG": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}},
    {"": {}, "-O": {"PYTHONOPTIMIZE": "1"}, "-OO": {"PYTHONOPTIMIZE": "2"}, "safe path": {"PYTHONSAFEPATH": "1"},
     "errors": {"PYTHONWARNINGS": "error"}, "no bytecode": {"PYTHONDONTWRITEBYTECODE": "1"},
     "unbuffered": {"PYTHONUNBUFFERED": "1"}, "faults": {"PYTHONFAULTHANDLER": "1"},
     "no user site": {"PYTHONNOUSERSITE": "1"}, "hash": {"PYTHONHASHSEED": "7"},
     "encodings": {"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "error::EncodingWarning"},
     "digits": {"PYTHONINTMAXSTRDIGITS": "640"}, "malloc": {"PYTHONMALLOC": "debug"}},
    {"": {}, "notebook": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, "bad": {"MPLBACKEND": "x"}},
    {"": {}, **{f"slurm {text!r}": {"SLURM_CPUS_PER_TASK": text, "SLURM_CPUS_ON_NODE": text}
                for text in ("1", "0", "(null)", "2(x4)", "-3")}},
    {"": {}, "git": {"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/nowhere"}, "no tools": {"PATH": "/nowhere"}},
    {"": {}, "no terminal": {"TERM": "dumb"}, "columns": {"COLUMNS": "0", "LINES": "0"}, "wide": {"COLUMNS": "x"},
     "no time": {"TZ": "Nowhere/Nothing"}},
]
FOLDERS = ["plain", "a b", "it's", "a\u00a0b", "a\nb", "ü日本", b"caf\xe9\xff", "-x", "$(touch owned)", "%s {0} #",
           "\\x"]


def quiet_environment():
    """Ours, and the folder of compiled kernels."""
    from hrmas_sparse.engine.backends.cpu.compile import KERNELS
    kernels = {"NUMBA_CACHE_DIR": str(KERNELS.place.folder.parent)} if KERNELS.place.folder else {}
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | kernels


def hrmas(arguments, folder, own, closed=()):
    """Run the program; exit status, all it printed as bytes."""
    def close():
        for descriptor in closed:
            os.close(descriptor)
    done = subprocess.run([sys.executable, "-m", "hrmas_sparse", *arguments], cwd=folder, env=own,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          preexec_fn=close, timeout=600)
    return done.returncode, done.stdout


def trial(tmp_path, words, draw, arguments, closed, folder):
    """One run of the program under drawn faults."""
    where = os.path.join(os.fsencode(tmp_path), os.fsencode(folder))
    os.makedirs(where, exist_ok=True)
    shutil.copy(words, os.path.join(where, b"words.hdf5"))
    own = quiet_environment()
    for change in draw:
        own |= change
    status, said = hrmas(arguments, where, own, CLOSE[closed])
    assert b"Traceback" not in said and b"Exception ignored" not in said, said.decode(errors="replace")
    assert not [name for name in os.listdir(where) if name.startswith(b"~") or name == b"owned"]
    return status, said, where


def draws(rng, count):
    """So many draws of every column in which each of its values comes as often as any other."""
    columns = [*[list(column.values()) for column in VARIABLES], list(CLOSE), FOLDERS]
    rows = []
    for column in columns:
        values = [column[n % len(column)] for n in range(count)]
        rng.shuffle(values)
        rows.append(values)
    return list(zip(*rows))


SMALL = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
         "training.search_epochs=2 training.retrain_epochs=1")
COMMANDS = [["doctor"], ["runs"], ["--help"], ["show", "nothing"], ["data", "info", "ntidigits", "--raw", "words.hdf5"]]
EXPECTED = {"doctor": 0, "runs": 0, "--help": 0, "show": 2, "data": 0}


@pytest.mark.parametrize("n", range(13))
def test_the_program_bears_its_environment(tmp_path, words, n):
    """Every fault once, several at a time, each time in another company."""
    *draw, closed, folder = draws(random.Random(0), 13)[n]
    arguments = COMMANDS[n % len(COMMANDS)]
    status, said, _ = trial(tmp_path, words, draw, arguments, closed, folder)
    assert status == EXPECTED[arguments[0]], said.decode(errors="replace")


NAMES = (b"caf\xe9", "a\u00a0b".encode(), b"a\nb", b"it's", b"-x", b"~x", b" x", b'"', b"\\", "日本".encode())


def check_names_of_recordings_and_results(tmp_path, words, name):
    """What a run notes of them is text for people; evaluate finds them again all the same."""
    (tmp_path / "raw").mkdir(parents=True)
    raw, own = b"raw/" + name + b".hdf5", quiet_environment()
    shutil.copy(words, os.path.join(os.fsencode(tmp_path), raw))
    status, said = hrmas(["search", "ntidigits", "--raw", raw, "--out", b"out-" + name, "--set", SMALL], tmp_path, own)
    assert status == 0 and b"Traceback" not in said, said
    run = b"out-" + name + b"/ntidigits-s0"
    for command, expected in ((["show"], 0), (["diff", run], 0), (["evaluate"], 0)):
        status, said = hrmas([*command, run], tmp_path, own)
        assert status == expected and b"Traceback" not in said, said
    status, said = hrmas(["data", "info", "ntidigits", "--raw", raw + b"-"], tmp_path, own)
    assert status == 2 and said.startswith(b"hrmas: ") and said.count(b"\n") == 1 and b"\xa0" not in said


def test_names_of_recordings_and_results(tmp_path, words):
    check_names_of_recordings_and_results(tmp_path, words, b"caf\xe9\n\xc2\xa0'")


@pytest.mark.slow
def test_more_names_of_recordings_and_results(tmp_path, words):
    """Two at a time, for there may be two cores."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: check_names_of_recordings_and_results(tmp_path / str(n), words, NAMES[n]),
                      range(len(NAMES))))


@pytest.mark.slow
def test_searches_and_figures_bear_their_environment(tmp_path, words, show):
    """Two at a time, for there may be two cores."""
    from hrmas_sparse.run.folder import RunDir
    from hrmas_sparse.run.diff import exact_differences
    arguments = ["search", "ntidigits", "--raw", "words.hdf5", "--set", SMALL]
    _, _, plain = trial(tmp_path, words, [], arguments, "nothing", "straight")
    expected = RunDir(os.fsdecode(plain) + "/runs/out/ntidigits-s0")
    figures = importlib.util.find_spec("matplotlib") is not None

    def one(n):
        *draw, closed, folder = drawn[n]
        own = tmp_path / str(n)
        own.mkdir()
        status, said, where = trial(own, words, draw, arguments, closed, folder)
        assert status == 0, said.decode(errors="replace")
        run = os.fsdecode(where) + "/runs/out/ntidigits-s0"
        assert exact_differences(expected, RunDir(run)) == []
        if figures:
            status, said, _ = trial(own, words, draw, ["show", "ntidigits-s0", "--figure", "x.png"], closed, folder)
            assert status == 0 and os.path.exists(os.path.join(where, b"x.png")), said.decode(errors="replace")
            status, said, _ = trial(own, words, draw, ["data", "info", "ntidigits", "--raw", "words.hdf5", "--raster",
                                                       "y.png"], closed, folder)
            assert status == 0 and os.path.exists(os.path.join(where, b"y.png")), said.decode(errors="replace")
        shutil.rmtree(where)
    drawn = draws(random.Random(1), 20)
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(one, range(20)))) == 20
    show(f"20 searches in {sum(len(column) for column in VARIABLES)} changed variables, {len(CLOSE)} ways to close "
         f"streams, {len(FOLDERS)} names of folders: 0 tracebacks, 0 differences"
         + (", 40 pictures" if figures else "; NO PICTURES: they need the extra `plots`"))


@pytest.mark.parametrize("how", ["a reader that ends at once", "a disk that is full"])
def test_a_program_whose_output_goes_nowhere(tmp_path, words, how):
    shutil.copy(words, tmp_path / "words.hdf5")
    command = [sys.executable, "-m", "hrmas_sparse", "data", "info", "ntidigits", "--raw", "words.hdf5"]
    if how == "a disk that is full":
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, cwd=tmp_path, env=quiet_environment(), stdout=full, stderr=subprocess.PIPE)
        said = done.stderr.decode()
        assert done.returncode == 1 and said.count("\n") == 1 and os.strerror(errno.ENOSPC) in said, said
        return
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=tmp_path, env=quiet_environment(), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list((tmp_path / "data/cache").glob("*.h5"))) == 1
