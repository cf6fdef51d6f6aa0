"""A signal that others' code answers with an error of its own, while it cleans up, still ends the program as asked."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys

import pytest
import toys
from test_environment import quiet_environment

from hrmas_sparse import cli, process
from hrmas_sparse.cli import parser
from hrmas_sparse.storage import atomic
from hrmas_sparse.storage.errors import InputError


def fails_in_finally():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        raise AttributeError("of what was never set")


def answers_with_another():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException as error:
        raise InputError("the file is broken; get it again") from error


def hides_where_it_came_from():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        raise OSError(5, "a flush that failed", "metrics.jsonl") from None


def fails_twice():
    try:
        fails_in_finally()
    except AttributeError:
        raise ValueError("and once more")  # noqa: B904


@pytest.mark.parametrize("command", [fails_in_finally, answers_with_another, hides_where_it_came_from, fails_twice])
def test_an_error_in_the_wake_of_a_signal_is_that_signal(command, monkeypatch, capsys):
    monkeypatch.setattr(parser, "parse", lambda argv: (lambda options: command(), None))
    with heard(signal.SIGTERM):
        assert cli.main([]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == f"hrmas: {toys.LAST_WORDS[signal.SIGTERM]}\n"


@pytest.mark.parametrize("error", [AttributeError("a fault of ours"), KeyError("another")])
def test_a_fault_without_a_signal_is_seen(error, monkeypatch):
    def command(options):
        raise error
    monkeypatch.setattr(parser, "parse", lambda argv: (command, None))
    with pytest.raises(type(error)):
        cli.main([])


@pytest.mark.parametrize("argv", [["data", "build", "ntidigits", "--raw", "x"], ["search", "--help"], ["nothing"]])
def test_a_signal_at_every_line_of_the_parser(argv, monkeypatch, capsys):
    """Also within argparse, which keeps settings while it works and fails where it cannot put them back."""
    monkeypatch.setattr(process, "_leaving", lambda name: lambda signum, frame: sys.exit(128 + signum))  # in an import
    parser.parser.cache_clear()
    with signalled_at(None, None) as passed, contextlib.suppress(InputError, SystemExit):
        parser.parse(argv)
    lines, seen = len(passed), 0
    for at in range(1, lines, max(1, lines // 150)):
        parser.parser.cache_clear()
        with heard(signal.SIGINT), signalled_at(at, signal.SIGINT):
            try:
                status = cli.main(argv)
            except SystemExit as end:    # of --help; within an import
                status = end.code
        seen += status == 128 + signal.SIGINT
        assert status in (0, 2, 128 + signal.SIGINT) and "Traceback" not in capsys.readouterr().err
    assert seen > 100


def test_a_signal_at_every_line_of_a_write_leaves_nothing_half_written(tmp_path):
    """Of one that fails, so that a signal may come while the file is removed."""
    path, left = tmp_path / "x", 0

    def write():
        with atomic.atomic_write(path) as beside:
            beside.write_text("new")
            raise InputError("no more data")

    for at in itertools.count(1):
        path.write_text("old")
        if interrupted_at(at, ("atomic.py", "contextlib.py"), write):
            break
        left += len(list(tmp_path.glob(".*")))
        process._tidy()
        assert not list(tmp_path.glob(".*")) and path.read_text() == "old"
    assert at > 20 and left     # some signals do come where nothing else would remove the file


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_ends_the_program_at_once_leaves_nothing_half_written(tmp_path, signum):
    """As one does that comes while something is imported or destroyed, where an exception would be lost."""
    program = ("import os\nfrom hrmas_sparse import process\nprocess.begin('hrmas')\n"
               "from hrmas_sparse.storage import atomic\n"
               f"class Last:\n    def __del__(self):\n        os.kill(os.getpid(), {int(signum)})\n"
               "with process.signals_raise(), atomic.atomic_write('x') as beside:\n"
               "    beside.write_text('half')\n    Last()\n")
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=quiet_environment(),
                           capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (128 + signum, f"hrmas: {toys.LAST_WORDS[signum]}\n")
    assert not list(tmp_path.iterdir())


def interrupted_at(line, names, function):
    """Call a function, Signalled raised at the n-th line of these files that runs; whether there were fewer lines."""
    ahead = line

    def trace(frame, event, argument):
        nonlocal ahead
        if not frame.f_code.co_filename.endswith(names):
            return None
        if event == "line":
            ahead -= 1
            if ahead == 0:
                raise process.Signalled(signal.SIGTERM)
        return trace

    sys.settrace(trace)
    try:
        function()
    except (process.Signalled, InputError):
        pass
    finally:
        sys.settrace(None)
    return ahead > 0


@contextlib.contextmanager
def heard(signum):
    """As in the program, whose entry hears all signals; a test process may ignore some."""
    before = signal.signal(signum, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signum, before)


@contextlib.contextmanager
def signalled_at(line, signum):
    """Send this process a signal at the n-th line of argparse or our parser that runs; the lines that ran."""
    passed = []

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.endswith(("argparse.py", "parser.py", f"{os.sep}re{os.sep}__init__.py")):
            return None
        if event == "line":
            passed.append(frame.f_lineno)
            if len(passed) == line:
                os.kill(os.getpid(), signum)
        return trace

    sys.settrace(trace)
    try:
        yield passed
    finally:
        sys.settrace(None)
