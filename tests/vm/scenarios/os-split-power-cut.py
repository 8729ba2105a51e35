# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power cuts while an ext4 with /boot in it gives way, its changes kept at its own end: a boot loader always finds /boot,
and what is left is the old filesystem or the new one, every file whole.

VMCRYPT_CUTS and VMCRYPT_STATES say how many (5, 12), VMCRYPT_SEED repeats a run.
"""

import shrink_cuts

ONLY_BY_NAME = True
LIMIT = shrink_cuts.LIMIT
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
    if number % 20 == 0:
        os.sync()  # placed now, one behind the other, and not when there is time
kept = made[:10] + [each for each in made[10:] if random.random() < 0.35] + made[-3:]
for path, _ in set(made) - set(kept):
    os.unlink(path)
with open("/var/manifest", "w") as file:
    file.writelines(f"{digest}  .{path[4:]}\n" for path, digest in sorted(set(kept)))
END
	umount /mnt; sync
}
"""

WAY = """
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
finish() { inspect finish-tail $1; }
left() { :; }
make() { inspect shrink-tail $1 {keep}; }
blank() { :; }
attach() { data=$1; }
detach() { udevadm settle; }
""".replace("{record}", str(SIZE - 4096)).replace("{keep}", str(KEEP))


def run(rig):
    shrink_cuts.run(rig, shrink_cuts.Way(size=SIZE, new=KEEP, shell=FILL + WAY, sealed="Tail.*sealed", logged=SIZE))
