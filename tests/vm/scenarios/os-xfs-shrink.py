# SPDX-License-Identifier: LGPL-2.1-or-later
"""An xfs root gives way by 32 MiB while it is mounted; the header lies on the partition."""

import os_story
import story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    vm = os_story.prepare(rig, root="gpt-xfs")
    writer = os_story.encrypt(vm)
    assert story.state(vm, os_story.ROOT)["header"] == "attached"
    vm.reboot(timeout=180)
    os_story.check_after(vm, writer)
