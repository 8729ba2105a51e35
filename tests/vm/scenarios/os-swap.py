# SPDX-License-Identifier: LGPL-2.1-or-later
"""Swap space on the OS disk and on another: a random key at each boot, nothing of what was swapped out left; and back again."""

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
# the one lies behind the root on the OS disk, with room for a header between them
SWAP_MIB = 40
MAKE = f"""set -e
end=$(($(blockdev --getsz /dev/ubda) / 2048 - 1))
echo "start=$((end - {SWAP_MIB}))MiB, size={SWAP_MIB}MiB, type=swap" | sfdisk -q --append --no-reread --force /dev/ubda
partx --add --nr 2 /dev/ubda
printf 'type=swap\\n' | sfdisk -q --label gpt {{disk}}
udevadm settle
printf '{SECRET}' | dd of=/dev/ubda2 bs=1M seek=30 conv=notrunc status=none
mkswap -q -U {UUID} -L pages /dev/ubda2
echo 'LABEL=pages none swap sw,pri=3 0 0' >> /etc/fstab
mkswap -q -U {HALF_UUID} {{disk}}1
echo '/dev/mapper/{HALF_NAME} none swap sw,nofail 0 0' >> /etc/fstab
cp /etc/fstab /root/fstab.before
sync; systemctl daemon-reload; swapon LABEL=pages
"""


def has_secret(vm):
    """Where the swap space of the OS disk lies, whatever is above it."""
    start = int(vm.run("cat /sys/class/block/ubda2/start")) * 512
    with open(vm.flat_root, "rb") as disk:
        disk.seek(start)
        return SECRET.encode() in disk.read(SWAP_MIB << 20)


def swaps(vm):
    return vm.run("swapon --noheadings --show=NAME").split()


def assert_random_key(vm, devices):
    names = vm.run(f"readlink -f /dev/mapper/{NAME} /dev/mapper/{HALF_NAME}").split()
    assert sorted(swaps(vm)) == sorted(names), swaps(vm)
    for device, name in zip(devices, (NAME, HALF_NAME)):
        assert vm.run(f"dmsetup table {name}").split()[2:4] == ["crypt", "aes-xts-plain64"]
        assert vm.run(f"lsblk -n -o TYPE {device}").split() == ["part", "crypt"]


def run(rig):
    vm = os_story.prepare(rig, root="gpt-ext4", disks={"swap": "32M"})
    disk = vm.devices["swap"]
    devices = ["/dev/ubda2", f"{disk}1"]
    vm.run(MAKE.format(disk=disk))
    assert swaps(vm) == devices[:1]
    assert has_secret(vm)
    os_story.encrypt(vm)
    assert_random_key(vm, devices)
    assert not has_secret(vm)
    assert not [fault for fault in os_story.faults(vm) if fault["code"].startswith("swap-")]
    table = vm.run(f"dmsetup table --showkeys {NAME}")

    vm.reboot(timeout=180)
    assert_random_key(vm, devices)
    assert vm.run(f"dmsetup table --showkeys {NAME}") != table, "the key of the boot before"

    vm.run("vmcryptctl disable --volume-type OS", timeout=os_story.PREPARED_S)
    story.wait_state(vm, [os_story.ROOT], "NotEncrypted", timeout=900)
    vm.wait_for("vmcryptctl show --json=short | jq -e '.reports[-1].restart'", timeout=300)
    vm.reboot()
    story.wait_jobs(vm, timeout=300)
    assert swaps(vm) == devices[:1], swaps(vm)
    assert vm.run(f"blkid -o value -s UUID -s LABEL {devices[0]}").split() == ["pages", UUID]
    assert vm.run(f"blkid -o value -s UUID {devices[1]}").split() == [HALF_UUID]
    vm.run("cmp /etc/fstab /root/fstab.before")
    assert vm.run("grep -c swap /etc/crypttab || true").strip() in ("", "0")
    vm.verify("/srv")
