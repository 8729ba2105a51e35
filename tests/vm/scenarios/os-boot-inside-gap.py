# SPDX-License-Identifier: LGPL-2.1-or-later
"""/boot in the root, and free space behind it: the partition is made at once, and one reboot encrypts."""

import os_story
import story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    vm = rig.vm(root="gpt-ext4-inside-gap", memory="1024M")
    vm.boot()
    vm.fill("/srv", "24M")
    size = vm.run("blockdev --getsize64 /dev/ubda1")
    os_story.enable(vm, "--key-encryption-key", story.KEK)
    os_story.assert_pending(vm)
    assert vm.run("findmnt -n -o SOURCE /boot").strip() == "/dev/ubda2"
    assert vm.run("blockdev --getsize64 /dev/ubda1") == size
    left = vm.run("find /etc/vmcrypt/split.conf* /var/lib/vmcrypt/split.json /var/lib/vmcrypt/split-loader "
                  "-type f 2>/dev/null || true").split()
    assert left == [], left
    vm.verify("/srv")
    vm.reboot()
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
    vm.reboot(timeout=180)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
