# SPDX-License-Identifier: LGPL-2.1-or-later
"""An ext4 root is encrypted with one ordinary reboot, and unlocked from an initramfs of dracut with systemd in it."""

import os_story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True
PREPARED_S = 1200  # dracut starts some thousand processes for an image

# Only what this machine needs: each module asks some processes whether it is wanted.
CONF = """
dracutmodules+=" bash systemd systemd-initrd systemd-networkd systemd-ask-password systemd-udevd udev-rules "
dracutmodules+=" rootfs-block fs-lib base dracut-systemd network dm usrmount shutdown vmcrypt "
hostonly="yes"
hostonly_cmdline="no"
compress="gzip -1"
do_strip="no"
early_microcode="no"
"""


def run(rig):
    vm = os_story.prepare(rig)
    # as on a machine that has dracut and not initramfs-tools
    vm.run("cd /usr/sbin; for name in update-initramfs mkinitramfs; do mv $name $name.away; done")
    vm.put("/etc/dracut.conf.d/vmtest.conf", CONF)
    writer = os_story.encrypt(vm, prepared_s=PREPARED_S)
    vm.verify("/srv")
    vm.reboot(timeout=180)
    journal = vm.run("journalctl -b -o cat")
    assert "dracut-059" in journal and "Unlock the root" in journal
    os_story.check_after(vm, writer)
    assert vm.failed_units() == [], vm.failed_units()
