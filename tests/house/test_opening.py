"""Files are opened in storage/ alone: nobody else can forget what a name may stand for (a link, a pipe, a device)."""

import ast

import pytest
from test_house import PRODUCT, ids, inside, module_name

STORAGE = "hrmas_sparse.storage"
# Who may, and why.
EXCEPTIONS = {
    "hrmas_sparse.process": "standard streams and /dev/null",
    "hrmas_sparse.environment": "texts of the kernel below /proc and /sys; storage is built on it",
    "hrmas_sparse.export.arrays": "savez writes into memory",
    "hrmas_sparse.run.baseline": "JSON of its own making, to compare",
    "runs.conformance": "arrays of the process that started it; it runs beside other frameworks and without us",
    "runs.comparison.worker": "JSON of the process that started it",
    "runs.bench": "its own small files; it runs beside other frameworks and without us",
}
OF_MODULES = {
    "os": {"open", "fdopen", "truncate", "mkfifo"}, "io": {"open", "FileIO"},
    "shutil": {"copy", "copy2", "copyfile", "move"},
    "h5py": {"File"}, "json": {"load", "loads"}, "tomllib": {"load", "loads"}, "tarfile": {"open"},
    "np": {"load", "save", "savez", "savez_compressed", "memmap", "fromfile", "loadtxt", "savetxt", "genfromtxt"},
    "tempfile": {"NamedTemporaryFile", "mkstemp"}, "mmap": {"mmap"}, "gzip": {"open"}, "codecs": {"open"}}
OF_PATHS = {"read_text", "read_bytes", "write_text", "write_bytes", "tofile", "open_memmap", "touch"}


def openings(text):
    """Lines that open, read or write a file by its name, or take JSON or TOML as it comes."""
    tree, ours = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(STORAGE):
            ours |= {alias.asname or alias.name for alias in node.names}
    return sorted({node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and _opens(node, ours)})


def _opens(call, ours):
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute):
        return False
    owner, name = function.value, function.attr
    if isinstance(owner, ast.Name) and owner.id in ours:
        return False
    if isinstance(owner, ast.Name) and owner.id in OF_MODULES:
        given = any(keyword.arg == "fileobj" for keyword in call.keywords)
        return name in OF_MODULES[owner.id] and not given
    if name == "open":  # of a path; a member of an archive is given by what stands in it
        return not call.args or isinstance(call.args[0], ast.Constant)
    return name in OF_PATHS


@pytest.mark.parametrize("path", PRODUCT, ids=ids)
def test_who_opens_files(path):
    me = module_name(path)
    if inside(me, STORAGE) or any(inside(me, name) for name in EXCEPTIONS):
        return
    found = openings(path.read_text(encoding="utf-8"))
    assert not found, f"{ids(path)}, lines {found}: files are opened by storage/ (files, hdf5, records, npy)"


def test_every_exception_is_needed():
    for name in EXCEPTIONS:
        own = [path for path in PRODUCT if inside(module_name(path), name)]
        assert any(openings(path.read_text(encoding="utf-8")) for path in own), f"{name} opens nothing (any more)"


@pytest.mark.parametrize("line", [
    "open(path)", "with open(p, 'rb') as f: pass", "Path(p).read_text()", "run.path.write_bytes(b'')", "p.open('rb')",
    "p.open()", "os.open(p, 0)", "h5py.File(p)", "np.load(p)", "x.tofile(p)", "os.truncate(p, 0)", "json.load(f)",
    "tarfile.open(p)", "def f():\n    return np.memmap(p)",
    "from hrmas_sparse.storage import files\nother.read_text()"])
def test_what_opens_is_seen(line):
    assert openings(line)


@pytest.mark.parametrize("line", [
    "from hrmas_sparse.storage import files\nfiles.read_text(p)", "archive.open(member)", "tarfile.open(fileobj=f)",
    "from hrmas_sparse.storage import atomic as files\nfiles.write_text(p, '')", "opened(p)", "text.encode()"])
def test_what_does_not_is_not(line):
    assert not openings(line)
