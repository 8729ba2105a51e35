# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power cuts while an ext4 with /boot in it gives way, its changes kept at its own end: a boot loader always finds /boot,
and what is left is the old filesystem or the new one, every file whole.

First cuts by pulling the plug: at random moments of the whole way, of the merge, and of the merge that follows a cut.
Then cuts that lose what was not flushed: all writes are logged once (dm-log-writes), and states that a disk with a write cache could have had are made from the log.
VMCRYPT_CUTS and VMCRYPT_STATES say how many (5, 12), VMCRYPT_SEED repeats a run.
"""

import os
import pathlib
import random
import re
import shutil
import time

CUTS = int(os.environ.get("VMCRYPT_CUTS", "5"))
STATES = int(os.environ.get("VMCRYPT_STATES", "12"))
ONLY_BY_NAME = True
LIMIT = 600 + 40 * CUTS + 20 * STATES
SIZE = 256 << 20
KEEP = 168 << 20

# Small groups, so that some vanish; full once up to some way behind what will be kept, then holes below and a run behind:
# what is at the end has to move.
FILL = r"""
fill() {
	# a folder made while it is mounted would lie in any group
	mkdir -p /run/new/boot/grub/x /run/new/d
	for n in vmlinuz initrd grub/x/1 grub/x/2 grub/x/3 grub/x/4 grub/x/5 grub/x/6 grub/x/7 grub/x/8; do
		head -c 900000 /dev/urandom > /run/new/boot/$n
	done
	mkfs.ext4 -q -F -g 16384 -N 2000 -b 4096 -G 1 -E nodiscard -d /run/new $1 && mount $1 /mnt || exit 1
	python3 - << 'END'
import hashlib, os, random
random = random.Random(1)
made = []
def put(path, size):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data = os.urandom(size)
    with open(path, "wb") as file:
        file.write(data)
    made.append((path, hashlib.sha256(data).hexdigest()))
for folder, _, names in os.walk("/mnt/boot"):
    for name in names:
        path = os.path.join(folder, name)
        made.append((path, hashlib.sha256(open(path, "rb").read()).hexdigest()))
number, room = 0, os.statvfs("/mnt")
while os.statvfs("/mnt").f_bfree > room.f_bfree - (185 << 20) // 4096:
    put(f"/mnt/d/{number}", random.randrange(1, 900000))
    number += 1
kept = made[:10] + [each for each in made[10:] if random.random() < 0.35] + made[-3:]
for path, _ in set(made) - set(kept):
    os.unlink(path)
with open("/var/manifest", "w") as file:
    file.writelines(f"{digest}  .{path[4:]}\n" for path, digest in sorted(set(kept)))
END
	umount /mnt; sync
}
"""

CHECK = """
inspect() { VMCRYPT_LOG=debug /root/volume-inspect "$@"; }
# look DEVICE: what a cut has left, and what a boot loader finds: it replays no journal and asks for no checksum
look() {
	state=whole
	dumpe2fs -h $1 > /dev/null 2>&1 || state=sealed
	dd if=$1 iflag=skip_bytes skip={record} bs=14 count=1 status=none | grep -q '^vmcrypt tail 1' && state=$state+record
	echo "LEFT $state"
	case $state in sealed*) mount $1 /mnt 2>/dev/null && echo BAD: mounted ;; esac
	mkdir -p /run/read; rm -rf /run/read/boot
	debugfs -c -R "rdump /boot /run/read" $1 > /dev/null 2>&1
	grep ' ./boot/' /var/manifest > /run/boot-manifest
	(cd /run/read && sha256sum --quiet -c /run/boot-manifest) || echo BAD: boot loader
}
# check DEVICE: as a start does it, before anything else
check() {
	inspect finish-tail $1 | grep '"result":0' || echo BAD: finish
	inspect finish-tail $1 | grep -q '"result":0' || echo BAD: finished twice
	e2fsck -fn $1 > /run/fsck 2>&1 || { echo BAD: e2fsck; cat /run/fsck; }
	mount -o ro $1 /mnt && (cd /mnt && sha256sum --quiet -c /var/manifest) || echo BAD: content
	umount /mnt
	ls /dev/mapper | grep vmcryptpart && echo BAD: mapping left
	echo BLOCKS $(dumpe2fs -h $1 2>/dev/null | sed -n 's/^Block count: *//p')
}
make() { inspect shrink-tail $1 {keep} | tee /run/made; grep -q '"result":0' /run/made || echo BAD: not made; }
""".replace("{record}", str(SIZE - 4096)).replace("{keep}", str(KEEP))

COPY = "dd if=/dev/ubd{} of=/dev/ubd{} bs=1M conv=fsync status=none\n"
# A start that is cut while it puts the disk back does so again.
AGAIN = "touch /var/copying; sync\n" + COPY.format("c", "b") + "rm /var/copying; sync\n"
FIRST = (FILL + CHECK + "cp /run/share/volume-inspect /root/; chmod 755 /root/volume-inspect; sync\n"
         "fill /dev/ubdb; check /dev/ubdb\n" + COPY.format("b", "c"))
# One start looks at what the last cut has left, and is cut itself.
START = (CHECK + "if [ -e /var/copying ]; then\n" + AGAIN + "fi\n"
         "look /dev/ubdb; echo FINISH; check /dev/ubdb; echo CHECKED\n" + AGAIN +
         "echo GO; make /dev/ubdb; echo MADE; check /dev/ubdb\n")

LOGGED = FILL + CHECK + """
modprobe dm-log-writes; modprobe dm-snapshot
fill /dev/ubdc
dd if=/dev/ubdc of=/dev/ubde bs=1M count={megabytes} conv=fsync status=none
echo "0 {size} log-writes /dev/ubdc /dev/ubdd" | dmsetup create logged
udevadm settle
make /dev/mapper/logged
check /dev/mapper/logged
udevadm settle
dmsetup remove --retry logged
for n in $(seq {states}); do
	python3 /run/share/replay.py {seed} $n /dev/ubde /dev/ubdd /dev/ubdc {megabytes} || echo BAD: replay
	look /dev/ubdc
	check /dev/ubdc
