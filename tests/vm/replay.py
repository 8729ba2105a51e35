# SPDX-License-Identifier: LGPL-2.1-or-later
"""replay.py SEED NUMBER BASE LOG TO MEGABYTES - in the guest: a state that a disk with a write cache could have had

BASE is the disk as it was, LOG all writes since (dm-log-writes; its format: drivers/md/dm-log-writes.c), TO is what a
power cut at a random moment leaves: what was flushed before, and any half of the rest.
"""

import os
import random
import struct
import sys

seed, number, base, log, to, megabytes = sys.argv[1:]
chance = random.Random(f"{seed}-{number}")
log = open(log, "rb")
magic, version, n, unit = struct.unpack("<QQQI", log.read(28))
assert magic == 0x6a736677736872 and version == 1, "no log"
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
entries, at = [], unit
for _ in range(n):
    log.seek(at)
    sector, count, flags, length = struct.unpack("<QQQQ", log.read(32))
    at += unit
    entries.append((sector * unit, at, 0 if flags & (DISCARD | MARK) else count * unit, flags))
    at += entries[-1][2]
# anywhere, or in any span between two flushes: the short ones are where metadata is written
flushes = [0] + [i for i in range(n) if entries[i][3] & FLUSH] + [n]
span = chance.randrange(len(flushes) - 1)
cut = chance.choice((chance.randrange(n), chance.randint(flushes[span], flushes[span + 1])))
flushed = max((i + 1 for i in range(cut) if entries[i][3] & FLUSH), default=0)
with open(base, "rb") as source, open(to, "r+b") as target:
    for _ in range(int(megabytes)):
        target.write(source.read(1 << 20))
    for i, (where, data, size, flags) in enumerate(entries[:cut]):
        if i >= flushed and not flags & FUA and chance.random() < 0.5:
            continue
        log.seek(data)
        target.seek(where)
        target.write(log.read(size))
    target.flush()
    os.fsync(target.fileno())
print(f"CUT at {cut} of {n}, {cut - flushed} not flushed")
