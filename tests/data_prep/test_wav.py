import struct

import numpy as np
import pytest
from sounds import PCM_GUID, chunk, extensible, fmt, riff, sphere, word

from data_prep import wav
from data_prep.wav import read_wav
from hrmas_sparse.storage.errors import InputError

X = np.array([0, 1, -1, 32767, -32768, 258], dtype=np.int16)


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "a.wav"
        path.write_bytes(content)
        return read_wav(path)
    return read


@pytest.mark.parametrize("content", [
    riff(X),
    riff(X, form=extensible()),
    riff(X, before=chunk(b"LIST", b"odd") + chunk(b"fact", b"1234")),
    riff(X, after=chunk(b"LIST", b"INFO")),
    riff(X, after=b"\0stray"),
    riff(X, form=fmt(extra=b"\0\0")),
    riff(X).replace(struct.pack("<I", 48), b"\xff\xff\xff\xff", 1),  # the size of the whole is not needed
    sphere(X),
    sphere(X, order="10"),
    sphere(X, length=2048, fields=["; a comment", "", "speaker -s7 a -i 3 b", "gain -r 1.5"]),
    sphere(X, channel_count=None, sample_coding="-s3 pcm"),
    sphere(X) + b"more",
], ids=range(12))
def test_reads(read, content):
    samples, rate = read(content)
    assert rate == 12500 and samples.dtype == np.float64
    np.testing.assert_array_equal(samples, X / 32768)


def test_the_rate_is_that_of_the_file(read):
    assert read(riff(X, rate=8000))[1] == 8000 and read(sphere(X, rate=16000))[1] == 16000


MP3_GUID = struct.pack("<H", 85) + PCM_GUID[2:]


@pytest.mark.parametrize("content, message", [
    (b"", r"byte 0: expected 'RIFF' \(wav\) or 'NIST_1A' \(SPHERE\), found an empty file"),
    (b"ID3\x03 music", "byte 0: expected 'RIFF'"),
    (b"RIFF\0\0\0\0AVI ", "byte 8: expected 'WAVE', found b'AVI '"),
    (b"RIFF", "byte 8: expected 'WAVE', found b''"),
    (riff(X)[:12], "byte 12: expected a chunk 'data', found the end"),
    (riff(X)[:40], "byte 36: expected a chunk 'data', found the end"),
    (riff(X)[:30], "byte 20: expected a format of at least 16 bytes, found 10"),
    (riff(X)[:50], "byte 44: expected 12 bytes of samples, found 6: the file is cut short"),
    (riff(X, size=0xFFFFFFFF - 1), "byte 44: expected 4294967294 bytes of samples, found 12"),
    (riff(X, size=11), "byte 44: expected samples of 2 bytes, found 11 bytes"),
    (riff(X[:0]), "byte 44: expected at least one sample, found none"),
    (riff(X, form=b""), "byte 12: expected a chunk 'fmt ' before 'data', found none"),
    (riff(X, form=fmt(channels=2)), "byte 22: expected one channel, found 2"),
    (riff(X, form=fmt(channels=0)), "byte 22: expected one channel, found 0"),
    (riff(X, form=fmt(bits=8)), "byte 34: expected 16 bits a sample, found 8"),
    (riff(X, form=fmt(bits=24)), "byte 34: expected 16 bits a sample, found 24"),
    (riff(X, form=fmt(frame=4)), "byte 32: expected 2 bytes a sample, found 4"),
    (riff(X, form=fmt(kind=3, bits=32)), "byte 20: expected uncompressed .*, found floating point"),
    (riff(X, form=fmt(kind=7, bits=8)), "byte 20: .* found mu-law"),
    (riff(X, form=fmt(kind=0x1234)), "byte 20: .* found format 0x1234"),
    (riff(X, form=extensible(MP3_GUID)), "byte 20: .* found another one"),
    (riff(X, form=fmt(kind=0xFFFE)), "byte 20: .* found another one"),
    (riff(X, rate=0), "byte 24: expected 8000 to 48000 samples a second, found 0"),
    (riff(X, rate=2147483647), "byte 24: .* found 2147483647"),
    (sphere(X)[:12], "byte 8: expected the length of the header"),
    (sphere(X)[:500], "byte 8: expected a header of 1024 bytes, found a file of 500"),
    (sphere(X)[:1030], "byte 1024: expected 12 bytes of samples, found 6"),
    (sphere(X).replace(b"   1024", b"9999999"), "byte 8: expected the length of the header, 17 to 65536"),
    (sphere(X).replace(b"   1024", b"   -024"), "byte 8: expected the length of the header"),
    (sphere(X).replace(b"   1024", b"   0063"), "byte 63: expected 'end_head' inside the header"),
    (sphere(X, sample_count="-i 99999999999999"), "byte 1024: expected 199999999999998 bytes of samples, found 12"),
    (sphere(X, sample_count="-i -6"), "byte 82: expected a number of samples, found -6"),
    (sphere(X, sample_count="-i 0"), "byte 1024: expected at least one sample"),
    (sphere(X, sample_count="-i 2.5"), "the field sample_count with a whole number, found 2.5"),
    (sphere(X, sample_count="-i nan"), "the field sample_count with a whole number, found nan"),
    (sphere(X, sample_count="-i six"), "expected a number, found b'six'"),
    (sphere(X, sample_count="-s1 6"), "the field sample_count with a whole number, found '6'"),
    (sphere(X, sample_count="= 6"), "byte 82: expected 'key -i number'"),
    (sphere(X, sample_count=None), "the field sample_count with a whole number, found none"),
    (sphere(X, rate=1), "8000 to 48000 samples a second, found 1"),
    (sphere(X, channel_count="-i 2"), "expected channel_count 1, found 2"),
    (sphere(X, sample_n_bytes="-i 1"), "expected sample_n_bytes 2, found 1"),
    (sphere(X, sample_byte_format="-s2 00"), "expected sample_byte_format 01 or 10, found '00'"),
    (sphere(X, sample_byte_format=None), "expected sample_byte_format 01 or 10, found None"),
    (sphere(X, sample_coding="-s4 ulaw"), "expected sample_coding pcm, found 'ulaw'; replace"),
    (sphere(X, sample_coding="-s26 pcm,embedded-shorten-v2.00"), "found 'pcm,embedded-shorten-v2.00' .*sph2pipe"),
])
def test_refuses_naming_the_byte(read, tmp_path, content, message):
    with pytest.raises(InputError, match=message) as error:
        read(content)
    assert str(error.value).startswith(f"{tmp_path / 'a.wav'}, byte ")


def test_every_truncation_is_refused(read):
    for whole in (riff(X), riff(X, form=extensible()), sphere(X, length=400)):
        for length in range(len(whole)):
            with pytest.raises(InputError, match=r"a\.wav, byte \d+: expected"):
                read(whole[:length])


def test_no_more_is_read_than_a_word_takes(tmp_path):
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(riff(word(1)))
        file.truncate(1 << 40)  # a file with a hole: it takes no room
    with pytest.raises(InputError, match="a.wav: expected one spoken word, found 1,099,511,627,776 bytes"):
        read_wav(path)
    with path.open("wb") as file:
        file.truncate(wav.MAX_BYTES)
    with pytest.raises(InputError, match="byte 0: expected 'RIFF'"):
        read_wav(path)
