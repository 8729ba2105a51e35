# SPDX-License-Identifier: LGPL-2.1-or-later
"""The key cannot be had in the initramfs: the machine boots as it was, nothing changed, and show says why."""

import os_story
import story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True


def assert_as_it_was(vm, before, words):
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda"
    assert before == vm.run("dumpe2fs -h /dev/ubda 2>/dev/null | grep -E '^Block count|^Filesystem UUID'")
    os_story.assert_pending(vm)
    said = [fault for fault in os_story.faults(vm) if fault["code"] == "not-at-boot"]
    assert said and any(word in said[0]["what"] for word in words) and said[0]["remedy"], said
    vm.verify("/srv")


def run(rig):
    vm = os_story.prepare(rig)
    before = vm.run("dumpe2fs -h /dev/ubda 2>/dev/null | grep -E '^Block count|^Filesystem UUID'")
    os_story.enable(vm)
    os_story.assert_pending(vm)

    # nobody answers for the vault; then the identity service refuses; then there is no network at all
    rig.cloud.stop("vault")
    vm.reboot(timeout=200)
    assert_as_it_was(vm, before, ("vault", "Vault", "connect"))
    rig.cloud.start("vault")
    rig.cloud.fault("forbidden-by-rbac", service="vault", count=None)
    vm.reboot(timeout=200)
    assert_as_it_was(vm, before, ("403", "denied", "permission", "may not"))
    rig.cloud.clear()

    vm.reboot(timeout=200)
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
