# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernels come and go while the root is encrypted: each gets the unlocker, and one without it is reported before it is booted."""

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True
STAGE = "os-pending"
# what a kernel's package runs when it has been unpacked
INSTALL = "run-parts --exit-on-error --arg={0} --arg=/boot/vmlinuz-{0} /etc/kernel/postinst.d 2>&1"


def assert_in_the_middle(vm):
    row = story.state(vm, os_story.ROOT)
    assert row["state"] == "EncryptionInProgress" and 0 < row["percent"] < 100, row


def run(rig):
    vm = os_story.pending(rig)
    vm.boot()
    version = vm.run("uname -r").strip()

    # the kernel's package is upgraded in the middle of the conversion, which then goes on after a reboot
    vm.wait_for("vmcryptctl show --json=short | jq -e '[.volumes[].percent // 0] | max > 0'")
    vm.run("vmcryptctl pause")
    assert_in_the_middle(vm)
    vm.run(INSTALL.format(version), timeout=os_story.PREPARED_S)
    assert_in_the_middle(vm)
    vm.reboot(timeout=180)
    assert f"/dev/mapper/{os_story.root_mapping()}" == vm.run("findmnt -n -o SOURCE /").strip()
    assert_in_the_middle(vm)
    vm.run("vmcryptctl resume")
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    vm.verify("/srv")

    # a further kernel
    new = os_story.add_kernel(vm, version)
    said = vm.run(INSTALL.format(new), timeout=os_story.PREPARED_S)
    assert "cannot unlock" not in said, said
    assert os_story.stale_images(vm) == []

    # one whose image was made without us: told by what installs it, and by check
    vm.run(f"mv /etc/vmcrypt/initramfs.conf /run/aside; mkinitramfs -o /boot/initrd.img-{new} {new}; "
           "mv /run/aside /etc/vmcrypt/initramfs.conf", timeout=os_story.PREPARED_S)
    said = vm.run(f"/etc/kernel/postinst.d/zz-vmcrypt {new} /boot/vmlinuz-{new} 2>&1")
    assert new in said and "cannot unlock" in said, said
    stale = os_story.stale_images(vm)
    assert len(stale) == 1 and new in stale[0], stale
    vm.run(f"update-initramfs -u -k {new}", timeout=os_story.PREPARED_S)
    assert os_story.stale_images(vm) == []
    # nothing is left to encrypt, which is no reason to call it wrong
    said = vm.run(f"vmcryptctl check --volume-type OS --disk-encryption-keyvault {story.VAULT} 2>&1", timeout=240)
    assert "already-encrypted" in said, said
