"""A motif as a drawing: SVG text, made without a plotting library."""

from __future__ import annotations

import numpy as np

EXCITES, INHIBITS = "#b2182b", "#2166ac"
SIZE, RING, RADIUS = 320, 100.0, 13.0     # of the picture, of the circle the neurons lie on, of a neuron; pixels


def text_svg(text: str) -> str:
    """Return a drawing that is a line of text."""
    return _page(f'<text x="{SIZE / 2}" y="{SIZE / 2}" text-anchor="middle">{text}</text>', text)


def motif_svg(intra: np.ndarray, inter: np.ndarray, title: str) -> str:
    """Return the SVG text of a motif.

    Neurons lie on a circle. An arrow excites, a dashed line with a bar inhibits. A square is the same neuron of the
    previous (filled) or the next motif (open).

    Parameters
    ----------
    intra : (v, v) of +1, -1, 0, [target, source]
    inter : (v, 2) of +1, -1, 0, [target, previous or next motif]
    title : plain text
    """
    v = len(intra)
    angle = 2 * np.pi * np.arange(v) / v - np.pi / 2
    outward = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    place = SIZE / 2 + RING * outward
    scale = min(1.0, 6 / v + 0.15)
    parts = [_link(place[source], place[target], RADIUS * scale, intra[target, source])
             if source != target else _loop(place[target], outward[target], RADIUS * scale, intra[target, source])
             for target, source in zip(*np.nonzero(intra))]
    for target, side in zip(*np.nonzero(inter)):
        across = np.array([-outward[target][1], outward[target][0]]) * (1, -1)[side]
        start = place[target] + (outward[target] + 0.9 * across) * 1.9 * RADIUS * scale
        half = 3.5 * scale
        parts.append(_link(start, place[target], RADIUS * scale, inter[target, side], sent_from=0.0))
        parts.append(f'<rect x="{start[0] - half:.1f}" y="{start[1] - half:.1f}" width="{2 * half:.1f}" '
                     f'height="{2 * half:.1f}" fill="{("black", "white")[side]}" stroke="black"/>')
    for k, (x, y) in enumerate(place):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS * scale:.1f}" fill="white" stroke="black"/>'
                     f'<text x="{x:.1f}" y="{y:.1f}" font-size="{11 * scale:.1f}" text-anchor="middle" '
                     f'dominant-baseline="central">{k}</text>')
    return _page("\n".join(parts), title)


def _page(body: str, title: str) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}" viewBox="0 0 {SIZE} {SIZE}" '
            f'font-family="sans-serif" font-size="12">\n<title>{title}</title>\n{body}\n</svg>\n')


def _stroke(sign: int) -> str:
    dashes = "" if sign > 0 else ' stroke-dasharray="5 3"'
    return f'fill="none" stroke="{EXCITES if sign > 0 else INHIBITS}" stroke-width="1.4"{dashes}'


def _link(start: np.ndarray, end: np.ndarray, radius: float, sign: int, sent_from: float | None = None) -> str:
    """A bent line from one neuron to another, with its head; the two directions bend to different sides."""
    along = end - start
    middle = (start + end) / 2 + 0.16 * np.array([along[1], -along[0]])
    leave = (radius if sent_from is None else sent_from) * (middle - start) / np.linalg.norm(middle - start)
    arrive = (middle - end) / np.linalg.norm(middle - end)
    a, b = start + leave, end + radius * arrive
    return (f'<path d="M {a[0]:.1f} {a[1]:.1f} Q {middle[0]:.1f} {middle[1]:.1f} {b[0]:.1f} {b[1]:.1f}" '
            f'{_stroke(sign)}/>{_head(b, arrive, sign)}')


def _loop(centre: np.ndarray, outward: np.ndarray, radius: float, sign: int) -> str:
    """A connection from a neuron to itself: a ring on its outside."""
    x, y = centre + 1.7 * radius * outward
    side = np.array([-outward[1], outward[0]])
    back = 0.87 * outward + 0.5 * side
    return (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{0.85 * radius:.1f}" {_stroke(sign)}/>'
            f'{_head(centre + radius * back, back, sign)}')


def _head(tip: np.ndarray, back: np.ndarray, sign: int) -> str:
    """An arrow head, or a bar, that touches a neuron at ``tip``; ``back`` points along the line away from it."""
    across = np.array([-back[1], back[0]])
    if sign > 0:
        corners = [tip, tip + 7 * back + 3 * across, tip + 7 * back - 3 * across]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        return f'<polygon points="{points}" fill="{EXCITES}"/>'
    (x1, y1), (x2, y2) = tip + back + 4 * across, tip + back - 4 * across
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{INHIBITS}" stroke-width="2.4"/>'
