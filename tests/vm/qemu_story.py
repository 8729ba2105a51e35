# SPDX-License-Identifier: LGPL-2.1-or-later
"""The root encrypted behind a real boot loader, and a later kernel update; for each firmware."""

import host
import os_story
import qemu_image
import story

LIMIT = 3000
PREPARED_S = 1200  # of an emulated processor


def run(rig, firmware):
    host.ensure_packages("qemu")
    vm = rig.qemu(firmware)
    vm.boot()
    assert vm.run("[ -d /sys/firmware/efi ] && echo uefi || echo bios").strip() == firmware
    assert " root=UUID=" in vm.get("/proc/cmdline")
    vm.install_product()
    vm.fill("/srv", "24M")
    refuse_hibernation(vm)
    fstab = vm.get("/etc/fstab")

    writer = os_story.encrypt(vm, prepared_s=PREPARED_S)
    assert vm.get("/etc/fstab") == fstab
    vm.verify("/srv")
    assert story.show(vm)["reports"][-1]["state"] == "done"

    kernels = [vm.run("uname -r").strip(), update_kernel(vm)]
    vm.reboot()
    assert vm.run("uname -r").strip() == kernels[1]
    os_story.check_after(vm, writer)
    assert vm.failed_units() == [], vm.failed_units()


def refuse_hibernation(vm):
    """As with resume= among the kernel's arguments: what is written there by an initramfs cannot be taken back."""
    assert vm.get("/sys/power/resume") == "0:0\n"
    vm.run("findmnt -nro MAJ:MIN / > /run/resume && mount --bind /run/resume /sys/power/resume")
    said = check(vm)
    vm.run("umount /sys/power/resume")
    assert "hibernation" in said and "resume=" in said, said
    assert "hibernation" not in check(vm)


def update_kernel(vm):
    """The next kernel comes as Debian's package. Return: its version."""
    said = vm.run(f"dpkg -i {qemu_image.KERNEL_UPDATE}/*.deb 2>&1", timeout=1200)
    version = vm.run(f"dpkg-deb -f {qemu_image.KERNEL_UPDATE}/*.deb Package").strip() \
        .removeprefix("linux-image-")
    for hook in ("initramfs-tools", "zz-update-grub"):
        assert f"/etc/kernel/postinst.d/{hook}" in said, said
    assert "cannot unlock" not in said and "vmcryptctl check" not in said, said
    first = vm.run("grep -m1 '^[[:space:]]*linux' /boot/grub/grub.cfg")
    assert f"/vmlinuz-{version} " in first, first
    assert "initramfs" not in check(vm)

    # one that comes without its initramfs is told of
    vm.run(f"cp /boot/vmlinuz-{version} /boot/vmlinuz-9.9-test && mkdir /lib/modules/9.9-test")
    said = vm.run("/etc/kernel/postinst.d/zz-vmcrypt 9.9-test 2>&1", timeout=120)
    assert "Kernel 9.9-test cannot unlock the root" in said, said
    assert "kernel 9.9-test" in check(vm)
    vm.run("rm -r /boot/vmlinuz-9.9-test /lib/modules/9.9-test")
    return version


def check(vm):
    """What `vmcryptctl check` says of the machine and all its kernels."""
    result = vm.run("vmcryptctl check --volume-type OS --disk-encryption-keyvault "
                    f"{story.VAULT}", check=False, timeout=300)
    return result.out + result.err
