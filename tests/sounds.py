"""Sound files for tests, written byte by byte, and words to put into them."""

import struct

import numpy as np

PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")


def word(seed, samples=1500, level=0.3):
    """16-bit samples (S,) of something like a vowel."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 12500
    formants = rng.uniform([200, 900, 2000], [800, 1800, 3500])
    wave = sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in formants) / 3 * np.sin(np.pi * t / t[-1])
    return np.rint(32767 * (level * wave + 0.01 * rng.standard_normal(samples)).clip(-1, 1)).astype(np.int16)


def chunk(name, body, size=None):
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt(kind=1, channels=1, rate=12500, bits=16, frame=None, extra=b""):
    frame = channels * bits // 8 if frame is None else frame
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits) + extra)


def extensible(guid=PCM_GUID, **change):
    return fmt(kind=0xFFFE, extra=struct.pack("<HHI", 22, 16, 4) + guid, **change)


def riff(samples, rate=12500, form=None, before=b"", after=b"", size=None):
    """A RIFF file; `form` replaces its format chunk, `size` is what the data chunk claims."""
    data = chunk(b"data", samples.astype("<i2").tobytes(), size)
    body = b"WAVE" + (fmt(rate=rate) if form is None else form) + before + data + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


def sphere(samples, rate=12500, order="01", length=1024, fields=(), **change):
    """A SPHERE file; `change` replaces fields ("-i 1"), None leaves one out, `fields` adds lines."""
    head = {"database_id": "-s4 TI46", "utterance_id": "-s8 0af1s1t0", "channel_count": "-i 1",
            "sample_count": f"-i {len(samples)}", "sample_rate": f"-i {rate}", "sample_n_bytes": "-i 2",
            "sample_byte_format": f"-s2 {order}", "sample_sig_bits": "-i 12"} | change
    lines = [f"{k} {v}" for k, v in head.items() if v is not None]
    text = "\n".join(["NIST_1A", f"{length:7d}", *lines, *fields, "end_head", ""]).encode()
    return text.ljust(length) + samples.astype("<i2" if order == "01" else ">i2").tobytes()


def fsdd(root, indices=(5, 10), digits=range(10), speakers=("ann",), samples=900):
    """A small FSDD; returns its paths."""
    paths = []
    (root / "recordings").mkdir(parents=True)
    for digit in digits:
        for speaker in speakers:
            for index in indices:
                paths.append(root / "recordings" / f"{digit}_{speaker}_{index}.wav")
                paths[-1].write_bytes(riff(word(digit * 100 + index, samples), rate=8000))
    return paths


TI46_NAMES = ("train/{s}/0{c}{s}set0.wav", "train/{s}/0{c}{s}set9.wav", "test/{s}/0{c}{s}s3t1.wav")


def ti46(root, letters="acz", speakers=("f1",), make=riff):
    """A small TI46-Alpha of sound files below `root`; returns its paths."""
    paths = []
    for letter in letters:
        for speaker in speakers:
            for name in TI46_NAMES:
                paths.append(root / name.format(c=letter, s=speaker))
                paths[-1].parent.mkdir(parents=True, exist_ok=True)
                paths[-1].write_bytes(make(word(len(paths))))
    return paths
