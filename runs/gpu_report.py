"""One Markdown file about a GPU: what it is, the self-test, the tests, compute-sanitizer, the bench. `make gpu-report`.

Every part is a command of the program or the Makefile, run as anybody would; one that fails does not stop the others.
With TI46's recordings (`ARGS="--raw folder"`) one more is the paper's search, timed.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from data_prep import synthetic
from hrmas_sparse import places
from hrmas_sparse.doctor import require_gpu
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.storage.atomic import write_text
from hrmas_sparse.storage.errors import InputError

PARTS = {  # title: words of make
    "Installation": ["doctor"],
    "Self-test": ["self-test"],
    "Tests": ["test-gpu"],
    "compute-sanitizer": ["sanitize"],
    "The kernels' machine code": ["gpu-static"],
    "Bench": ["bench", "BACKEND=cuda"],
    "A search on N-TIDIGITS's synthetic stand-in": ["search", f"DATA={synthetic.DATASET}", "BACKEND=cuda",
                                                    "PROFILE=demo", "FRESH=1", "NAME=gpu-report"],
}
SEARCH = "The search of the paper"    # on recordings that are given
NAME = "gpu-report-ti46"              # its run
OF_THE_PAPER = 4142                   # training recordings
LINES = 200   # of a part's output that are kept, its last


def run(title, words):
    """Run a part; returns its section of the report and whether it succeeded."""
    began = time.monotonic()
    done = subprocess.run(["make", "--no-print-directory", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")
    return section(title, words, done.returncode, time.monotonic() - began, done.stdout), done.returncode == 0


def timed(folder):
    """What a finished search says of its time, and of that with the paper's recordings: time grows with them."""
    result = RunDir(folder).result()
    seconds, recordings = result["seconds"], result["train"]["samples"]
    whole = sum(seconds.values())
    minutes = whole * OF_THE_PAPER / recordings / 60
    phases = ", ".join(f"{phase} {time:.0f} s" for phase, time in seconds.items())
    return (f"{phases}: {whole:.0f} s with {recordings:,} training recordings; {minutes:.1f} minutes with the paper's "
            f"{OF_THE_PAPER:,}. Test accuracy: {100 * result['test']['accuracy']:.2f} %.\n")


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
    parser.add_argument("--raw", help="folder of TI46's recordings, for the search of the paper")
    options = parser.parse_args(arguments)
    try:
        require_gpu()
    except InputError as error:
        print(f"gpu-report: {error}", file=sys.stderr)
        return 2
    left_out, parts, wanted = options.without.split(","), [], dict(PARTS)
    if options.raw:
        wanted[SEARCH] = ["search", "DATA=ti46", f"RAW={options.raw}", "BACKEND=cuda", "FRESH=1", f"NAME={NAME}"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for title, words in wanted.items():
        if words[0] in left_out:
            continue
        print(f"{title} ...", flush=True)
        text, well = run(title, words)
        parts.append((text + "\n" + timed(places.out() / NAME) if title == SEARCH and well else text, well))
        write_text(options.out, "\n".join(["# hrmas_sparse on a GPU", "", *(text for text, _ in parts)]))
    print(f"{options.out}: {sum(well for _, well in parts)} of {len(parts)} parts succeeded")
    return int(not all(well for _, well in parts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
