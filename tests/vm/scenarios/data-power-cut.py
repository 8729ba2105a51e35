# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power cuts at seeded random moments of enable, conversion and disable: each time every file holds.

A guest with a bare init runs vmcrypt-unlock and vmcrypt-worker as the units would, and is cut off at a random
moment; the next start continues. When a volume has gone all the way there and back, the next one gets another
filesystem. VMCRYPT_CUTS says how many cuts (60), VMCRYPT_SEED repeats a run.
"""

import os
import random
import time

CUTS = int(os.environ.get("VMCRYPT_CUTS", "60"))
LIMIT = 600 + 90 * CUTS
SLACK = 1.1  # cuts fall a little beyond the length of an uncut way
STARTS_MAX = 40  # for one way, before it is called stuck

JOB = "20260101T000000Z-{:04x}"
REQUEST = {
    "encrypt": '{"kind":"encrypt","volume_type":"Data","provider":"file"}',
    "decrypt": '{"kind":"decrypt","volume_type":"Data"}',
}
# filesystem -> disk, how it is made; small, but as large as each one's tools insist on
MAKE = {
    "ext4": ("ext4", "128M", "mkfs.ext4 -q -F -U {uuid} {device}"),
    "xfs": ("xfs", "344M", "mkfs.xfs -q -f -m uuid={uuid} {device}"),
    "btrfs": ("btrfs", "320M", "mkfs.btrfs -q -f -U {uuid} {device}"),
}

FRESH = """set -e
for disk in {disks}; do wipefs -q -a $disk; done
rm -rf /var/lib/vmcrypt /etc/vmcrypt /boot/vmcrypt /etc/crypttab /var/manifest
wipefs -q -a {device}; dd if=/dev/zero of={device} bs=1M count=64 status=none
{make}
sed -i '/[ ]\\/data /d' /etc/fstab
echo 'UUID={uuid} /data {filesystem} defaults 0 2' >> /etc/fstab
cp /etc/fstab /var/fstab.before
mkdir -p /data; udevadm settle; mount /data
mkdir /data/first /data/written
for i in $(seq 20); do head -c $((i * 7919 % 400000 + 1)) /dev/urandom > /data/first/$i; done
sync; sha256sum /data/first/* > /var/manifest; sync
umount /data; sync
"""

# What every start does: unlock, mount, look at every file; then go on with the job beside a writer.
START = """
mkdir -p /run/vmcrypt /run/cryptsetup /data
if [ -e /etc/crypttab ]; then /usr/lib/vmcrypt/vmcrypt-unlock --wait 20 2>/run/unlock.log & fi
for i in $(seq 150); do
	udevadm settle
	mountpoint -q /data || mount /data 2>/run/mount.log
	mountpoint -q /data && break
	# cut while it gave way: nothing recognises it before the worker has brought that to its end
	blkid -p {device} >/dev/null || {{ echo SEALED; break; }}
	sleep 0.1
done
mountpoint -q /data || ! blkid -p {device} >/dev/null || {{ echo NOT MOUNTED; cat /run/unlock.log /run/mount.log; lsblk -f; cat /etc/fstab /etc/crypttab
	ls -l /var/lib/vmcrypt/headers /boot/vmcrypt/headers; dmesg | tail -20; exit 9; }}
! mountpoint -q /data || sha256sum --quiet -c /var/manifest || {{ echo CONTENT CHANGED; lsblk -f; exit 8; }}
echo CHECKED
mkdir -p /var/lib/vmcrypt/jobs/{job}
[ -e /var/lib/vmcrypt/jobs/{job}/request.json ] || {{ echo '{request}' > /var/lib/vmcrypt/jobs/{job}/request.json; sync; }}
(
	i=0
	while :; do
		i=$((i + 1)); f=/data/written/{start}-$i
		head -c $((RANDOM * 3)) /dev/urandom > $f 2>/dev/null && sync $f /data/written 2>/dev/null &&
			s=$(sha256sum $f 2>/dev/null) && [ -n "$s" ] && echo "$s" >> /var/manifest && sync /var/manifest
		sleep 0.4
	done
) 2>/dev/null &
writer=$!
echo GO
/usr/lib/vmcrypt/vmcrypt-worker {job} 2>/run/worker.log
code=$?
kill $writer; wait $writer 2>/dev/null
cat /run/worker.log
[ $code = 0 ] || {{ echo WORKER $code; cat /run/vmcrypt/jobs/{job}/report.json; exit 7; }}
sync
sha256sum --quiet -c /var/manifest || {{ echo CONTENT CHANGED; exit 8; }}
grep -o '"state":"[a-z]*"' /run/vmcrypt/jobs/{job}/report.json | head -1
echo WAY DONE
lsblk -n -o NAME,FSTYPE,MOUNTPOINT {device}
cmp /etc/fstab /var/fstab.before && echo SAME FSTAB
readlink -f $(findmnt -n -o SOURCE /data) /dev/mapper/vmcrypt-{uuid} | uniq -d | sed 's/.*/ON THE MAPPING/'
findmnt -n -o SOURCE /data
umount /data
"""


class Journey:
    """One volume on its way there and back again."""

    def __init__(self, bare, number, filesystem):
        self.bare, self.number, self.filesystem = bare, number, filesystem
        disk, _, self.make = MAKE[filesystem]
        self.device = bare.devices[disk]
        self.uuid = f"{number:08d}-1111-4222-8333-444444444444"
        self.way, self.starts, self.cuts = "encrypt", 0, []

    def begin(self):
        make = self.make.format(uuid=self.uuid, device=self.device)
        self.bare.run(FRESH.format(device=self.device, disks=" ".join(self.bare.devices.values()),
                                   uuid=self.uuid, filesystem=self.filesystem, make=make))

    def start(self):
        self.starts += 1
        assert self.starts < STARTS_MAX, f"{self.way} of {self.filesystem} is stuck; cuts {self.cuts}"
        turn = 2 * self.number + (self.way == "decrypt")
        self.bare.start(START.format(job=JOB.format(turn), request=REQUEST[self.way], device=self.device,
                                     uuid=self.uuid, start=f"{turn}-{self.starts}"))

    def ended(self, result):
        """The script came to its end without a cut. Return: whether the volume is back where it began."""
        where = f"{self.filesystem}, {self.way}, cuts {self.cuts}"
        assert result.code == 0 and '"state":"done"' in result.out, f"{where}:\n{result.out}"
        if self.way == "encrypt":
            assert "ON THE MAPPING" in result.out, f"{where}:\n{result.out}"
            self.way, self.starts = "decrypt", 0
            return False
        assert "SAME FSTAB" in result.out and self.device in result.out.splitlines(), f"{where}:\n{result.out}"
        return True


    def go(self):
        """Start, and come back when the worker runs."""
        self.start()
        self.bare.wait_console(r"^GO|NOT MOUNTED|CONTENT CHANGED|^@@vmtest end", 240)

    def cut(self, moment):
        """Let it work for so many seconds. Return: whether it was cut off, and not done before."""
        end = time.monotonic() + moment
        while time.monotonic() < end and self.bare.is_running():
            time.sleep(0.02)
        if not self.bare.is_running():
            return False
        self.bare.power_cut()
        self.cuts.append(f"{self.way}+{moment:.2f}")
        output = self.bare.output()
        assert not any(word in output for word in ("NOT MOUNTED", "CONTENT CHANGED", "WORKER")), \
            f"{self.filesystem}, cuts {self.cuts}:\n{output}"
        return True


def measure(bare, number, filesystem):
    """A way there and back without a cut. Return: how long each took."""
    journey = Journey(bare, number, filesystem)
    journey.begin()
    lengths = {}
    for way in REQUEST:
        journey.go()
        began = time.monotonic()
        back = journey.ended(bare.wait(300))
        lengths[way] = (time.monotonic() - began) * SLACK
        assert back == (way == "decrypt")
    return lengths


def run(rig):
    seed = int(os.environ.get("VMCRYPT_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    print(f"note: seed {seed}, {CUTS} cuts")
    bare = rig.bare(disks={disk: size for disk, size, _ in MAKE.values()}, memory="512M")
    cuts, number = 0, 1
    lengths = measure(bare, number, "ext4")
    print("note: uncut: " + ", ".join(f"{way} {length / SLACK:.1f} s" for way, length in lengths.items()))
    while cuts < CUTS:
        number += 1
        journey = Journey(bare, number, chance.choice(list(MAKE)))
        journey.begin()
        back = False
        while not back:
            moment = chance.uniform(0, lengths[journey.way])
            journey.go()
            if cuts < CUTS and journey.cut(moment):
                cuts += 1
            else:
                back = journey.ended(bare.wait(300))
        print(f"note: {journey.filesystem}: {len(journey.cuts)} cuts: {' '.join(journey.cuts)}")
    print(f"note: {cuts} cuts, {number} volumes, no file changed")
