# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rig's boot loader: an initramfs and kernel arguments that the guest itself has made are used."""

LIMIT = 900  # making an initramfs starts some 700 processes


def run(rig):
    vm = rig.vm(disks={"data": "64M"}, boot_disk="256M")
    vm.boot()
    assert vm.run("findmnt -no SOURCE /boot").strip() == vm.devices["boot"]
    assert "initrd=" in vm.get("/proc/cmdline")
    assert vm.failed_units() == [], vm.failed_units()

    vm.put("/etc/initramfs-tools/scripts/init-top/mark",
           "#!/bin/sh\n[ \"$1\" = prereqs ] || echo made by the guest > /run/mark\n", mode=0o755)
    vm.run("sed -i 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX=\"word=1\"/' /etc/default/grub; "
           "update-grub && update-initramfs -u && ls -l /boot", timeout=600)
    vm.reboot()
    assert "word=1" in vm.get("/proc/cmdline")
    assert vm.get("/run/mark") == "made by the guest\n"
