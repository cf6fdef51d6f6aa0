"""Damages to files of recordings: each takes a NumPy generator and the bytes of a sound file, and returns others."""

import re

import sounds
from sounds import riff, sphere, word

# ---- of any file ----


def _at(rng, content, n=1):
    return rng.integers(max(len(content), 1), size=n)


def cut(rng, content):
    return content[: _at(rng, content)[0]]


def flip_bits(rng, content):
    out = bytearray(content)
    for where in _at(rng, content, rng.integers(1, 9)):
        out[where] ^= 1 << rng.integers(8)
    return bytes(out)


def extreme_word(rng, content):
    """Lengths, times and labels that lie: four or eight bytes become an extreme number."""
    word = [b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0" * 8, b"\xff" * 8, b"\0\0\xf8\x7f" * 2]
    out, where = bytearray(content), int(_at(rng, content)[0]) & ~3
    new = word[rng.integers(len(word))]
    out[where : where + len(new)] = new
    return bytes(out)


def drop_part(rng, content):
    begin, end = sorted(_at(rng, content, 2))
    return content[:begin] + content[end:]


def repeat_part(rng, content):
    begin, end = sorted(_at(rng, content, 2))
    return content[:end] + content[begin:end] + content[end:]


def swap_parts(rng, content):
    """Time runs backwards, lines change places."""
    a, b = sorted(_at(rng, content, 2) // 8 * 8)
    return content[:a] + content[b : b + 8] + content[a + 8 : b] + content[a : a + 8] + content[b + 8 :]


def other_number(rng, content):
    """A digit in the file becomes another, a sign, a letter or a line's end."""
    out = bytearray(content)
    digits = [i for i, byte in enumerate(content) if 48 <= byte < 58] or [0]
    out[digits[rng.integers(len(digits))]] = b"0123456789-.,anxe \n\xc3"[rng.integers(20)]
    return bytes(out)


def another_type(rng, content):
    """Empty, noise, text, a web page, another format."""
    noise = rng.bytes(int(rng.integers(1, 500)))
    return [b"", noise, b"\n" * 9, b"<!DOCTYPE html><html>", b"PK\3\4" + noise, b"\x89HDF\r\n\x1a\n" + noise,
            b"\x93NUMPY\1\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (9,)}", b"#" * 300][rng.integers(8)]


DAMAGES = (cut, flip_bits, flip_bits, extreme_word, extreme_word, drop_part, repeat_part, swap_parts, other_number,
           another_type)


# ---- of sound, and of text that holds numbers ----


def lying_header(rng, content):
    """A number among the first 44 bytes of a RIFF file becomes another."""
    out, (where, size) = bytearray(content), [(4, 4), (16, 4), (20, 2), (22, 2), (24, 4), (28, 4), (32, 2), (34, 2),
                                              (40, 4)][rng.integers(9)]
    value = [0, 1, 2, 3, 8, 24, 41, 8001, 47999, len(content), 2**31 - 2, 2**32 - 1, int(rng.integers(2**32))]
    out[where : where + size] = (value[rng.integers(13)] % 256**size).to_bytes(size, "little")
    return bytes(out)


def flip_header(rng, content):
    out = bytearray(content)
    out[rng.integers(min(len(out), 300))] ^= 1 << rng.integers(8)
    return bytes(out)


def other_format(rng, content):
    x = word(1, 50)
    return [riff(x, form=sounds.fmt(channels=2)), riff(x, form=sounds.fmt(bits=8)), riff(x, form=sounds.extensible()),
            riff(x, form=sounds.fmt(kind=3, bits=32)), riff(x[:0]), sphere(x), sphere(x, order="10"), sphere(x[:0]),
            sphere(x, sample_coding="-s26 pcm,embedded-shorten-v2.00"), b"RIFF", b"NIST_1A\n"][rng.integers(11)]


WORDS = [b"nan", b"-nan", b"inf", b"-1", b"0", b"1e-400", b"1e400", b"1e39", b"9" * 5000, b"x" * 5000, b"-i", b"-s9",
         b"", b"\0", b"\n", b"\r", b"1_0", "\u0663".encode(), b"0x10", b"1,5", b"end_head", b";", b"99999999999999999"]


def other_word(rng, content):
    """One or two words of the text become something else."""
    for _ in range(rng.integers(1, 3)):
        words = list(re.finditer(rb"[^\s]+", content[:3000])) or [re.match(b"", b"")]
        one = words[rng.integers(len(words))]
        content = content[: one.start()] + WORDS[rng.integers(len(WORDS))] + content[one.end() :]
    return content


def other_lines(rng, content):
    """Lines go, come twice, end early or end otherwise."""
    lines = content.split(b"\n")
    where = rng.integers(len(lines))
    choice = rng.integers(5)
    if choice == 3:
        lines[where] = lines[where][: rng.integers(len(lines[where]) + 1)]
    lines[where : where + 1] = [[], [lines[where]] * 2, [b""], [lines[where]], [b" " + lines[where] + b"\r"]][choice]
    return b"\n".join(lines)
