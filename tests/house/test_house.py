"""The house: who may import whom, how long a file may be, what is never imported.

The floors are the README's map. Imports point down; a new module gets a floor here and a line there.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = [
    {"hrmas_sparse", "environment"},
    {"process"},
    {"storage"},
    {"settings", "places"},
    {"data"},
    {"export"},
    {"engine"},
    {"search"},
    {"run", "gradcheck"},
    {"doctor"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}
DATA_PREP_MAY_IMPORT = {"hrmas_sparse", "storage", "environment", "places", "settings", "data"}
NEVER = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
AUTOGRAD = {"torch", "tensorflow", "jax", "flax", "keras", "autograd", "theano", "aesara", "pytensor",
            "mxnet", "chainer", "paddle", "tinygrad", "mindspore"}
WITH_TORCH = ("runs.bench.peers", "runs.comparison.networks", "runs.conformance.peers")  # others, in their environments
MAX_LINES = 400


def module_name(path: Path) -> str:
    """hrmas_sparse/engine/backends/__init__.py -> hrmas_sparse.engine.backends"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(*folders: str) -> list[Path]:
    """Python files of the folders, results left out."""
    out = ROOT / "runs" / "out"
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py") if out not in p.parents)


PRODUCT = sources("hrmas_sparse", "data_prep", "runs")
EVERYTHING = PRODUCT + sources("tests")
MODULES = {module_name(p) for p in EVERYTHING}


def imports(path: Path) -> set[str]:
    """Absolute names of all modules a file imports, inside functions too."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name in MODULES or name == "numba.cuda" else base)
    return found


def room(module: str) -> str:
    """hrmas_sparse.engine.backends.cpu.lanes -> engine"""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


product = pytest.mark.parametrize("path", PRODUCT, ids=ids)


@product
def test_imports_point_down(path):
    me = module_name(path)
    if not inside(me, "hrmas_sparse"):
        return
    mine = room(me)
    assert mine in FLOOR, f"{ids(path)} has no floor: add it to FLOORS here and to the README's map"
    for other in imports(path):
        if not inside(other, "hrmas_sparse") or room(other) == mine:
            continue
        theirs = room(other)
        assert theirs in FLOOR, f"{ids(path)} imports {other}, which has no floor"
        assert FLOOR[theirs] < FLOOR[mine], \
            f"{ids(path)} (floor {FLOOR[mine]}) imports {other} (floor {FLOOR[theirs]}): imports point down"


@product
def test_who_may_not_import_whom(path):
    me, names = module_name(path), imports(path)
    ours = {n for n in names if inside(n, "hrmas_sparse")}
    assert not any(inside(n, "hrmas_sparse.cli") for n in names) or me == "hrmas_sparse.__main__" \
        or inside(me, "hrmas_sparse.cli"), "nothing imports cli"
    if me == "hrmas_sparse.engine.neuron":
        assert not ours and not any(inside(n, "data_prep") for n in names), "neuron.py imports nothing of ours"
    if inside(me, "data_prep"):
        above = {n for n in ours if room(n) not in DATA_PREP_MAY_IMPORT}
        assert not above, f"data_prep imports storage, settings and data only, found {above}"
    elif any(inside(n, "data_prep") for n in names):
        assert inside(me, "hrmas_sparse.cli") or inside(me, "runs"), "data_prep is called by cli and runs only"
    for one, other in (("cpu", "cuda"), ("cuda", "cpu")):
        if inside(me, f"hrmas_sparse.engine.backends.{one}"):
            assert not any(inside(n, f"hrmas_sparse.engine.backends.{other}") for n in names), f"{one} imports {other}"
    if any(inside(n, "numba.cuda") for n in names):
        assert inside(me, "hrmas_sparse.engine.backends.cuda"), "CUDA is imported in backends/cuda alone"


@pytest.mark.parametrize("path", EVERYTHING, ids=ids)
def test_every_file(path):
    roots = {n.split(".")[0] for n in imports(path)}
    assert not roots & NEVER, "no pickles: they run what they read"
    if not any(inside(module_name(path), place) for place in WITH_TORCH):
        assert not roots & AUTOGRAD, "no autograd framework"
        reached = {n for n in imports(path) for place in WITH_TORCH if inside(n, place)}
        assert not reached, f"{reached} need PyTorch: they are named to a worker of their own, never imported"
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < MAX_LINES, f"{lines} lines: could it be two things?"


def test_the_reference_stands_alone():
    for path in (ROOT / "tests").glob("naive*.py"):
        assert not any(inside(n, "hrmas_sparse") for n in imports(path)), "naive.py would check us with ourselves"


def test_names_of_test_files_are_unique():
    """pytest imports them by name alone."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})


def test_the_readme_shows_every_room():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = {room(m) for m in map(module_name, PRODUCT) if m.count(".") and m.startswith("hrmas_sparse")}
    missing = {m for m in missing if f"{m}.py" not in text and f"{m}/" not in text}
    assert not missing, f"not in the README's map: {sorted(missing)}"


def test_no_module_reaches_itself():
    reached = {module_name(path): imports(path) & MODULES - {module_name(path)} for path in PRODUCT}
    while ends := {name for name, others in reached.items() if not others & reached.keys()}:
        for name in ends:
            del reached[name]
    assert not reached, f"among these is a cycle of imports: {sorted(reached)}"


def test_imports_sees_what_it_should(tmp_path, monkeypatch):
    file = ROOT / "hrmas_sparse" / "engine" / "fake.py"
    text = ("import os.path\nfrom . import network\nfrom ..settings import load\n"
            "from ..storage.errors import InputError\n"
            "def f():\n    from numba import cuda\n    from hrmas_sparse.settings.validators import real\n")
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: text)
    assert imports(file) >= {"os.path", "hrmas_sparse.engine.network", "hrmas_sparse.settings.load", "numba.cuda",
                             "hrmas_sparse.storage.errors", "hrmas_sparse.settings.validators"}
