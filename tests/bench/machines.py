# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machines that are measured: the same Debian with the product installed, and how its boots are timed."""

import os_story


def _build_plain(rig):
    return os_story.prepare(rig)


def plain(rig, disks=None):
    """A machine that is off and boots through an initramfs into a plain root; disks: more of them."""
    return rig.stage("bench-plain", _build_plain, disks=disks)


def boot_times(vm):
    """Seconds of the boot that it has just done, since the kernel's clock began, and what the rig saw.

    initramfs: until systemd runs, so with the initramfs; services: until multi-user.target; wall: from the boot loader
    until nothing is left to start
    """
    text = vm.run("systemctl show --value -p UserspaceTimestampMonotonic;"
                  "systemctl show --value -p ActiveEnterTimestampMonotonic multi-user.target")
    initramfs, services = (int(word) / 1e6 for word in text.split())
    assert 0 < initramfs < services, text
    return {"initramfs": initramfs, "services": services, "wall": vm.boot_seconds}


def services_up_at(vm):
    """When multi-user.target was reached in this boot, as time.time(); the guest has the host's clock."""
    text = vm.run("systemctl show --value -p ActiveEnterTimestampMonotonic multi-user.target;"
                  "python3 -c 'import time; print(time.time() - time.clock_gettime(time.CLOCK_MONOTONIC))'")
    since_boot, clock = text.split()
    return int(since_boot) / 1e6 + float(clock)
