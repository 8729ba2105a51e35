# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of /boot that lie at the end of a mounted ext4, small ones too, are brought lower, unharmed."""

import pathlib
import shutil

LIMIT = 240
SIZE = 256 << 20
BELOW = 128 << 20

# While the beginning is full, files land behind it, and so do small ones later: from a place that all folders share.
SCRIPT = r"""
cp /run/share/volume-inspect /root/; chmod 755 /root/volume-inspect
mkdir -p /run/new/boot/grub
mkfs.ext4 -q -F -b 4096 -E nodiscard -d /run/new /dev/ubdb && mount /dev/ubdb /mnt || exit 1
fallocate -l 180M /mnt/full
for n in $(seq 20); do echo $n > /mnt/small-$n; done; sync
for n in $(seq 9); do head -c $((n * 1000)) /dev/urandom > /mnt/boot/grub/$n; done
head -c 9000000 /dev/urandom > /mnt/boot/initrd
sync
rm /mnt/full; sync
(cd /mnt/boot && find . -type f | xargs sha256sum) > /run/manifest
behind() {
	find /mnt/boot -type f -exec filefrag -b1 -v {} + |
		awk -v limit={limit} '/^ *[0-9]+:/ { gsub(/[.:]/, " "); if ($5 >= limit) n++ } END { print n + 0 }'
}
echo BEFORE $(behind)
VMCRYPT_LOG=debug /root/volume-inspect lower /dev/ubdb {limit}
echo AFTER $(behind)
(cd /mnt/boot && sha256sum --quiet -c /run/manifest) && echo WHOLE $(find /mnt/boot -type f | wc -l)
umount /mnt && e2fsck -fn /dev/ubdb > /dev/null 2>&1 && echo CLEAN
""".replace("{limit}", str(BELOW))


def run(rig):
    bare = rig.bare(disks={"data": str(SIZE)}, memory="256M")
    shutil.copy(pathlib.Path(rig.product_tar).parent / "build" / "tests" / "disk" / "volume-inspect", bare.share)
    said = bare.run(SCRIPT, timeout=180).out
    before = int(said.partition("BEFORE ")[2].split()[0])
    assert before >= 10, said
    assert '"result":0' in said and "AFTER 0\n" in said, said
    assert "WHOLE 10\n" in said and "CLEAN\n" in said, said
    print(f"note: {before} pieces lay behind it")
