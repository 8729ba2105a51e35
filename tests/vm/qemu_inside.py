# SPDX-License-Identifier: LGPL-2.1-or-later
"""/boot in the root behind a real boot loader, for each firmware: a partition is split off, GRUB follows, the root is encrypted.

The rig's disk has a partition for /boot; it is brought back into the root first.
"""

import subprocess

import host
import os_story
import story

LIMIT = 3000
MORE = "1G"

# as the rig's own image has it
INSTALL = {"bios": "grub-install --target=i386-pc /dev/vda",
           "uefi": "grub-install --target=x86_64-efi --efi-directory=/boot/efi --bootloader-id=debian"}
INTO_ROOT = """set -e
old=$(findmnt -n -o SOURCE /boot)
cp -ax /boot /boot.new
efi=$(findmnt -n -o SOURCE /boot/efi || true)
umount --recursive /boot
cp -a /boot.new/. /boot/
rm -r /boot.new
sed -i '\\|[[:space:]]/boot[[:space:]]|d' /etc/fstab
dd if=/dev/zero of=$old bs=1M count=1 conv=fsync status=none
resize2fs /dev/vda3
systemctl daemon-reload
[ -z "$efi" ] || mount /boot/efi
update-grub
{install}
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


def run(rig, firmware):
    host.ensure_packages("qemu")
    vm = rig.qemu(firmware)
    enlarge(vm)
    vm.boot()
    vm.run(INTO_ROOT.replace("{install}", INSTALL[firmware]), timeout=600)
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

    if firmware == "uefi":
        # the order in which they are mounted, and the few lines that GRUB begins with
        # that below the old /boot is listed too
        assert set(vm.run("findmnt -n -o SOURCE /boot/efi").split()) == {"/dev/vda1"}
        uuid = vm.run(f"blkid -o value -s UUID {boot}").strip()
        stub = vm.get("/boot/efi/EFI/debian/grub.cfg")
        assert uuid in stub and "/boot/grub" not in stub, stub

    # GRUB reads the new one: nothing else would find the root
    vm.reboot()
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
    vm.reboot()
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
