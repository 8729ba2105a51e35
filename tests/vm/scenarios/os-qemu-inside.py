# SPDX-License-Identifier: LGPL-2.1-or-later
"""/boot in the root behind Debian's GRUB on an emulated machine with BIOS: a partition is split off, GRUB follows, the root is encrypted.

The rig's disk has a partition for /boot; it is brought back into the root first.
"""

import subprocess

import host
import os_story
import qemu_story
import story

LIMIT = qemu_story.LIMIT
ONLY_BY_NAME = True  # an emulated processor takes its time
MORE = "1G"

INTO_ROOT = """set -e
old=$(findmnt -n -o SOURCE /boot)
cp -a /boot /boot.new
umount /boot
cp -a /boot.new/. /boot/
rm -r /boot.new
sed -i '\\|[[:space:]]/boot[[:space:]]|d' /etc/fstab
dd if=/dev/zero of=$old bs=1M count=1 conv=fsync status=none
resize2fs /dev/vda3
systemctl daemon-reload
update-grub
grub-install --target=i386-pc /dev/vda
sync
"""


def enlarge(vm):
    """As the cloud does; the root's partition takes it all."""
    raw = vm.workdir / "root.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", vm._root_disk, raw], check=True)
    subprocess.run(["qemu-img", "resize", "-q", "-f", "raw", raw, f"+{MORE}"], check=True)
    subprocess.run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", "-N", "3", raw], input=", +\n", text=True,
                   check=True)
    vm._root_disk.unlink()
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, vm._root_disk], check=True)
    raw.unlink()


def run(rig):
    host.ensure_packages("qemu")
    vm = rig.qemu("bios")
    enlarge(vm)
    vm.boot()
    vm.run(INTO_ROOT, timeout=600)
    vm.reboot()
    assert vm.run("findmnt -n -o SOURCE /boot || true").strip() == ""
    vm.install_product()
    vm.fill("/srv", "24M")

    os_story.enable(vm, "--key-encryption-key", story.KEK, timeout=1200)
    os_story.assert_pending(vm)
    assert "boot-split-waits" in [fault["code"] for fault in os_story.faults(vm)], os_story.faults(vm)
    vm.reboot()
    vm.verify("/srv")
    vm.wait_for("test -e /boot/vmcrypt/next-boot/*", timeout=1200)
    os_story.assert_pending(vm)
    boot = vm.run("findmnt -n -o SOURCE /boot").strip()
    assert boot == "/dev/vda4", boot
    assert "/dev/mapper" not in vm.run("findmnt -n -o SOURCE /")

    # GRUB reads the new one: nothing else would find the root
    vm.reboot()
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
    vm.reboot()
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
