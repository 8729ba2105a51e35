# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vault, identity, DNS or DHCP fail in the initramfs, or the vault refuses: the machine boots as it was, nothing changed, and show says why."""

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True


def assert_as_it_was(vm, before, words):
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda"
    assert before == vm.run("dumpe2fs -h /dev/ubda 2>/dev/null | grep -E '^Block count|^Filesystem UUID'")
    os_story.assert_pending(vm)
    # the worker tells it when it has looked
    vm.wait_for("vmcryptctl show --json=short | jq -e '[.reports[].faults[].code] | index(\"not-at-boot\")'",
                timeout=60)
    said = [fault for fault in os_story.faults(vm) if fault["code"] == "not-at-boot"]
    assert any(word in said[0]["what"] for word in words) and said[0]["remedy"], said
    vm.verify("/srv")


def run(rig):
    vm = os_story.prepare(rig)
    before = vm.run("dumpe2fs -h /dev/ubda 2>/dev/null | grep -E '^Block count|^Filesystem UUID'")
    os_story.enable(vm)
    os_story.assert_pending(vm)

    for name, words in (("vault", ("vault",)), ("imds", ("dentity", "etadata")), ("dns", ("resolve", "vault")),
                        ("dhcp", ("resolve", "vault", "dentity", "etadata", "etwork"))):
        rig.cloud.stop(name)
        vm.reboot(timeout=200)
        assert_as_it_was(vm, before, words)
        rig.cloud.start(name)
    rig.cloud.fault("forbidden-by-rbac", service="vault", count=None)
    vm.reboot(timeout=200)
    assert_as_it_was(vm, before, ("403", "denied", "permission", "may not"))
    rig.cloud.clear()

    vm.reboot(timeout=200)
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
