# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks that lose unflushed writes: reads see what was written, what was flushed stays, a cut loses some of the rest."""

SECTORS = 4096
SEEDS = (1, 2, 3)

# Sector n at version v is n and v again and again. What was flushed is told; then more is written, and not flushed.
WRITE = r'''
import fcntl, mmap, os, random, struct, sys
chance = random.Random(int(sys.argv[1]))
disk = os.open("/dev/ubdb", os.O_RDWR | os.O_DIRECT)
buffer = mmap.mmap(-1, 64 * 512)
now = [0] * %(sectors)d
BLKZEROOUT = 0x127f

def content(sector):
    return struct.pack("<QQ", sector, now[sector]) * 32 if now[sector] else bytes(512)

def change(version):
    at, n = chance.randrange(len(now) - 64), chance.randrange(1, 65)
    if version < 400 and chance.random() < 0.1:  # zeros flush
        fcntl.ioctl(disk, BLKZEROOUT, struct.pack("QQ", at * 512, n * 512))
        now[at:at + n] = [0] * n
        return
    if version >= 400:  # as filesystems do
        at = at // 8 * 8
    now[at:at + n] = [version] * n
    buffer[:n * 512] = b"".join(content(sector) for sector in range(at, at + n))
    os.pwritev(disk, [memoryview(buffer)[:n * 512]], at * 512)

def look():
    at, n = chance.randrange(len(now) - 64), chance.randrange(1, 65)
    os.preadv(disk, [memoryview(buffer)[:n * 512]], at * 512)
    assert buffer[:n * 512] == b"".join(content(sector) for sector in range(at, at + n)), (at, n)

fcntl.ioctl(disk, BLKZEROOUT, struct.pack("QQ", 0, len(now) * 512))
for version in range(1, 400):
    change(version)
    look()
    if chance.random() < 0.05:
        os.fsync(disk)
os.fsync(disk)
print("FLUSHED", *now)
for version in range(400, 430):
    change(version)
print("THEN", *now)
print("READY", flush=True)
''' % {"sectors": SECTORS}

READ = r'''
import os, struct
data = os.pread(os.open("/dev/ubdb", os.O_RDONLY), %(sectors)d * 512, 0)
def version(sector):
    cells = set(struct.iter_unpack("<QQ", data[sector * 512:sector * 512 + 512]))
    assert len(cells) == 1, (sector, cells)
    number, found = cells.pop()
    assert found == 0 or number == sector, (sector, number)
    return found
print("FOUND", *map(version, range(%(sectors)d)))
''' % {"sectors": SECTORS}


def numbers(output, word):
    lines = [line.split()[1:] for line in output.splitlines() if line.startswith(word + " ")]
    return [int(number) for number in lines[-1]]


def run(rig):
    bare = rig.bare(disks={"data": "4M"})
    for seed in SEEDS:
        bare.lossy = seed
        bare.start(f"cat > /run/write.py <<'EOF'\n{WRITE}\nEOF\npython3 /run/write.py {seed} || exit 9; sleep 100")
        bare.power_cut_at("^READY", 120)
        flushed, then = numbers(bare.output(), "FLUSHED"), numbers(bare.output(), "THEN")
        bare.lossy = None
        found = numbers(bare.run(f"cat > /run/read.py <<'EOF'\n{READ}\nEOF\npython3 /run/read.py").out, "FOUND")
        # a sector is as it was flushed, or as it was written at any time since
        wrong = [(sector, was, is_now) for sector, (was, is_now) in enumerate(zip(flushed, found))
                 if is_now != was and is_now < 400]
        assert not wrong, wrong[:5]
        # a physical sector, of 8 of these, is written whole or not
        units = [(at, then[at:at + 8], found[at:at + 8]) for at in range(0, SECTORS, 8)]
        torn = [at for at, wanted, is_now in units
                if len(set(wanted)) == 1 and wanted[0] in is_now and is_now != wanted]
        assert not torn, torn[:5]
        changed = [sector for sector in range(SECTORS) if then[sector] != flushed[sector]]
        lost = [sector for sector in changed if found[sector] == flushed[sector]]
        print(f"note: seed {seed}: {len(changed)} sectors written after the flush, {len(lost)} of them lost")
        assert len(changed) / 10 < len(lost) < len(changed) * 9 / 10, (len(lost), len(changed))
