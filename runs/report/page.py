"""The page: plain HTML with its style and figures inside, nothing is fetched from anywhere."""

import base64
from html import escape

STYLE = """
:root { color-scheme: light; }
body { max-width: 60rem; margin: 2.5rem auto 4rem; padding: 0 1.5rem; color: #1b1f24; background: #fff;
       font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; font-weight: 650; }
h2 { font-size: 1.15rem; margin: 2.8rem 0 .6rem; padding-top: .9rem; border-top: 1px solid #d5d9de; font-weight: 650; }
p { margin: .5rem 0; }
.about { color: #525a64; margin: 0; }
.warning { border-left: 4px solid #c44e00; padding: .5rem .9rem; background: #fdf3ec; margin: 1.2rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0 .4rem; font-size: .87rem; width: 100%;
        font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: #525a64; padding: .3rem .55rem; border-bottom: 1.5px solid #1b1f24;
     vertical-align: bottom; }
td { text-align: right; padding: .32rem .55rem; border-bottom: 1px solid #e6e9ec; white-space: nowrap; }
th.text, td.text { text-align: left; white-space: normal; }
td.text { min-width: 9rem; }
.small { font-size: .82rem; color: #525a64; }
figure { margin: 1.6rem 0 2.2rem; break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; }
figcaption { font-size: .85rem; color: #3b424a; margin-top: .6rem; }
.origin { color: #6b737d; font-size: .78rem; display: block; margin-top: .15rem; line-height: 1.45; }
@media print { body { max-width: none; margin: 0; font-size: 10.5pt; } h2 { break-after: avoid; }
               tr, figure, .warning { break-inside: avoid; } a { color: inherit; } .wide { overflow: visible; } }
"""


def table(header, rows, text_columns=(0,)):
    """A table; columns are numbers, aligned right, unless they are named as text."""
    def cells(row, tag):
        return "".join(f'<{tag} class="text">{escape(cell)}</{tag}>' if n in text_columns else
                       f"<{tag}>{escape(cell)}</{tag}>" for n, cell in enumerate(row))
    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    head = f'<thead><tr>{cells(header, "th")}</tr></thead>'
    return f'<div class="wide"><table>\n{head}\n<tbody>\n{body}\n</tbody></table></div>'


def paragraph(text, kind=None):
    """A paragraph."""
    return f'<p{f" class={kind!r}" if kind else ""}>{escape(text)}</p>'.replace("'", '"')


def figure(image, width, caption, origin):
    """A figure: the bytes of an SVG image, its width as part of the page's, its caption, what it was made from."""
    data = base64.b64encode(image).decode()
    return (f'<figure><img style="max-width: {100 * width:.0f}%" alt="{escape(caption.split(".")[0])}" '
            f'src="data:image/svg+xml;base64,{data}">\n<figcaption>{escape(caption)} '
            f'<span class="origin">{escape(origin)}</span></figcaption></figure>')


def section(title, *parts):
    """A heading and what follows it."""
    return "\n".join([f"<h2>{escape(title)}</h2>", *parts])


def page(title, about, parts):
    """The whole page; ``about`` is a list of lines under the title."""
    lines = "\n".join(paragraph(line, "about") for line in about)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{lines}\n"
            + "\n".join(parts) + "\n</body>\n</html>\n")
