# SPDX-License-Identifier: LGPL-2.1-or-later
"""--encrypt-format-all: a new filesystem of the same type, UUID and label; the mount point keeps its owner."""

import story


def run(rig):
    vm = rig.vm(disks={"data": "256M", "small": "304M"})
    vm.boot()
    uuid = story.volume(vm, vm.devices["data"], "/data", "ext4",
                        make="mkfs.ext4 -q -F -L 'my data' -U {uuid} {device}")
    vm.run("chown 1234:4321 /data; chmod 2750 /data")
    refused = story.enable(vm, "--encrypt-format-all", check=False)
    assert refused.code != 0, "data would have been destroyed without a word"
    vm.verify("/data")
    # mkfs.xfs makes none that is smaller than 300 MB: said before anything is erased
    small = story.volume(vm, vm.devices["small"], "/small", "xfs", number=2)
    refused = story.enable(vm, "--encrypt-format-all", "--yes", check=False)
    assert refused.code != 0 and "larger than 300" in refused.out + refused.err, refused
    vm.verify("/small")
    vm.run("umount /small; sed -i '/small/d' /etc/fstab")
    assert story.state(vm, uuid)["state"] == "NotEncrypted"
    assert vm.run(f"blkid -p -o value -s UUID {vm.devices['small']}").strip() == small
    story.enable(vm, "--encrypt-format-all", "--yes")
    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    story.assert_encrypted(vm, uuid, "/data")
    assert vm.run("ls /data").split() in ([], ["lost+found"])
    assert vm.run("stat -c '%u %g %a' /data").strip() == "1234 4321 2750"
    mapping = f"/dev/mapper/vmcrypt-{uuid}"
    assert vm.run(f"blkid -p -o value -s LABEL {mapping}").strip() == "my data"
    assert vm.run(f"blkid -p -o value -s UUID {mapping}").strip() == uuid
    vm.fill("/data", "8M")
    vm.reboot()
    story.assert_encrypted(vm, uuid, "/data")
    vm.verify("/data")
