# SPDX-License-Identifier: LGPL-2.1-or-later
"""An xfs root that cannot give way: its header is kept on /boot, read live from there, and backed up elsewhere too.

Until it is there, the root boots as it was: without a key, and cut off while all is taken back.
"""

import os_story
import story

LIMIT = os_story.LIMIT + 600
ONLY_BY_NAME = True


def assert_as_it_was(vm):
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda1"
    vm.verify("/srv")


def before_the_header(rig, vm):
    os_story.enable(vm)
    rig.cloud.stop("vault")
    vm.reboot(timeout=200)
    assert_as_it_was(vm)
    os_story.assert_pending(vm)
    rig.cloud.start("vault")
    # the mark for the next boot goes first, and the images that know of a header last
    vm.spawn("vmcryptctl disable --volume-type OS")
    vm.wait_for("! test -e /boot/vmcrypt/next-boot/*", timeout=60)
    vm.power_cut()
    vm.boot(timeout=200)
    assert_as_it_was(vm)
    story.wait_jobs(vm, timeout=400)
    assert story.show(vm)["os"] == "NotEncrypted", story.show(vm)
    assert vm.run("find /boot/vmcrypt/headers -type f 2>/dev/null || true") == ""


def run(rig):
    vm = os_story.prepare(rig, root="gpt-xfs-rigid")
    before_the_header(rig, vm)
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
