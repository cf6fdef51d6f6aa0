"""A page about the runs of an experiment or a study while they go on, served on the loopback address alone.

The page is made anew for each request from what lies in the folder; it has no script, and the browser asks for it again
every few seconds.
"""

import http.server
import urllib.parse
from html import escape
from pathlib import Path

from hrmas_sparse import environment
from hrmas_sparse.run.signals import stop_on_signals
from hrmas_sparse.storage import files, records
from hrmas_sparse.storage.errors import InputError
from runs import status
from runs.report.page import page

RELOAD_SECONDS = 5
SHOWN = 6                       # runs that are named beside a warning
WIDTH, HEIGHT = 220, 46
COLOURS = {"search-1": "#e69f00", "search-2": "#c44e00", "candidates": "#2e7d32", "retrain": "#0b4f8a"}
LOCAL = ("127.0.0.1", "localhost")
LARGEST_LOG = 1 << 20
SHADES = {"running": "#0b4f8a", "away": "#0b4f8a", "finished": "#2e7d32", "damaged": "#b00020", "given up": "#8a6d00"}


def curve(lines, epochs: int) -> str:
    """Return the accuracy of each epoch as a drawing, a colour for each phase; dashed what judges the architecture."""
    def points(values):
        return " ".join(f"{WIDTH * n / max(epochs, 1):.1f},{(HEIGHT - 1) * (1 - value):.1f}" for n, value in values)

    drawn = []
    numbered = list(enumerate(lines, start=1))
    for phase, colour in COLOURS.items():
        own = [(n, line) for n, line in numbered if line["phase"] == phase]
        drawn.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" '
                     f'points="{points((n, line["accuracy"]) for n, line in own)}"/>')
        judged = [(n, line["valid_accuracy"]) for n, line in own if "valid_accuracy" in line]
        drawn.append(f'<polyline fill="none" stroke="{colour}" stroke-dasharray="2 2" points="{points(judged)}"/>')
    return (f'<svg width="{WIDTH}" height="{HEIGHT}" style="background:#f4f5f7" role="img" '
            f'aria-label="accuracy by epoch">{"".join(drawn)}</svg>')


def html(home: Path) -> str:
    """Return the page about a folder."""
    found = status.rows(home)
    header = "".join(f'<th{"" if n else " class=text"}>{escape(cell)}</th>'
                     for n, cell in enumerate([*status.HEADER, "learning curve"]))
    body = "\n".join(_row(one) for one in found)
    told: dict[str, list[str]] = {}
    for one in found:
        for text in one.warnings:
            told.setdefault(text, []).append(one.name)
    warnings = [f'<p class="warning">{escape(text)} <span class="small">({escape(", ".join(names[:SHOWN]))}'
                f'{f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""})</span></p>'
                for text, names in told.items()]
    links = ['<a href="report">report</a>'] if (home / "report.html").is_file() else []
    if dashboard := _dashboard(home):
        links.append(f'<a href="{escape(dashboard)}">Dask\'s own page</a>')
    about = [status.counted(found), "Accuracy from 0 to 100 % by epoch: search in orange (dashed: the half that judges "
             "the architecture), candidates in green, retraining in blue."]
    text = page(str(home), about, [f'<p class="small">{" &middot; ".join(links)}</p>', *warnings,
                                   f'<div class="wide"><table><thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n'
                                   "</tbody></table></div>"])
    return text.replace("<title>", f'<meta http-equiv="refresh" content="{RELOAD_SECONDS}">\n<title>', 1).replace(
        "max-width: 60rem", "max-width: 84rem", 1)


def _row(one):
    name, state, *others = status.cells(one)
    log = f'<a href="logs/{urllib.parse.quote(one.name)}.log">{escape(name)}</a>'
    shade = SHADES.get(state, "#525a64")
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
    return (f'<tr><td class="text">{log}</td><td style="color:{shade}">{escape(state)}</td>{cells}'
            f"<td>{curve(one.lines, one.epochs)}</td></tr>")


def _dashboard(home):
    try:
        link = records.read_json(home / status.DASHBOARD, {"link": str})["link"]
    except InputError:
        return ""
    return link if link.startswith(("http://", "https://")) else ""


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answer with the page, the report or a log; only to whoever asks for this machine by name."""

    home: Path

    def do_GET(self) -> None:
        if self.headers.get("Host", "").rpartition(":")[0] not in LOCAL:
            self.send_error(403)        # a page from elsewhere, whose name was made to point here
            return
        path = urllib.parse.unquote(self.path)
        try:
            if path == "/":
                self._answer(html(self.home).encode(), "text/html")
            elif path == "/report":
                self._answer(files.read(self.home / "report.html"), "text/html")
            elif path.startswith("/logs/") and Path(path).name == path.removeprefix("/logs/"):
                content = files.read(self.home / "logs" / Path(path).name, own=True)
                self._answer(content[-LARGEST_LOG:], "text/plain")
            else:
                self.send_error(404)
        except InputError:
            self.send_error(404)
        except ConnectionError:         # the browser went away
            pass

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args) -> None:
        """Say nothing of each request."""


def server(home: Path, port: int = 0) -> http.server.ThreadingHTTPServer:
    """Return a server of the page about a folder, on the loopback address; port 0 is a free one."""
    handler = type("Handler", (_Handler,), {"home": home})
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise InputError(f"{environment.option('port')}: {port}: cannot be used ({error})") from error


def run(options) -> int:
    """Do what `hrmas watch` asks for; returns the exit status."""
    home = status.home_of(options.name)
    if options.tensorboard:
        return _tensorboard(home)
    with stop_on_signals() as stop, server(home, options.port or 0) as serving:
        print(f"http://127.0.0.1:{serving.server_port}/ shows {home}; Ctrl-C ends it", flush=True)
        serving.timeout = 0.2
        while not stop():
            serving.handle_request()
    return 0


def _tensorboard(home: Path) -> int:
    """Write the metrics of all runs as event files."""
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError:
        raise InputError(f"event files need tensorboardX: {environment.install('tensorboard')}") from None
    place = home / "tensorboard"
    for one in status.rows(home):
        folder = place / one.name
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(folder)) as writer:
            for epoch, line in enumerate(one.lines, start=1):
                for key, value in line.items():
                    if isinstance(value, (int, float)) and key != "epoch":
                        writer.add_scalar(key, value, epoch)
    print(f"{place}: for tensorboard --logdir {place}")
    return 0
