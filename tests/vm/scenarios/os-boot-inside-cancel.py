# SPDX-License-Identifier: LGPL-2.1-or-later
"""/boot in the root: what only waits to make a partition for it is taken back; asked again with --reboot, it goes all the way.

The vault is away after the first of its two reboots: the second comes when it is back.
"""

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True
FILES = "/etc/fstab /etc/crypttab /etc/default/grub /boot/grub/grub.cfg"


def run(rig):
    vm = rig.vm(root="gpt-ext4-inside", memory="1024M")
    vm.boot()
    vm.fill("/srv", "24M")
    before = vm.run(f"sha256sum {FILES} 2>/dev/null || true")
    said = vm.run(f"vmcryptctl check --volume-type OS --disk-encryption-keyvault {story.VAULT} 2>&1", timeout=120)
    assert "one reboot more" in said, said
    refused = os_story.enable(vm, "--recovery-key", check=False)
    assert refused.code != 0 and "without --recovery-key" in refused.out + refused.err, refused
    assert vm.run(f"sha256sum {FILES} 2>/dev/null || true") == before
    os_story.enable(vm)
    os_story.assert_pending(vm)
    assert "etc/vmcrypt/split.conf" in vm.run("lsinitramfs /boot/initrd.img-*", timeout=120)

    vm.run("vmcryptctl disable --volume-type OS", timeout=os_story.PREPARED_S)
    story.wait_jobs(vm, timeout=300)
    assert story.show(vm)["os"] == "NotEncrypted"
    assert vm.run(f"sha256sum {FILES} 2>/dev/null || true") == before
    left = vm.run("find /boot/vmcrypt/next-boot /etc/vmcrypt/split.conf* -type f 2>/dev/null || true").split()
    assert left == [], left
    image = vm.run("lsinitramfs /boot/initrd.img-*", timeout=120)
    assert not [line for line in image.split() if "lib/vmcrypt/" in line or "etc/vmcrypt" in line]
    vm.reboot()
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda1"
    assert vm.run("[ -e /dev/ubda2 ] || echo none").strip() == "none"
    vm.verify("/srv")

    vm.spawn("vmcryptctl enable --volume-type OS --reboot --disk-encryption-keyvault " + story.VAULT)
    vm.wait_off(os_story.PREPARED_S)
    rig.cloud.stop("vault")
    vm.boot()
    os_story.wait_for_key(vm)
    rig.cloud.start("vault")
    vm.wait_off(os_story.PREPARED_S)
    vm.boot()
    assert vm.run("findmnt -n -o SOURCE /").strip() == f"/dev/mapper/{os_story.root_mapping()}"
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
