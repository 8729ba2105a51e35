# SPDX-License-Identifier: LGPL-2.1-or-later
"""A vault that is down holds no boot: the machine comes up, says why, and mounts the volume when it can."""

import story


def reboot_without_vault(vm):
    """Services come up, though systemd goes on waiting for the volume's device for its 90 seconds."""
    vm.reboot(wait="agent")
    vm.wait_for("systemctl is-active multi-user.target && systemctl is-active vmcryptd", timeout=150)


def run(rig):
    vm = rig.vm(disks={"data": "256M"})
    vm.boot()
    uuid = story.volume(vm, vm.devices["data"], "/data", "ext4")
    story.enable(vm, "--key-encryption-key", story.KEK)
    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    rig.cloud.stop("vault")
    reboot_without_vault(vm)
    assert vm.run("findmnt /data", check=False).code != 0
    journal = vm.run("journalctl -b -u vmcrypt-unlock")
    assert uuid in journal and "vault" in journal.lower(), journal
    rig.cloud.start("vault")
    vm.wait_for("findmnt /data", timeout=90)
    story.assert_encrypted(vm, uuid, "/data")
    vm.verify("/data")

    # a permission that was taken away is told apart, and said
    rig.cloud.fault("forbidden-by-rbac", service="vault", count=None)
    reboot_without_vault(vm)
    assert vm.run("findmnt /data", check=False).code != 0
    journal = vm.run("journalctl -b -u vmcrypt-unlock")
    assert "403" in journal or "permission" in journal, journal
