# SPDX-License-Identifier: LGPL-2.1-or-later
"""The header is on the volume and the mapping cannot be used: the old head comes back, also after a cut in between."""

JOB = "20260101T000000Z-0001"
UUID = "00000001-1111-4222-8333-444444444444"

PREPARE = f"""set -e
mkfs.ext4 -q -F -U {UUID} /dev/ubdb
echo 'UUID={UUID} /data ext4 defaults 0 2' >> /etc/fstab
mkdir -p /data /run/vmcrypt /run/cryptsetup; udevadm settle; mount /data
head -c 30000000 /dev/urandom > /data/file; sha256sum /data/file > /var/manifest; sync
mkdir -p /var/lib/vmcrypt/jobs/{JOB}
echo '{{"kind":"encrypt","volume_type":"Data","provider":"file"}}' > /var/lib/vmcrypt/jobs/{JOB}/request.json
# somebody has taken the name that the mapping is to have
modprobe dm-zero; dmsetup create vmcrypt-{UUID} --table '0 8 zero'
! /usr/lib/vmcrypt/vmcrypt-worker {JOB} || exit 5
cat /run/vmcrypt/jobs/{JOB}/report.json
grep -q '"undoing\\|header' /run/vmcrypt/jobs/{JOB}/report.json
[ "$(blkid -p -o value -s TYPE /dev/ubdb)" = ext4 ]
mountpoint -q /data || mount /data
sha256sum --quiet -c /var/manifest
e2fsck -fn /dev/ubdb > /dev/null 2>&1 || [ $? -le 4 ]
echo BACK
"""

# as a cut leaves it in the middle of putting the head back: nothing is recognised, the journal knows
CUT = f"""set -e
mkdir -p /run/vmcrypt /run/cryptsetup
journal=/var/lib/vmcrypt/jobs/{JOB}/journal.json
dd if=/dev/zero of=/dev/ubdb bs=128K count=1 conv=fsync status=none
sed -i 's/"restoring" *: *false/"restoring":true/; s/"failed" *: *true/"failed":false/' $journal
rm -f /var/lib/vmcrypt/jobs/{JOB}/report.json
grep -q '"restoring":true' $journal
! blkid -p /dev/ubdb
/usr/lib/vmcrypt/vmcrypt-worker {JOB}
grep -o '"state":"[a-z]*"' /run/vmcrypt/jobs/{JOB}/report.json | head -1
findmnt -n -o SOURCE /data
sha256sum --quiet -c /var/manifest
echo ENCRYPTED
"""

# as a cut leaves it before the first write: the next boot has opened it, and somebody has written
OPENED = f"""set -e
mkdir -p /run/vmcrypt /run/cryptsetup
journal=/var/lib/vmcrypt/jobs/{JOB}/journal.json
cryptsetup open --key-file /etc/vmcrypt/keys/* /dev/ubdb vmcrypt-{UUID}
mount /dev/mapper/vmcrypt-{UUID} /data
head -c 9000000 /dev/urandom > /data/newer; sha256sum /data/newer >> /var/manifest; sync
sed -i 's/"restoring" *: *false/"restoring":true/' $journal
rm -f /var/lib/vmcrypt/jobs/{JOB}/report.json
grep -q '"restoring":true' $journal
/usr/lib/vmcrypt/vmcrypt-worker {JOB}
! grep -q '"restoring" *: *true' $journal
cat /run/vmcrypt/jobs/{JOB}/report.json
umount /data
e2fsck -fn /dev/mapper/vmcrypt-{UUID} > /dev/null
mount /dev/mapper/vmcrypt-{UUID} /data
sha256sum --quiet -c /var/manifest
echo KEPT
"""


def run(rig):
    bare = rig.bare(disks={"data": "128M"}, memory="512M")
    result = bare.run(PREPARE, check=False, timeout=240)
    assert result.code == 0 and "BACK" in result.out, result.out
    result = bare.run(CUT, check=False, timeout=240)
    assert result.code == 0 and "ENCRYPTED" in result.out and f"/dev/mapper/vmcrypt-{UUID}" in result.out, \
        result.out
    result = bare.run(OPENED, check=False, timeout=240)
    assert result.code == 0 and "KEPT" in result.out, result.out
