# SPDX-License-Identifier: LGPL-2.1-or-later
"""/boot in the root: the first reboot makes a partition for it, cut off at random moments too; the second encrypts.

Each cut begins with the machine as it was before its first reboot. VMCRYPT_CUTS says how many (3), VMCRYPT_SEED repeats
a run.
"""

import os
import random
import time

import os_story
import stage
import story

CUTS = int(os.environ.get("VMCRYPT_CUTS", "3"))
LIMIT = os_story.LIMIT + 240 * CUTS
ONLY_BY_NAME = True
GIVES_WAY = "gives way for a /boot partition"
SHRINK_S = 6  # about so long it takes
MANIFEST = "cd /boot && find . -path ./vmcrypt -prune -o -type f -print0 | sort -z | xargs -0 sha256sum"


def split(vm):
    """Is /boot a partition on the root's disk? Return: its device, or an empty text."""
    device = vm.run("findmnt -n -o SOURCE /boot || true").strip()
    assert device in ("", "/dev/ubda2"), device
    return device


def cuts(vm, chance):
    """The first reboot is cut; then the machine boots by itself, and every file is there."""
    before = vm.workdir / "before.img"
    stage.copy(vm.flat_root, before)
    for _ in range(CUTS):
        stage.copy(before, vm.flat_root)
        vm.boot(wait=None)
        vm.wait_console(GIVES_WAY, 120)
        moment = chance.uniform(0, SHRINK_S)
        time.sleep(moment)
        vm.power_cut()
        vm.boot(wait="agent", timeout=400)
        vm.verify("/srv")
        vm.wait_for("[ -b /dev/ubda2 ]", timeout=60)
        print(f"note: cut {moment:.1f} s after it began; it booted by itself")
        vm.power_cut()
    stage.copy(before, vm.flat_root)
    before.unlink()


def run(rig):
    seed = int(os.environ.get("VMCRYPT_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"note: seed {seed}, {CUTS} cuts")
    vm = rig.vm(root="gpt-ext4-inside", memory="1024M")
    vm.boot()
    assert split(vm) == ""
    vm.fill("/srv", "24M")
    content = dict(line.split(maxsplit=1)[::-1] for line in vm.run(MANIFEST).splitlines())
    size = int(vm.run("blockdev --getsize64 /dev/ubda1"))

    os_story.enable(vm, "--key-encryption-key", story.KEK)
    os_story.assert_pending(vm)
    assert "boot-split-waits" in [fault["code"] for fault in os_story.faults(vm)], os_story.faults(vm)
    assert split(vm) == ""
    vm.shutdown()
    cuts(vm, random.Random(seed))

    began = time.monotonic()
    vm.boot()
    print(f"note: the boot that makes room took {time.monotonic() - began:.0f} s")
    vm.verify("/srv")
    vm.wait_for("test -e /boot/vmcrypt/next-boot/*", timeout=os_story.PREPARED_S)
    os_story.assert_pending(vm)
    assert split(vm)
    now = dict(line.split(maxsplit=1)[::-1] for line in vm.run(MANIFEST).splitlines())
    remade = ("./initrd.img", "./grub/grub.cfg")
    assert {name for name in content if now.get(name) != content[name]} <= {
        name for name in content if name.startswith(remade)}, (content, now)
    assert int(vm.run("blockdev --getsize64 /dev/ubda1")) <= size - (512 << 20)
    assert "/dev/mapper" not in vm.run("findmnt -n -o SOURCE /")
    assert " /boot ext4 " in vm.get("/etc/fstab"), vm.get("/etc/fstab")

    vm.reboot()
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    assert story.show(vm)["os"] == "Encrypted"
    vm.verify("/srv")
    vm.reboot(timeout=180)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
    assert vm.failed_units() == [], vm.failed_units()
