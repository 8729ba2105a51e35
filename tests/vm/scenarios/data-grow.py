# SPDX-License-Identifier: LGPL-2.1-or-later
"""Data volumes follow larger devices in use: a partition, a logical volume, a disk with a detached header."""

import json

import story

LIMIT = 1200
ONLY_BY_NAME = True
MIB = 1 << 20
SLACK = 8 * MIB  # a last group of ext4 that is too small for its own tables
EXT4 = "dumpe2fs -h {device} 2>/dev/null | awk '/^Block count/ {{n = $3}} /^Block size/ {{print n * $3}}'"
XFS = "xfs_info {target} | awk -F '[ =,]+' '/^data / {{print $3 * $5}}'"


def size(vm, device):
    return int(vm.run(f"blockdev --getsize64 {device}"))


def mapping(uuid):
    return f"/dev/mapper/vmcrypt-{uuid}"


def assert_filesystem(vm, uuid, target, least):
    """The filesystem reaches to the end of its mapping, which has at least this size."""
    assert size(vm, mapping(uuid)) >= least, size(vm, mapping(uuid))
    kind = vm.run(f"findmnt -n -o FSTYPE {target}").strip()
    command = EXT4 if kind == "ext4" else XFS
    filesystem = int(vm.run(command.format(device=mapping(uuid), target=target)))
    assert size(vm, mapping(uuid)) - SLACK < filesystem <= size(vm, mapping(uuid)), (kind, filesystem)
    vm.verify(target)


def grow(vm, *flags, check=True):
    return vm.run(" ".join(["vmcryptctl", "grow", *flags]), check=check, timeout=120)


def add_partition(vm):
    """A disk that asks for encryption sectors of 4096 bytes, with a partition and a gap behind it."""
    vm.run("modprobe scsi_debug dev_size_mb=200 physblk_exp=3 removable=0 && udevadm settle", timeout=90)
    disk = vm.run("lsblk -n -d -o PATH,MODEL | awk '/scsi_debug/ {print $1}'").strip()
    vm.run(f"printf 'label: gpt\\nstart=2048,size=64MiB\\n' | sfdisk -q {disk}; udevadm settle", timeout=60)
    return disk


def grow_to_an_odd_end(vm, disk, uuid):
    """As growpart does: the last 512 bytes too. It has to be unlocked all the same."""
    vm.run(f"umount /part; cryptsetup close vmcrypt-{uuid}; echo ', +' | sfdisk -q -N1 {disk}; udevadm settle",
           timeout=60)
    assert size(vm, f"{disk}1") % 4096 != 0, size(vm, f"{disk}1")
    vm.run("systemctl restart vmcrypt-unlock", timeout=120)
    story.assert_encrypted(vm, uuid, "/part")
    vm.verify("/part")


def run(rig):
    vm = rig.vm(disks={"group": "448M", "whole": "128M"}, memory="1024M")
    vm.boot()
    disk = add_partition(vm)
    vm.run(f"set -e; vgcreate -q group {vm.devices['group']}; lvcreate -q -y -L 336M -n data group; udevadm settle")
    logical = story.volume(vm, "/dev/group/data", "/logical", "xfs", 1, fill=None)
    part = story.volume(vm, f"{disk}1", "/part", "ext4", 2, make=story.MAKE["ext4"] + " -b 4096", fill=None)
    whole = story.volume(vm, vm.devices["whole"], "/whole", "ext4", 3, fill="8M")
    story.enable(vm, "--encrypt-format-all --yes --volume", logical, "--volume", part)
    story.wait_jobs(vm)
    vm.fill("/logical", "8M")
    vm.fill("/part", "8M")
    story.enable(vm, "--detached-header", "--volume", whole)
    refused = grow(vm, check=False)
    assert refused.code == 5, refused
    story.wait_state(vm, [logical, part, whole], "Encrypted")
    story.wait_jobs(vm)

    # a partition takes the gap; a logical volume is left to its administrator
    before = size(vm, "/dev/group/data")
    grow(vm)
    assert size(vm, "/dev/group/data") == before
    assert_filesystem(vm, part, "/part", 150 * MIB)
    assert vm.run(f"cryptsetup status {mapping(part)} | awk '/sector size/ {{print $3}}'").strip() == "4096"
    grow_to_an_odd_end(vm, disk, part)

    # who has given it extents lets mapping and filesystem follow
    vm.run("lvextend -q -L +64M group/data")
    refused = grow(vm, "--volume", "00000000-0000", check=False)
    assert refused.code == 4 and "volume-unknown" in refused.out + refused.err, refused
    grow(vm, "--volume", logical)
    assert_filesystem(vm, logical, "/logical", before + 48 * MIB)

    # a detached header knows its larger disk again, and is told of it
    vm.run("umount /part; cryptsetup close " + mapping(part) + "; sed -i '/vmcrypt.*" + part + "/d' /etc/crypttab; "
           "sed -i '\\:/part:d' /etc/fstab")
    vm.shutdown()
    vm.enlarge_disk("whole", "64M")
    vm.boot()
    story.assert_encrypted(vm, whole, "/whole")
    grow(vm)
    assert_filesystem(vm, whole, "/whole", 192 * MIB)
    tokens = json.loads(vm.run("cryptsetup luksDump --dump-json-metadata /boot/vmcrypt/headers/*.luks"))["tokens"]
    assert [token["device_bytes"] for token in tokens.values()] == [192 * MIB], tokens
    vm.reboot()
    story.assert_encrypted(vm, whole, "/whole")
    assert_filesystem(vm, whole, "/whole", 192 * MIB)
    assert_filesystem(vm, logical, "/logical", before + 48 * MIB)
