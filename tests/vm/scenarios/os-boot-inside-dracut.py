# SPDX-License-Identifier: LGPL-2.1-or-later
"""/boot in the root, on an MBR, with dracut: one reboot makes a partition for it, the second encrypts."""

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    vm = rig.vm(root="mbr-ext4-inside", memory="1024M")
    vm.boot()
    vm.fill("/srv", "24M")
    os_story.use_dracut(vm)
    size = int(vm.run("blockdev --getsize64 /dev/ubda1"))
    prepared_s = os_story.DRACUT_PREPARED_S

    os_story.enable(vm, "--key-encryption-key", story.KEK, timeout=prepared_s)
    os_story.assert_pending(vm)
    assert vm.run("findmnt -n -o SOURCE /boot || true").strip() == ""

    vm.reboot(timeout=400)
    vm.verify("/srv")
    vm.wait_for("test -e /boot/vmcrypt/next-boot/*", timeout=prepared_s)
    os_story.assert_pending(vm)
    assert vm.run("findmnt -n -o SOURCE /boot").strip() == "/dev/ubda2"
    assert int(vm.run("blockdev --getsize64 /dev/ubda1")) <= size - (512 << 20)
    assert "dracut-059" in vm.run("journalctl -b -o cat")

    vm.reboot(timeout=400)
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    vm.verify("/srv")
    vm.reboot(timeout=180)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
    assert vm.failed_units() == [], vm.failed_units()
