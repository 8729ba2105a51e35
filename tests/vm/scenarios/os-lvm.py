# SPDX-License-Identifier: LGPL-2.1-or-later
"""A root on LVM, its group's name with a hyphen: with free extents the volume grows, without the filesystem gives way."""

import os_story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    for layout in ("lvm-free", "lvm-full"):
        vm = os_story.prepare(rig, root=layout)
        assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/mapper/azure--vg-root"
        before = int(vm.run("blockdev --getsize64 /dev/mapper/azure--vg-root"))
        writer = os_story.encrypt(vm)
        grown = int(vm.run("blockdev --getsize64 /dev/mapper/azure--vg-root")) - before
        assert grown >= 32 << 20 if layout == "lvm-free" else grown == 0, (layout, grown)
        vm.reboot(timeout=180)
        os_story.check_after(vm, writer)
        vm.power_cut()
