"""One Markdown file about a GPU: what it is, the self-test, the tests, compute-sanitizer, the bench. `make gpu-report`.

Every part is a command of the program or the Makefile, run as anybody would; one that fails does not stop the others.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from hrmas_sparse.doctor import require_gpu
from hrmas_sparse.storage.atomic import write_text
from hrmas_sparse.storage.errors import InputError

PARTS = {  # title: words of make
    "Installation": ["doctor"],
    "Self-test": ["self-test"],
    "Tests": ["test-gpu"],
    "compute-sanitizer": ["sanitize"],
    "The kernels' machine code": ["gpu-static"],
    "Bench": ["bench", "BACKEND=cuda"],
    "A search on TI46's synthetic stand-in": ["search", "DATA=ti46", "BACKEND=cuda", "PROFILE=demo", "FRESH=1",
                                              "NAME=gpu-report"],
}
LINES = 200   # of a part's output that are kept, its last


def run(title, words):
    """Run a part; returns its section of the report and whether it succeeded."""
    began = time.monotonic()
    done = subprocess.run(["make", "--no-print-directory", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")
    return section(title, words, done.returncode, time.monotonic() - began, done.stdout), done.returncode == 0


def section(title, words, status, seconds, output):
    """A part of the report. Progress bars and colours go; tables of Markdown stay tables."""
    lines = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line.rpartition("\r")[2] or line) for line in output.splitlines()]
    dropped = [f"({len(lines) - LINES} lines before these)"] if len(lines) > LINES else []
    said = "succeeded" if status == 0 else f"ENDED WITH STATUS {status}"
    return "\n".join([f"## {title}", "", f"`make {' '.join(words)}` {said} after {seconds:.0f} s.", "", "````text",
                      *dropped, *lines[-LINES:], "````", ""])


def main(arguments):
    """Write the report; returns 0 if all parts succeed, 1 if not, 2 where there is no GPU."""
    parser = argparse.ArgumentParser(prog="make gpu-report", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/out/gpu-report.md"))
    parser.add_argument("--without", default="", help="parts to leave out: words such as bench,sanitize")
    options = parser.parse_args(arguments)
    try:
        require_gpu()
    except InputError as error:
        print(f"gpu-report: {error}", file=sys.stderr)
        return 2
    left_out, parts = options.without.split(","), []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for title, words in PARTS.items():
        if words[0] in left_out:
            continue
        print(f"{title} ...", flush=True)
        parts.append(run(title, words))
        write_text(options.out, "\n".join(["# hrmas_sparse on a GPU", "", *(text for text, _ in parts)]))
    print(f"{options.out}: {sum(well for _, well in parts)} of {len(parts)} parts succeeded")
    return int(not all(well for _, well in parts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