done
echo ALL
"""

# The log's format: drivers/md/dm-log-writes.c
REPLAY = r"""
import os, random, struct, sys
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
"""


def well(result):
    assert "BAD" not in result, result
    return result


def look_back(output, left):
    """What the cut before this start has left, and what became of it."""
    state = re.search(r"^LEFT (\S+)", output, re.M)[1]
    blocks = int(re.search(r"^BLOCKS (\d+)", output, re.M)[1]) * 4096
    assert blocks == SIZE or blocks <= KEEP, output
    # from the seal on it is the new one
    assert not state.startswith("sealed") or blocks < SIZE, output
    state += ", new" if blocks < SIZE else ", old"
    left[state] = left.get(state, 0) + 1


def cuts(rig, chance, inspect):
    bare = rig.bare(disks={"data": str(SIZE), "before": str(SIZE)}, memory="384M")
    shutil.copy(inspect, bare.share / "volume-inspect")
    well(bare.run(FIRST, timeout=180).out)
    bare.start(START)
    bare.wait_console("^GO$|BAD|^@@", 120)
    began = time.monotonic()
    bare.wait_console("^MADE$|BAD|^@@", 120)
    longest = time.monotonic() - began
    whole = well(bare.wait(120).out)
    assert int(re.findall(r"^BLOCKS (\d+)", whole, re.M)[1]) * 4096 <= KEEP, whole
    left = {}
    for i in range(CUTS):
        bare.start(START)
        pattern, length = chance.choice((("^GO$", longest), ("^GO$", longest), ("Tail.*sealed", longest / 4),
                                         ("Tail.*sealed", longest / 4), ("^FINISH$", longest / 3)))
        bare.power_cut_at(f"{pattern}|BAD|^@@", 120, delay=chance.uniform(0, length))
        output = well(bare.output())
        if i > 0 and "CHECKED" in output:
            look_back(output, left)
    look_back(well(bare.run(START.partition("echo FINISH")[0] + "check /dev/ubdb\n").out), left)
    print(f"note: {CUTS} cuts left: " + ", ".join(f"{n} times {state}" for state, n in sorted(left.items())))


def lost_writes(rig, seed, inspect):
    megabytes = SIZE >> 20
    bare = rig.bare(disks={"unused": "1M", "both": f"{megabytes}M", "log": "1G", "base": f"{megabytes}M"},
                    memory="384M")
    shutil.copy(inspect, bare.share / "volume-inspect")
    (bare.share / "replay.py").write_text(REPLAY)
    script = LOGGED
    for word, value in (("size", SIZE // 512), ("megabytes", megabytes),
                        ("states", STATES), ("seed", seed)):
        script = script.replace("{" + word + "}", str(value))
    result = well(bare.run("cp /run/share/volume-inspect /root/; chmod 755 /root/volume-inspect\n" + script,
                           timeout=300 + 20 * STATES).out)
    assert "\nALL" in result, result
    left = re.findall(r"^LEFT (\S+)", result, re.M)
    assert len(left) == STATES, result
    print(f"note: {STATES} states with lost writes left: "
          + ", ".join(f"{left.count(state)} times {state}" for state in sorted(set(left))))


def run(rig):
    seed = int(os.environ.get("VMCRYPT_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"note: seed {seed}, {CUTS} cuts, {STATES} states")
    inspect = pathlib.Path(rig.product_tar).parent / "build" / "tests" / "disk" / "volume-inspect"
    cuts(rig, random.Random(seed), inspect)
    lost_writes(rig, seed, inspect)
