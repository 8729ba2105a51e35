# SPDX-License-Identifier: LGPL-2.1-or-later
"""An ext4 root is encrypted with one ordinary reboot, and unlocked from an initramfs of initramfs-tools."""

import os_story
import story

LIMIT = os_story.LIMIT


def run(rig):
    vm = os_story.prepare(rig)
    fstab = vm.get("/etc/fstab")
    writer = os_story.encrypt(vm)
    assert vm.get("/etc/fstab") == fstab
    vm.verify("/srv")
    assert vm.run("ls /boot/vmcrypt/jobs /boot/vmcrypt/next-boot").split() == \
        ["/boot/vmcrypt/jobs:", "/boot/vmcrypt/next-boot:"]
    assert story.show(vm)["reports"][-1]["state"] == "done"

    vm.reboot()
    os_story.check_after(vm, writer)
    assert vm.failed_units() == [], vm.failed_units()
