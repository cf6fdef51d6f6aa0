"""SSC, the Spiking Speech Commands: 35 spoken words; see heidelberg.py.

The published validation part, ssc_valid.h5, is left alone: settings are tuned on `data.partition = "valid-1"`, drawn
from the training part as for every data set.
"""

from __future__ import annotations

from data_prep import heidelberg
from data_prep.heidelberg import BY_HAND as BY_HAND, CHANNELS as CHANNELS, ENCODINGS as ENCODINGS, STEP_MS as STEP_MS

CLASS_NAMES = tuple(str(number) for number in range(35))  # unless the files name them
WHOLE = (75466, 20382)
REMOTES = heidelberg.remotes("ssc", train="d102be95e7144fcc0553d1f45ba94170", test="a35ff1e9cffdd02a20eb850c17c37748")
find, samples = heidelberg.reader("ssc", len(CLASS_NAMES))
