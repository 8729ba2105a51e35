# SPDX-License-Identifier: LGPL-2.1-or-later
"""A vault that is down holds no boot: the machine comes up, says why, and mounts the volume when it can."""

import story


def run(rig):
    vm = rig.vm(disks={"data": "256M"})
    vm.boot()
    uuid = story.volume(vm, vm.devices["data"], "/data", "ext4")
    story.enable(vm, "--key-encryption-key", story.KEK)
    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    rig.cloud.stop("vault")
    vm.reboot()
    assert vm.run("findmnt /data", check=False).code != 0
    assert vm.run("systemctl is-active multi-user.target").strip() == "active"
    journal = vm.run("journalctl -b -u vmcrypt-unlock")
    assert uuid in journal and "vault" in journal.lower(), journal
    rig.cloud.start("vault")
    vm.wait_for("findmnt /data", timeout=90)
    story.assert_encrypted(vm, uuid, "/data")
    vm.verify("/data")

    # a permission that was taken away is told apart, and said
    rig.cloud.fault("forbidden-by-rbac", service="vault", count=None)
    vm.reboot()
    assert vm.run("findmnt /data", check=False).code != 0
    journal = vm.run("journalctl -b -u vmcrypt-unlock")
    assert "403" in journal or "permission" in journal, journal
