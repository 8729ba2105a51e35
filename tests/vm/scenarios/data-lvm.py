# SPDX-License-Identifier: LGPL-2.1-or-later
"""Logical volumes: one whose group has free extents, one whose filesystem has to give way."""

import story


def run(rig):
    vm = rig.vm(disks={"roomy": "400M", "full": "200M"})
    vm.boot()
    vm.run(f"""set -e
        pvcreate -q {vm.devices['roomy']} {vm.devices['full']}
        vgcreate -q roomy {vm.devices['roomy']}; lvcreate -q -y -L 256M -n data roomy
        vgcreate -q tight {vm.devices['full']}; lvcreate -q -y -l 100%FREE -n data tight
        udevadm settle""")
    full = story.volume(vm, "/dev/tight/data", "/full", "ext4", number=2)
    uuid = story.online(vm, "ext4", "/dev/roomy/data", "/roomy")
    story.assert_encrypted(vm, full, "/full")
    vm.verify("/full")
    extents = vm.run("lvs --noheadings --units m --nosuffix -o lv_size roomy/data").strip()
    assert float(extents) >= 288, f"the logical volume did not grow: {extents} MiB"
    size = vm.run(f"dumpe2fs -h /dev/mapper/vmcrypt-{uuid} 2>/dev/null "
                  "| awk '/^Block count/ {n = $3} /^Block size/ {print n * $3}'")
    assert int(size) >= 256 << 20, f"the filesystem became smaller: {size} bytes"
