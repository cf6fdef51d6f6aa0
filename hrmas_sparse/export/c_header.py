"""A network as a C header and a C file for microcontrollers: C99, float32, event-driven, no malloc, no library.

The state of the network is one struct of the caller's; weights are constants, which a linker leaves in flash memory.
Work follows the spikes: a step adds one row of weights for each input event and for each spike of the step before,
then moves every neuron once. The arithmetic is that of mathematics 1, sums in the order of the senders.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hrmas_sparse.export.description import Description, LayerDescription
from hrmas_sparse.storage.atomic import write_text

_COLUMNS = 8  # numbers in a line
_RESERVED = set("""auto break case char const continue default do double else enum extern float for goto if inline int
    long main register restrict return short signed sizeof static struct switch typedef union unsigned void volatile
    while""".split())


def write(path: str | Path, description: Description) -> None:
    """Write `path` (.h) and the file beside it that ends in .c, each atomically.

    Parameters
    ----------
    path : path of the header
        Its stem, made an identifier, begins every name that other C files see.
    description : Description
        float64 numbers are rounded to float32.

    Raises
    ------
    InputError
        A file cannot be written.
    """
    path, narrow = Path(path), description.astype("float32")
    prefix = identifier(path.stem)
    write_text(path.with_suffix(".c"), _source(narrow, prefix, path.name))
    write_text(path, _header(narrow, prefix))


def identifier(text: str) -> str:
    """Return a C identifier that resembles `text`.

    Examples
    --------
    >>> identifier("TI46-s0"), identifier("2nd"), identifier("int")
    ('ti46_s0', 'net_2nd', 'net_int')
    """
    name = re.sub(r"[^a-z0-9_]", "_", text.lower()).strip("_")
    return name if name and not name[0].isdigit() and name not in _RESERVED else f"net_{name}".rstrip("_")


def _header(description: Description, p: str) -> str:
    big, layers = p.upper(), description.named()
    index = "uint16_t" if max(description.channels, *(layer.size for _, layer in layers)) < 65536 else "uint32_t"
    sizes = "\n".join(f"#define {big}_NEURONS{key.upper()} {layer.size}" for key, layer in layers)
    fields = "\n".join(f"    float received{key}[{n}], current{key}[{n}], potential{key}[{n}];\n"
                       f"    {p}_index sent{key}[{n}];  /* who spiked in the last step, rising; count{key} of them */\n"
                       f"    uint32_t count{key};"
                       for key, n in ((key, f"{big}_NEURONS{key.upper()}") for key, _ in layers))
    names = "".join(f"\n *   {number}: {_plain(name)}" for number, name in enumerate(description.class_names))
    return f"""\
/* {_plain(description.name)}: a spiking network, exported by hrmas_sparse.
 *
 *   static {p}_state s;
 *   {p}_reset(&s);                           before each sample
 *   {p}_step(&s, channel, value, events);    in every time step, with the events of that step
 *   {p}_decide(&s);                          after the last step: the class
 *
 * A time step is one of the data that the network was trained on.{f'''
 * Classes:{names}''' if names else ''} */
#ifndef {big}_H
#define {big}_H

#include <stdint.h>

#define {big}_CHANNELS {description.channels}
{sizes}
#define {big}_CLASSES {big}_NEURONS_OUT

typedef {index} {p}_index;

typedef struct {{
{fields}
    float psc[{big}_CLASSES];    /* filtered output spikes */
    float score[{big}_CLASSES];  /* their sum over time */
}} {p}_state;

/* Set the state to zero. */
void {p}_reset({p}_state *s);

/* Run one time step. Event i adds value[i] on channel[i]; value NULL: 1 each. A channel beyond the last is ignored. */
void {p}_step({p}_state *s, const {p}_index *channel, const float *value, uint32_t events);

/* Return the class with the largest score, the lowest one of a tie. */
int {p}_decide(const {p}_state *s);

#endif
"""


def _source(description: Description, p: str, header: str) -> str:
    layers = description.named()
    decay = _float(np.float32(1 - 1 / description.tau_s))
    return "\n".join([
        f"""\
/* {_plain(description.name)}: the network of {_plain(header)}. */
#include "{header}"

#include <stddef.h>
#include <string.h>

static const float decay = {decay};  /* of currents, a step: 1 - 1/tau_s */
""",
        *(_constants(p, key, layer) for key, layer in layers),
        _FUNCTIONS.replace("@", p),
        f"void {p}_reset({p}_state *s)\n{{\n    memset(s, 0, sizeof *s);\n}}\n",
        _step(description, p),
        f"""\
