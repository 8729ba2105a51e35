# SPDX-License-Identifier: LGPL-2.1-or-later
"""An xfs root that cannot give way: its header is kept on /boot, read live from there, and backed up elsewhere too."""

import os_story
import story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    vm = os_story.prepare(rig, root="gpt-xfs-rigid")
    writer = os_story.encrypt(vm)
    row = story.state(vm, os_story.ROOT)
    assert row["header"].startswith("/boot/vmcrypt/headers/") and row["header"].endswith(".luks"), row
    name = row["header"].rpartition("/")[2].removesuffix(".luks")
    assert vm.run(f"cryptsetup luksUUID /var/lib/vmcrypt/headers/{name}.backup").strip() == name
    # no copy of it in the initramfs: a stale one would be deadly
    assert ".luks" not in vm.run("lsinitramfs /boot/initrd.img-*", timeout=120)
    vm.reboot(timeout=180)
    os_story.check_after(vm, writer)
    # its filesystem's UUID is to be seen twice; what counts is the mapping
    assert vm.run(f"readlink -f /dev/disk/by-uuid/{os_story.ROOT}") == \
        vm.run(f"readlink -f /dev/mapper/{os_story.root_mapping()}")
