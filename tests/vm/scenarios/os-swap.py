# SPDX-License-Identifier: LGPL-2.1-or-later
"""Swap space beside the root: a random key at each boot, nothing of what was swapped out left; and back again."""

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True

UUID = "3f0c9a51-7c1e-4d5b-8a1f-5b7d0e9c2a44"
NAME = "cryptswap_" + UUID.replace("-", "")
# another one was cut off when only fstab was written
HALF_UUID = "8d1c6f10-20e5-4b86-9c3c-0d4f5a9be7d1"
HALF_NAME = "cryptswap_" + HALF_UUID.replace("-", "")
SECRET = "nobody shall read what was swapped out"
MAKE = f"""set -e
printf 'size=64MiB, type=swap\\ntype=swap\\n' | sfdisk -q --label gpt {{disk}}
udevadm settle
printf '{SECRET}' | dd of={{disk}}1 bs=1M seek=40 conv=notrunc status=none
mkswap -q -U {UUID} -L pages {{disk}}1
echo 'LABEL=pages none swap sw,pri=3 0 0' >> /etc/fstab
mkswap -q -U {HALF_UUID} {{disk}}2
echo '/dev/mapper/{HALF_NAME} none swap sw,nofail 0 0' >> /etc/fstab
cp /etc/fstab /root/fstab.before
sync; systemctl daemon-reload; swapon LABEL=pages
"""


def swaps(vm):
    return vm.run("swapon --noheadings --show=NAME").split()


def assert_random_key(vm, disk):
    names = vm.run(f"readlink -f /dev/mapper/{NAME} /dev/mapper/{HALF_NAME}").split()
    assert sorted(swaps(vm)) == sorted(names), swaps(vm)
    for number, name in enumerate((NAME, HALF_NAME), 1):
        assert vm.run(f"dmsetup table {name}").split()[2:4] == ["crypt", "aes-xts-plain64"]
        assert vm.run(f"lsblk -n -o TYPE {disk}{number}").split() == ["part", "crypt"]


def run(rig):
    vm = os_story.prepare(rig, disks={"swap": "96M"})
    disk = vm.devices["swap"]
    vm.run(MAKE.format(disk=disk))
    assert swaps(vm) == [f"{disk}1"]
    assert SECRET.encode() in vm.disks["swap"].read_bytes()
    os_story.encrypt(vm)
    assert_random_key(vm, disk)
    assert SECRET.encode() not in vm.disks["swap"].read_bytes()
    assert not [fault for fault in os_story.faults(vm) if fault["code"].startswith("swap-")]
    table = vm.run(f"dmsetup table --showkeys {NAME}")

    vm.reboot(timeout=180)
    assert_random_key(vm, disk)
    assert vm.run(f"dmsetup table --showkeys {NAME}") != table, "the key of the boot before"

    vm.run("vmcryptctl disable --volume-type OS", timeout=os_story.PREPARED_S)
    story.wait_state(vm, [os_story.ROOT], "NotEncrypted", timeout=900)
    vm.wait_for("vmcryptctl show --json=short | jq -e '.reports[-1].restart'", timeout=300)
    vm.reboot()
    story.wait_jobs(vm, timeout=300)
    assert swaps(vm) == [f"{disk}1"], swaps(vm)
    assert vm.run(f"blkid -o value -s UUID -s LABEL {disk}1").split() == ["pages", UUID]
    assert vm.run(f"blkid -o value -s UUID {disk}2").split() == [HALF_UUID]
    vm.run("cmp /etc/fstab /root/fstab.before")
    assert vm.run("grep -c swap /etc/crypttab || true").strip() in ("", "0")
    vm.verify("/srv")
