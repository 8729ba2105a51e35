# SPDX-License-Identifier: LGPL-2.1-or-later
"""A btrfs root with subvolumes for / and /home: it gives way while mounted, and both come back from the mapping."""

import os_story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    vm = os_story.prepare(rig, root="btrfs")
    vm.fill("/home", "8M")
    fstab = vm.get("/etc/fstab")
    writer = os_story.encrypt(vm)
    assert vm.get("/etc/fstab") == fstab
    vm.reboot(timeout=180)
    os_story.check_after(vm, writer)
    vm.verify("/home")
    assert vm.run("findmnt -n -o SOURCE /").strip().endswith("[/@]")
    assert vm.run("findmnt -n -o SOURCE /home").strip().endswith("[/@home]")
