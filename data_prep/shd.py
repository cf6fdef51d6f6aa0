"""SHD, the Spiking Heidelberg Digits: ten digits in English and German; see heidelberg.py."""

from __future__ import annotations

from data_prep import heidelberg
from data_prep.heidelberg import BY_HAND as BY_HAND, CHANNELS as CHANNELS, ENCODINGS as ENCODINGS, STEP_MS as STEP_MS

CLASS_NAMES = tuple(str(number) for number in range(20))  # unless the files name them
WHOLE = (8156, 2264)
REMOTES = heidelberg.remotes("shd", train="f3252aeb598ac776c1b526422d90eecb", test="1503a5064faa34311c398fb0a1ed0a6f")
find, samples = heidelberg.reader("shd", len(CLASS_NAMES))
