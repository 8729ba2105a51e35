# SPDX-License-Identifier: LGPL-2.1-or-later
"""--detached-header: nothing on the volume gives way; its header lies on /boot; there and back again, with reboots."""

import story


def run(rig):
    vm = rig.vm(disks={"data": "128M"})
    vm.boot()
    device = vm.devices["data"]
    uuid = story.volume(vm, device, "/data", "ext4", fill="8M")
    size = "dumpe2fs -h {} 2>/dev/null | grep '^Block count'"
    before, fstab = vm.run(size.format(device)), vm.run("cat /etc/fstab")
    writer = vm.writer("/data")
    story.enable(vm, "--detached-header")
    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    assert writer.stop() > 0
    story.assert_encrypted(vm, uuid, "/data")
    assert vm.run(size.format(f"/dev/mapper/vmcrypt-{uuid}")) == before, "the filesystem gave way"
    row = story.state(vm, uuid)
    assert row["header"] == vm.run("ls /boot/vmcrypt/headers/*.luks").strip(), row
    assert vm.run(f"blkid -p {device}", check=False).code != 0, "the device still shows something"
    vm.reboot()
    story.assert_encrypted(vm, uuid, "/data")
    vm.verify("/data")
    writer.verify()

    story.disable(vm)
    story.wait_state(vm, [uuid], "NotEncrypted")
    story.wait_jobs(vm)
    vm.verify("/data")
    writer.verify()
    assert vm.run("cat /etc/fstab") == fstab
    assert vm.run("findmnt -n -o SOURCE /data").strip() == device
    assert vm.run("ls /boot/vmcrypt/headers").strip() == ""
    vm.reboot()
    assert vm.run("findmnt -n -o SOURCE /data").strip() == device
    vm.verify("/data")
