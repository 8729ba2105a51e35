# SPDX-License-Identifier: LGPL-2.1-or-later
"""A root partition with free space behind it: the partition grows by what the header takes, the filesystem keeps its size."""

import os_story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    vm = os_story.prepare(rig, root="gpt-ext4")
    before = int(vm.run("blockdev --getsize64 /dev/ubda1"))
    blocks = vm.run("findmnt -n -b -o SIZE /")
    writer = os_story.encrypt(vm)
    assert int(vm.run("blockdev --getsize64 /dev/ubda1")) >= before + (32 << 20)
    assert vm.run("findmnt -n -b -o SIZE /") >= blocks
    vm.reboot(timeout=180)
    os_story.check_after(vm, writer)
