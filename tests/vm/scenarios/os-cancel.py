# SPDX-License-Identifier: LGPL-2.1-or-later
"""What only waits for a boot is taken back; asked again with --reboot, the machine reboots by itself, whatever becomes of the daemon."""

import os_story
import story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True

FILES = "/etc/fstab /etc/crypttab /etc/default/grub /boot/grub/grub.cfg"


def run(rig):
    vm = os_story.prepare(rig)
    before = vm.run(f"sha256sum {FILES} 2>/dev/null || true")
    os_story.enable(vm)
    os_story.assert_pending(vm)
    vm.run("vmcryptctl disable --volume-type OS", timeout=os_story.PREPARED_S)
    story.wait_jobs(vm, timeout=300)
    assert story.show(vm)["os"] == "NotEncrypted"
    assert vm.run(f"sha256sum {FILES} 2>/dev/null || true") == before
    left = vm.run("find /boot/vmcrypt/next-boot /etc/vmcrypt/initramfs.conf* -type f 2>/dev/null || true").split()
    assert left == [], left
    image = vm.run("lsinitramfs /boot/initrd.img-*", timeout=120)
    assert not [line for line in image.split() if "lib/vmcrypt/" in line or "etc/vmcrypt" in line]
    vm.reboot()
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda"
    assert story.show(vm)["os"] == "NotEncrypted"
    vm.verify("/srv")

    vm.spawn("vmcryptctl enable --volume-type OS --reboot --disk-encryption-keyvault " + story.VAULT)
    vm.wait_for("systemctl is-active 'vmcrypt-worker@*'", timeout=60)
    vm.run("systemctl restart vmcryptd")
    vm.wait_off(os_story.PREPARED_S)
    vm.boot()
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    # once
    assert "Restarting system" not in vm.console_since_power_on()
    vm.verify("/srv")
