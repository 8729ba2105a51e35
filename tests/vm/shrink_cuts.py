# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power cuts while a filesystem gives way: what is left is the old one or the new one, every file whole.

First cuts by pulling the plug: at random moments of the whole way, of the merge, and of the merge that follows a cut.
Then cuts that lose what was not flushed: all writes are logged once (dm-log-writes), and states that a disk with a write
cache could have had are made from the log.
"""

import dataclasses
import os
import pathlib
import random
import re
import shutil
import time

CUTS = int(os.environ.get("VMCRYPT_CUTS", "5"))
STATES = int(os.environ.get("VMCRYPT_STATES", "12"))
LIMIT = 600 + 40 * CUTS + 20 * STATES


@dataclasses.dataclass
class Way:
    """How a filesystem of `size` bytes gets at most `new` bytes.

    shell: functions for the guest, each with a device:
           fill, a filesystem and /var/manifest; look, what a cut has left; finish, what a start does first, as a result
           of volume-inspect; left, what must not be there afterwards; make, the whole way, as such a result
           and for one log of all writes: attach, which sets $data; detach; blank, before the first attach
    sealed: what the log says when the filesystem is sealed, a regular expression
    logged: bytes of the disk that one log has all writes of
    """

    size: int
    new: int
    shell: str
    sealed: str
    logged: int


SHELL = """
inspect() { VMCRYPT_LOG=debug /root/volume-inspect "$@"; }
# check DEVICE: as a start does it, before anything else
check() {
	finish $1 | grep '"result":0' || echo BAD: finish
	finish $1 | grep -q '"result":0' || echo BAD: finished twice
	e2fsck -fn $1 > /run/fsck 2>&1 || { echo BAD: e2fsck; cat /run/fsck; }
	mount -o ro $1 /mnt && (cd /mnt && sha256sum --quiet -c /var/manifest) || echo BAD: content
	umount /mnt
	ls /dev/mapper | grep vmcryptpart && echo BAD: mapping left
	left $1
	echo BLOCKS $(dumpe2fs -h $1 2>/dev/null | sed -n 's/^Block count: *//p')
}
whole() { make $1 | tee /run/made; grep -q '"result":0' /run/made || echo BAD: not made; }
"""
INSTALL = "cp /run/share/volume-inspect /root/; chmod 755 /root/volume-inspect; sync\n"
COPY = "dd if=/dev/ubd{} of=/dev/ubd{} bs=1M conv=fsync status=none\n"
# A start that is cut while it puts the disk back does so again.
AGAIN = "touch /var/copying; sync\n" + COPY.format("c", "b") + "rm /var/copying; sync\n"
FIRST = INSTALL + "fill /dev/ubdb; check /dev/ubdb\n" + COPY.format("b", "c")
LOOK = "if [ -e /var/copying ]; then\n" + AGAIN + "fi\nlook /dev/ubdb\n"
# One start looks at what the last cut has left, and is cut itself.
START = (LOOK + "echo FINISH; check /dev/ubdb; echo CHECKED\n" + AGAIN
         + "echo GO; whole /dev/ubdb; echo MADE; check /dev/ubdb\n")
LAST = LOOK + "check /dev/ubdb\n"

LOGGED = INSTALL + """
modprobe dm-log-writes; modprobe dm-snapshot; modprobe loop
blank /dev/ubdc
attach /dev/ubdc
fill $data
detach
dd if=/dev/ubdc of=/dev/ubde bs=1M count={megabytes} conv=fsync status=none
echo "0 $(({megabytes} * 2048)) log-writes /dev/ubdc /dev/ubdd" | dmsetup create logged
udevadm settle
attach /dev/mapper/logged
whole $data
check $data
detach
dmsetup remove --retry logged
for n in $(seq {states}); do
	python3 /run/share/replay.py {seed} $n /dev/ubde /dev/ubdd /dev/ubdc {megabytes} || echo BAD: replay
	attach /dev/ubdc
	look $data
	check $data
	detach
done
echo ALL
"""


def well(result):
    assert "BAD" not in result, result
    return result


def look_back(way, output, left):
    """What the cut before this start has left, and what became of it."""
    state = re.search(r"^LEFT (\S+)", output, re.M)[1]
    size = int(re.search(r"^BLOCKS (\d+)", output, re.M)[1]) * 4096
    assert size == way.size or size <= way.new, output
    # from the seal on it is the new one
    assert not state.startswith("sealed") or size < way.size, output
    state += ", new" if size < way.size else ", old"
    left[state] = left.get(state, 0) + 1


def cuts(rig, way, chance, inspect):
    bare = rig.bare(disks={"data": str(way.size), "before": str(way.size)}, memory="384M")
    shutil.copy(inspect, bare.share / "volume-inspect")
    shell = SHELL + way.shell
    well(bare.run(shell + FIRST, timeout=180).out)
    bare.start(shell + START)
    bare.wait_console("^GO$|BAD|^@@", 120)
    began = time.monotonic()
    bare.wait_console("^MADE$|BAD|^@@", 120)
    longest = time.monotonic() - began
    whole = well(bare.wait(120).out)
    assert int(re.findall(r"^BLOCKS (\d+)", whole, re.M)[1]) * 4096 <= way.new, whole
    left = {}
    for i in range(CUTS):
        bare.start(shell + START)
        pattern, length = chance.choice((("^GO$", longest), ("^GO$", longest), (way.sealed, longest / 4),
                                         (way.sealed, longest / 4), ("^FINISH$", longest / 3)))
        bare.power_cut_at(f"{pattern}|BAD|^@@", 120, delay=chance.uniform(0, length))
        output = well(bare.output())
        if i > 0 and "CHECKED" in output:
            look_back(way, output, left)
    look_back(way, well(bare.run(shell + LAST).out), left)
    print(f"note: {CUTS} cuts left: " + ", ".join(f"{n} times {state}" for state, n in sorted(left.items())))


def lost_writes(rig, way, seed, inspect):
    megabytes = way.logged >> 20
    bare = rig.bare(disks={"unused": "1M", "both": f"{megabytes}M", "log": "1G", "base": f"{megabytes}M"},
                    memory="384M")
    shutil.copy(inspect, bare.share / "volume-inspect")
    shutil.copy(pathlib.Path(__file__).with_name("replay.py"), bare.share)
    script = LOGGED
    for word, value in (("megabytes", megabytes), ("states", STATES), ("seed", seed)):
        script = script.replace("{" + word + "}", str(value))
    result = well(bare.run(SHELL + way.shell + script, timeout=300 + 20 * STATES).out)
    assert "\nALL" in result, result
    left = re.findall(r"^LEFT (\S+)", result, re.M)
    assert len(left) == STATES, result
    print(f"note: {STATES} states with lost writes left: "
          + ", ".join(f"{left.count(state)} times {state}" for state in sorted(set(left))))


def run(rig, way):
    seed = int(os.environ.get("VMCRYPT_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"note: seed {seed}, {CUTS} cuts, {STATES} states")
    inspect = pathlib.Path(rig.product_tar).parent / "build" / "tests" / "disk" / "volume-inspect"
    cuts(rig, way, random.Random(seed), inspect)
    lost_writes(rig, way, seed, inspect)
