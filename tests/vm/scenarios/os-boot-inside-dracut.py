# SPDX-License-Identifier: LGPL-2.1-or-later
"""/boot in the root, on an MBR, with dracut: one reboot makes a partition for it, the second encrypts.

Between them the vault is away, and what waits for it is taken back: /boot keeps its partition, all else is as it was.
"""

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True
SPLIT_IN_IMAGES = "lsinitrd /boot/initr* | grep -q etc/vmcrypt/split.conf && echo yes || echo no"


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
    assert vm.run(SPLIT_IN_IMAGES, timeout=120).strip() == "yes"

    rig.cloud.stop("vault")
    vm.reboot(timeout=400)
    vm.verify("/srv")
    os_story.wait_for_key(vm)
    assert vm.run("findmnt -n -o SOURCE /boot").strip() == "/dev/ubda2"
    assert int(vm.run("blockdev --getsize64 /dev/ubda1")) <= size - (512 << 20)
    assert "dracut-059" in vm.run("journalctl -b -o cat")
    # our module is one of those that the file asks for, whether it has something to do or not
    vm.run("sed -i 's/ vmcrypt / /' /etc/dracut.conf.d/vmtest.conf")
    vm.wait_for("vmcryptctl disable --volume-type OS", timeout=600)
    story.wait_jobs(vm, timeout=prepared_s)
    assert story.show(vm)["os"] == "NotEncrypted"
    assert vm.run("findmnt -n -o SOURCE /boot").strip() == "/dev/ubda2"
    assert vm.run(SPLIT_IN_IMAGES, timeout=120).strip() == "no"
    left = vm.run("find /etc/vmcrypt /etc/default/grub.d /boot/vmcrypt/next-boot -name '*split*' -o -name '*vmcrypt.cfg' "
                  "-o -path '*next-boot/*' 2>/dev/null || true").split()
    assert left == [], left
    rig.cloud.start("vault")
    vm.put("/etc/dracut.conf.d/vmtest.conf", os_story.DRACUT_CONF)

    # a recovery key, which the root's giving way would have left nobody to see
    os_story.enable(vm, "--key-encryption-key", story.KEK, "--recovery-key-fd=9", "9>/run/recovery-key",
                    timeout=prepared_s)
    assert len(vm.get("/run/recovery-key").strip()) > 60
    os_story.assert_pending(vm)

    vm.reboot(timeout=400)
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    vm.verify("/srv")
    vm.reboot(timeout=180)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
    assert vm.failed_units() == [], vm.failed_units()