int {p}_decide(const {p}_state *s)
{{
    int best = 0;
    for (int o = 1; o < {p.upper()}_CLASSES; o++)
        if (s->score[o] > s->score[best])
            best = o;
    return best;
}}"""]) + "\n"


def _constants(p: str, key: str, layer: LayerDescription) -> str:
    """The numbers of one layer."""
    size = f"{p.upper()}_NEURONS{key.upper()}"
    one = np.float32(1)
    parts = [
        f"/* layer {key.strip('_')}: weights, a row a sender; 1 - 1/tau; R/tau; threshold */",
        f"static const float w{key}[{layer.w.shape[0]}][{size}] = {{\n"
        + ",\n".join(f"{{{_numbers(row)}}}" for row in layer.w) + "};",
        _vector("float", f"leak{key}", size, one - one / layer.tau),
        _vector("float", f"gain{key}", size, layer.R / layer.tau),
        f"static const float v_th{key} = {_float(np.float32(layer.v_th))};"]
    if layer.recurrent:
        parts += ["/* recurrent weights: those of sender r are number first[r] to first[r + 1] - 1 */",
                  _vector("uint32_t", f"first{key}", f"{size} + 1", layer.indptr),
                  _vector(f"{p}_index", f"target{key}", layer.indices.size, layer.indices),
                  _vector("float", f"weight{key}", layer.data.size, layer.data)]
    return "\n".join(parts) + "\n"


_FUNCTIONS = """\
static void add_row(float *received, const float *row, float value, uint32_t neurons)
{
    for (uint32_t n = 0; n < neurons; n++)
        received[n] += value * row[n];
}

/* Move the neurons of a layer by one step; received is used up. Return how many spiked. */
static uint32_t move(uint32_t neurons, const float *leak, const float *gain, float v_th, float *received,
                     float *current, float *potential, @_index *sent)
{
    uint32_t count = 0;
    for (uint32_t n = 0; n < neurons; n++) {
        current[n] = decay * current[n] + received[n];
        received[n] = 0;
        potential[n] = leak[n] * potential[n] + gain[n] * current[n];
        if (potential[n] > v_th) {
            potential[n] = 0;
            sent[count++] = (@_index)n;
        }
    }
    return count;
}
"""


def _step(description: Description, p: str) -> str:
    big, layers = p.upper(), description.named()
    first = layers[0][0]
    lines = [f"void {p}_step({p}_state *s, const {p}_index *channel, const float *value, uint32_t events)", "{",
             "    for (uint32_t i = 0; i < events; i++)",
             f"        if (channel[i] < {big}_CHANNELS)",
             f"            add_row(s->received{first}, w{first}[channel[i]], value == NULL ? 1 : value[i], "
             f"{big}_NEURONS{first.upper()});"]
    below = None
    for key, layer in layers:
        if below is not None:
            lines += [f"    for (uint32_t i = 0; i < s->count{below}; i++)",
                      f"        add_row(s->received{key}, w{key}[s->sent{below}[i]], 1, {big}_NEURONS{key.upper()});"]
        if layer.recurrent:
            lines += [f"    for (uint32_t i = 0; i < s->count{key}; i++) {{  /* spikes of the step before */",
                      f"        const uint32_t r = s->sent{key}[i];",
                      f"        for (uint32_t k = first{key}[r]; k < first{key}[r + 1]; k++)",
                      f"            s->received{key}[target{key}[k]] += weight{key}[k];", "    }"]
        lines.append(f"    s->count{key} = move({big}_NEURONS{key.upper()}, leak{key}, gain{key}, v_th{key}, "
                     f"s->received{key}, s->current{key},\n                      s->potential{key}, s->sent{key});")
        below = key
    lines += [f"    for (uint32_t o = 0; o < {big}_CLASSES; o++)", "        s->psc[o] *= decay;",
              "    for (uint32_t i = 0; i < s->count_out; i++)", "        s->psc[s->sent_out[i]] += 1;",
              f"    for (uint32_t o = 0; o < {big}_CLASSES; o++)", "        s->score[o] += s->psc[o];", "}", ""]
    return "\n".join(lines)


def _vector(kind: str, name: str, size: object, numbers: np.ndarray) -> str:
    return f"static const {kind} {name}[{size}] = {{\n{_numbers(numbers)}}};"


def _numbers(numbers: np.ndarray) -> str:
    texts = [_float(x) for x in numbers] if numbers.dtype.kind == "f" else [str(x) for x in numbers.tolist()]
    return ",\n".join(", ".join(texts[n:n + _COLUMNS]) for n in range(0, len(texts), _COLUMNS))


def _float(x: np.float32) -> str:
    """A C constant that is this float32 exactly."""
    text = np.format_float_scientific(x, unique=True, trim="0") if x and not 1e-3 <= abs(x) < 1e5 else \
        np.format_float_positional(x, unique=True, trim="0")
    return text + "f"


def _plain(text: str) -> str:
    """Text that cannot end a C comment or go on in the next line."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/").replace("?", ".")
