# SPDX-License-Identifier: LGPL-2.1-or-later
"""/boot in the root, and another volume before it on the OS disk: the root is what gives way and what is booted."""

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    vm = rig.vm(root="gpt-ext4-inside-second", memory="1024M")
    vm.boot()
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda2"
    other = story.volume(vm, "/dev/ubda1", "/opt", "ext4", fill="8M")
    vm.fill("/srv", "24M")
    size = int(vm.run("blockdev --getsize64 /dev/ubda1"))
    os_story.enable(vm, "--key-encryption-key", story.KEK)
    os_story.assert_pending(vm)

    vm.reboot()
    vm.wait_for("test -e /boot/vmcrypt/next-boot/*", timeout=2 * os_story.PREPARED_S)
    os_story.assert_pending(vm)
    assert vm.run("findmnt -n -o SOURCE /boot").strip() == "/dev/ubda3"
    assert int(vm.run("blockdev --getsize64 /dev/ubda1")) == size
    menu = vm.run("grep -oE '^\\s*linux\\s.*' /boot/grub/grub.cfg").splitlines()
    assert menu and all(f"root=UUID={os_story.ROOT} " in line for line in menu), menu
    vm.verify("/srv")
    vm.verify("/opt")

    vm.reboot()
    story.wait_state(vm, [os_story.ROOT, other], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    story.assert_encrypted(vm, other, "/opt")
    vm.reboot(timeout=180)
    os_story.assert_root_encrypted(vm)
    story.assert_encrypted(vm, other, "/opt")
    vm.verify("/srv")
    vm.verify("/opt")
    assert vm.failed_units() == [], vm.failed_units()
