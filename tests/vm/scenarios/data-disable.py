# SPDX-License-Identifier: LGPL-2.1-or-later
"""disable decrypts online, back to the plain volume; fstab and crypttab as before, the key stays."""

import story


def run(rig):
    vm = rig.vm(disks={"data": "256M"})
    vm.boot()
    device = vm.devices["data"]
    tables = "cat /etc/fstab; echo --; cat /etc/crypttab 2>/dev/null || true"
    uuid = story.volume(vm, device, "/data", "ext4", options="noatime,errors=remount-ro")
    before = vm.run(tables)
    story.enable(vm)
    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    assert vm.run(tables) != before
    secrets = len(rig.cloud.log(service="vault", method="DELETE"))

    # as on most machines: what systemd has made of crypttab since is bound to the header that goes away
    vm.reboot()
    writer = vm.writer("/data")
    story.disable(vm)
    story.wait_state(vm, [uuid], "NotEncrypted")
    story.wait_jobs(vm)
    assert writer.stop() > 0
    writer.verify()
    vm.verify("/data")
    assert vm.run(tables) == before, vm.run(tables)
    assert vm.run("findmnt -n -o SOURCE /data").strip() == device
    assert "noatime" in vm.run("findmnt -n -o OPTIONS /data")
    assert len(rig.cloud.log(service="vault", method="DELETE")) == secrets, "a key was deleted"
    vm.reboot()
    assert vm.run("findmnt -n -o SOURCE /data").strip() == device
    vm.verify("/data")
    vm.run(f"umount /data && e2fsck -f -n {device}")
