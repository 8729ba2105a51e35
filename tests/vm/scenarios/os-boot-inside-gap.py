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
    assert not vm.run("ls /etc/vmcrypt/split.conf 2>/dev/null || true").strip()
    vm.verify("/srv")
    vm.reboot()
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
    vm.reboot(timeout=180)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
