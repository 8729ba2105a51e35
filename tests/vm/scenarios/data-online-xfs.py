# SPDX-License-Identifier: LGPL-2.1-or-later
"""xfs made with 512-byte and with 4096-byte sectors gives way while mounted and is encrypted online."""

import story


def run(rig):
    vm = rig.vm(disks={"small": "344M", "large": "344M"})
    vm.boot()
    other = story.volume(vm, vm.devices["large"], "/large", "xfs", number=2,
                         make="mkfs.xfs -q -f -s size=4096 -m uuid={uuid} {device}")
    uuid = story.online(vm, "xfs", vm.devices["small"], "/small")
    story.assert_encrypted(vm, other, "/large")
    vm.verify("/large")
    # encryption sectors are never larger than the filesystem's, or than what the disk writes whole
    for volume in (uuid, other):
        assert "sector_size" not in vm.run(f"dmsetup table /dev/mapper/vmcrypt-{volume}")
