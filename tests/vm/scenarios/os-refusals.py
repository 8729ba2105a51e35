# SPDX-License-Identifier: LGPL-2.1-or-later
"""What cannot be done with a root is refused before anything is changed: all reasons at once, each with its remedy."""

import story

LIMIT = 900
ONLY_BY_NAME = True
# /boot in the root as an installer leaves it, seen from the running system
INSIDE = ("cp -a /boot /boot.inside; umount /boot; rmdir /boot; mv /boot.inside /boot; sed -i '\\, /boot ,d' /etc/fstab; "
          "systemctl daemon-reload")
# what a job would change
STATE = ("sha256sum /etc/fstab /etc/default/grub; ls -l /boot/initrd.img-* /boot/grub/grub.cfg; lsblk -rnbo NAME,SIZE;"
         "find /etc/crypttab /etc/vmcrypt/initramfs.conf /etc/vmcrypt/split.conf /boot/vmcrypt -type f 2>/dev/null; true")


def assert_refused(vm, *codes, volume_type="OS", flags=(), words=""):
    """Each code is said, at once, and with a remedy."""
    before = vm.run(STATE)
    for kind in ("check", "enable"):
        result = vm.run(f"vmcryptctl {kind} --json=short --volume-type {volume_type} "
                        f"--disk-encryption-keyvault {story.VAULT} {' '.join(flags)}", check=False, timeout=300)
        said = result.out + result.err
        assert result.code == 4, (kind, codes, result)
        assert all(code in said for code in codes) and words in said and "remedy" in said, (kind, codes, said)
    assert vm.run(STATE) == before, (codes, before)
    assert story.show(vm)["os"] == "NotEncrypted", story.show(vm)


def refuse_machine(rig):
    """What speaks against it whatever the layout is."""
    vm = rig.vm(boot_disk="384M", memory="1024M", disks={"usr": "64M"})
    vm.boot()
    device = vm.devices["usr"]
    vm.run(f"mkfs.ext4 -q {device}; echo \"UUID=$(blkid -s UUID -o value {device}) /usr ext4 noauto 0 0\" >> /etc/fstab")
    vm.run("fallocate -l $(($(findmnt -nbo AVAIL /boot) - 8388608)) /boot/old-kernels")
    assert_refused(vm, "usr-separate", "boot-space", volume_type="All")
    vm.run("rm /boot/old-kernels; sed -i '\\, /usr ,d' /etc/fstab; mount -o remount,ro /boot")
    assert_refused(vm, "boot-unwritable")
    vm.run("mount -o remount,rw /boot")

    # it is a whole disk
    vm.run(INSIDE)
    assert_refused(vm, "boot-inside-root", words="the root is no partition")
    vm.power_cut()


def run(rig):
    refuse_machine(rig)
    for layout, why in (("gpt-xfs", "its filesystem cannot give way"), ("btrfs", "its filesystem cannot give way"),
                        ("lvm-free", "the root is no partition")):
        vm = rig.vm(root=layout, boot_disk="384M", memory="1024M")
        vm.boot()
        vm.run(INSIDE)
        assert_refused(vm, "boot-inside-root", words=why)
        vm.power_cut()
