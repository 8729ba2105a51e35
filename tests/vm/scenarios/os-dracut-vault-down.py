# SPDX-License-Identifier: LGPL-2.1-or-later
"""No vault, with dracut's initramfs: the first boot leaves all as it was, a later one asks for the recovery key; and the way back."""

import time

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True
UNANSWERED = r"Key vault \S+ cannot be reached.*; trying again"
# systemd's agents find no terminal behind this kernel's tty0, which has no "active" in /sys; a serial console has a name
SERIAL = ("ssl1=fd:0,fd:1", "console=ttyS1")
SHELLS = ("Entering emergency mode", "emergency shell", "Press Enter for maintenance", "sh-5")


def assert_no_shell(vm):
    said = vm.printed()
    assert not [words for words in SHELLS if words in said], said[-2000:]


def assert_network_is_its_own(vm):
    """What the initramfs had set up is gone: the network is the booted system's."""
    assert vm.run("ip -4 -o address show dev vec0 | wc -l").strip() == "1"
    assert "dynamic" in vm.run("ip -4 address show dev vec0")
    assert vm.run("networkctl --no-legend list vec0").split()[3:] == ["routable", "configured"]


def first_boot(rig, vm):
    rig.cloud.stop("vault")
    vm.reboot(timeout=300)
    assert_no_shell(vm)
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda"
    vm.verify("/srv")
    os_story.assert_pending(vm)
    vm.wait_for("vmcryptctl show --json=short | jq -e '[.reports[].faults[].code] | index(\"not-at-boot\")'", timeout=60)
    said = [fault for fault in os_story.faults(vm) if fault["code"] == "not-at-boot"]
    assert "vault" in said[0]["what"] and said[0]["remedy"], said
    assert_network_is_its_own(vm)
    rig.cloud.start("vault")


def boot_with_recovery_key(rig, vm, key):
    rig.cloud.stop("vault")
    vm.boot(wait=None, arguments=SERIAL)
    vm.wait_console(r"attempt 2: .*" + UNANSWERED, 240)
    vm.type("\n")
    vm.wait_console(r"Recovery key of volume", 60)
    # it tries on, and says nothing twice to who is typing
    before = vm.printed().count("attempt ")
    time.sleep(45)
    assert vm.printed().count("attempt ") == before, vm.printed()[-2000:]
    vm.type(key[:-1] + ("0" if key[-1] != "0" else "1") + "\n")
    vm.wait_console(r"\(group 8 has a typing mistake\)", 60)
    vm.type(key + "\n")
    vm.wait_agent(300)
    vm.wait_up()
    assert_no_shell(vm)
    assert key not in vm.console(), "the key was echoed"
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
    assert_network_is_its_own(vm)
    assert vm.failed_units() == [], vm.failed_units()


def boot_when_it_is_back(rig, vm):
    vm.shutdown()
    vm.boot(wait=None)
    vm.wait_console(r"attempt 2: .*" + UNANSWERED, 240)
    rig.cloud.start("vault")
    vm.wait_agent(300)
    vm.wait_up()
    assert_no_shell(vm)
    os_story.assert_root_encrypted(vm)


def run(rig):
    vm = os_story.prepare(rig)
    os_story.use_dracut(vm)
    os_story.enable(vm, "--key-encryption-key", story.KEK, "--recovery-key-fd=9", "9>/srv/recovery-key",
                    timeout=os_story.DRACUT_PREPARED_S)
    key = vm.get("/srv/recovery-key").strip()
    vm.run("rm /srv/recovery-key")
    os_story.assert_pending(vm)

    first_boot(rig, vm)
    vm.reboot(timeout=300)
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    vm.shutdown()
    boot_with_recovery_key(rig, vm, key)
    boot_when_it_is_back(rig, vm)

    vm.run("vmcryptctl disable --volume-type OS", timeout=os_story.DRACUT_PREPARED_S)
    story.wait_state(vm, [os_story.ROOT], "NotEncrypted", timeout=900)
    vm.wait_for("vmcryptctl show --json=short | jq -e '.reports[-1].restart'", timeout=300)
    vm.reboot(timeout=300)
    story.wait_jobs(vm, timeout=os_story.DRACUT_PREPARED_S)
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda"
    vm.verify("/srv")
    vm.reboot(timeout=300)
    vm.verify("/srv")
    assert story.show(vm)["os"] == "NotEncrypted"
    assert vm.failed_units() == [], vm.failed_units()
