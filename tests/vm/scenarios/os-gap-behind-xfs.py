# SPDX-License-Identifier: LGPL-2.1-or-later
"""An xfs root that cannot give way, with free space behind its partition: that grows, and the header lies on it."""

import os_story
import story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    vm = os_story.prepare(rig, root="gpt-xfs-rigid-gap")
    before = int(vm.run("blockdev --getsize64 /dev/ubda1"))
    blocks = int(vm.run("findmnt -n -b -o SIZE /"))
    writer = os_story.encrypt(vm)
    assert story.state(vm, os_story.ROOT)["header"] == "attached"
    assert int(vm.run("blockdev --getsize64 /dev/ubda1")) >= before + (32 << 20)
    assert int(vm.run("findmnt -n -b -o SIZE /")) >= blocks
    vm.reboot(timeout=180)
    os_story.check_after(vm, writer)
