# SPDX-License-Identifier: LGPL-2.1-or-later
"""btrfs with subvolumes mounted in two places gives way while mounted and is encrypted online."""

import story


def run(rig):
    vm = rig.vm(disks={"data": "400M"})
    vm.boot()
    device, uuid = vm.devices["data"], story.uuid_of(1)
    vm.run(f"""set -e
        mkfs.btrfs -q -f -U {uuid} {device}
        mount {device} /mnt; btrfs -q subvolume create /mnt/one; btrfs -q subvolume create /mnt/two
        umount /mnt; mkdir -p /two
        echo 'UUID={uuid} /two btrfs subvol=two,noatime 0 0' >> /etc/fstab
        systemctl daemon-reload; udevadm settle; mount /two""")
    vm.fill("/two", "8M")
    story.online(vm, "btrfs", device, "/one", options="subvol=one", make="true")
    assert "noatime" in vm.run("findmnt -n -o OPTIONS /two")
    vm.verify("/two")
