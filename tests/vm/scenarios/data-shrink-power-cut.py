# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power cuts while an unmounted ext4 gives way: what is left is the old filesystem or the new one, every file whole.

The filesystem and the file with the changes are below one log. VMCRYPT_CUTS and VMCRYPT_STATES say how many (5, 12),
VMCRYPT_SEED repeats a run.
"""

import shrink_cuts

LIMIT = shrink_cuts.LIMIT
ROOM = 32 << 20
SIZE = 160 << 20
PLACE = 320 << 20

# Small groups, so that some vanish with their inodes; full once, then holes below: what is at the end has to move.
FILL = """
fill() {
	mkfs.ext4 -q -F -g 4096 -N 3000 -b 4096 -E nodiscard $1 && mount $1 /mnt || exit 1
	i=0
	while mkdir -p /mnt/$((i % 13)) && head -c $((i * 7919 % 900000 + 1)) /dev/urandom > /mnt/$((i % 13))/$i; do
		for k in 1 2 3 4; do echo $i-$k > /mnt/$((i % 13))/$i-$k; done
		i=$((i + 1))
	done 2>/dev/null
	for n in $(seq 0 $((i * 65 / 100))) $i; do rm -f /mnt/$((n % 13))/$n; done
	(cd /mnt && find . -type f -print0 | xargs -0 sha256sum) > /var/manifest
	umount /mnt; sync
}
"""

WAY = r"""
mkdir -p /var/lib/vmcrypt/room
# look DEVICE: what a cut has left
look() {
	case $(od -An -tx1 -j1080 -N2 $1) in
	" 53 ef") state=whole ;;
	" 76 6d") state=sealed ;;
	*) state=other ;;
	esac
	[ -e /var/lib/vmcrypt/room/inspected.changes ] && state=$state+file
	echo "LEFT $state"
	case $state in sealed*)
		blkid -p $1 && echo BAD: recognised
		mount $1 /mnt 2>/dev/null && echo BAD: mounted ;;
	esac
}
finish() { inspect finish-room $1; }
left() {
	[ -z "$(ls /var/lib/vmcrypt/room)" ] || echo BAD: file left
	losetup -a | grep changes && echo BAD: loop left
}
make() { inspect make-room $1; }
"""

# Two linear pieces of one disk, so that one log has the order of all writes.
PIECES = """
pieces() {
	echo "0 {place} linear $1 0" | dmsetup create place
	echo "0 {size} linear $1 {place}" | dmsetup create data
	udevadm settle
}
unpieces() { udevadm settle; dmsetup remove --retry place; dmsetup remove --retry data; }
blank() {
	pieces $1
	mkfs.ext4 -q -F -E nodiscard /dev/mapper/place
	unpieces
}
attach() {
	pieces $1
	mount /dev/mapper/place /var/lib/vmcrypt/room || echo BAD: place
	rmdir /var/lib/vmcrypt/room/lost+found 2>/dev/null
	data=/dev/mapper/data
}
detach() { umount /var/lib/vmcrypt/room; unpieces; }
""".replace("{place}", str(PLACE // 512)).replace("{size}", str(SIZE // 512))


def run(rig):
    shrink_cuts.run(rig, shrink_cuts.Way(size=SIZE, new=SIZE - ROOM, shell=FILL + WAY + PIECES,
                                         sealed="Overlay.*sealed", logged=PLACE + SIZE))
