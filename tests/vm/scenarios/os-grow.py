# SPDX-License-Identifier: LGPL-2.1-or-later
"""The OS disk was made larger in the cloud: partition, mapping and filesystem of the encrypted root follow, in use."""

import os_story
import story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True
MORE = 128 << 20
SLACK = 8 << 20  # a last group of ext4 that is too small for its own tables
MAPPING = f"/dev/mapper/{os_story.root_mapping()}"


def sizes(vm):
    """Bytes of disk, partition, mapping and filesystem."""
    filesystem = vm.run(f"dumpe2fs -h {MAPPING} 2>/dev/null"
                        " | awk '/^Block count/ {n = $3} /^Block size/ {print n * $3}'")
    return [*(int(vm.run(f"blockdev --getsize64 {device}")) for device in ("/dev/ubda", "/dev/ubda1", MAPPING)),
            int(filesystem)]


def assert_grown(vm, before):
    disk, partition, mapping, filesystem = sizes(vm)
    assert disk == before[0] + MORE
    assert partition >= before[1] + MORE - 4096, (partition, before)
    assert mapping == before[2] + partition - before[1], (mapping, partition, before)
    assert mapping - SLACK < filesystem <= mapping, (filesystem, mapping)


def run(rig):
    vm = os_story.prepare(rig, root="gpt-ext4-full")
    writer = os_story.encrypt(vm)
    quiet = vm.run("vmcryptctl grow 2>&1", timeout=120)
    assert "nothing-to-grow" in quiet and quiet.endswith("Done.\n"), quiet
    before = sizes(vm)
    vm.shutdown()
    vm.enlarge_root(MORE)
    vm.boot()
    assert sizes(vm)[1:] == before[1:], "something else has made it larger"
    plan = vm.run("vmcryptctl grow --plan", timeout=120)
    assert "partition" in plan and os_story.ROOT in plan, plan
    writer.start()
    vm.run("vmcryptctl grow", timeout=240)
    assert_grown(vm, before)
    writer.stop()
    vm.verify("/srv")
    assert "nothing-to-grow" in vm.run("vmcryptctl grow 2>&1", timeout=120)
    assert not vm.run("sfdisk --verify /dev/ubda 2>&1 | grep -i 'backup\\|mismatch' || true"), "the second table"
    vm.reboot(timeout=180)
    os_story.check_after(vm, writer)
    assert_grown(vm, before)
    assert story.state(vm, os_story.ROOT)["state"] == "Encrypted"
