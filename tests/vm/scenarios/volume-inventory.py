# SPDX-License-Identifier: LGPL-2.1-or-later
"""Volumes on a real kernel: what each is for, where there is room, who keeps it busy, unmount and mount."""

import json
import pathlib

INSPECT = "/root/volume-inspect"
MIB = 1 << 20
ROOM = 32 * MIB
LIMIT = 600


class Inspect:
    """tests/disk/volume-inspect in the guest"""

    def __init__(self, vm):
        self.vm = vm

    def __call__(self, *words):
        return json.loads(self.vm.run(" ".join([INSPECT, *(f"'{word}'" for word in words)])))

    def ok(self, *words):
        answer = self(*words)
        assert answer["result"] == 0, (words, answer)
        return answer

    def list(self):
        return {volume["device"]: volume for volume in self.ok("list")["volumes"]}


def prepare(vm):
    """Every kind of disk that the inventory has to tell apart."""
    vm.run("""
        set -e
        mkdir -p /data/{gap,grown,xfs,lv,full,btrfs,home,bound,md,four,tight}
        # GPT: a gap behind the first partition, none behind the second, one behind the last
        printf 'label: gpt\nstart=1M,size=100M,name=first\nstart=200M,size=150M\nstart=350M,size=100M\n' |
            sfdisk -q /dev/ubdb
        udevadm settle
        mkfs.ext4 -q -L gap -U 11111111-1111-4111-8111-111111111111 /dev/ubdb1
        mkfs.ext4 -q -b 1024 /dev/ubdb2
        mkfs.ext4 -q /dev/ubdb3
        mkfs.xfs -q /dev/ubdc
        # LVM: free extents in one group, none in the other
        pvcreate -q /dev/ubdd >/dev/null
        vgcreate -q roomy /dev/ubdd >/dev/null
        lvcreate -q -L 200M -n lv roomy >/dev/null
        mkfs.ext4 -q /dev/roomy/lv
        mkfs.btrfs -q /dev/ubde >/dev/null
        mount /dev/ubde /mnt
        btrfs -q subvolume create /mnt/@
        btrfs -q subvolume create /mnt/@home
        mkdir /mnt/@/folder
        umount /mnt
        # swap, the key volume, md, a full group
        printf 'label: gpt\nstart=1M,size=64M,type=swap\nsize=48M,type=linux\nsize=120M\nsize=120M\nsize=200M,type=lvm\nsize=64M,type=uefi\n' |
            sfdisk -q /dev/ubdf
        udevadm settle
        mkswap -q /dev/ubdf1
        swapon /dev/ubdf1
        mkfs.vfat -n 'BEK VOLUME' /dev/ubdf2 >/dev/null
        mkfs.vfat /dev/ubdf6 >/dev/null
        pvcreate -q /dev/ubdf5 >/dev/null
        vgcreate -q tight /dev/ubdf5 >/dev/null
        lvcreate -q -l 100%FREE -n lv tight >/dev/null
        mkfs.ext4 -q /dev/tight/lv
        mkfs.ext4 -q /dev/ubdg
        blockdev --setro /dev/ubdg
        udevadm settle
        mount /dev/ubdb1 /data/gap
        mount /dev/ubdb2 /data/tight
        mount /dev/ubdb3 /data/grown
        mount -o noatime /dev/ubdc /data/xfs
        mount /dev/roomy/lv /data/lv
        mount /dev/tight/lv /data/full
        mount -o subvol=@ /dev/ubde /data/btrfs
        mount -o subvol=@home /dev/ubde /data/home
        mount --bind /data/btrfs/folder /data/bound
        echo 'UUID=11111111-1111-4111-8111-111111111111 /data/gap ext4 defaults,nofail 0 2' >>/etc/fstab
    """, timeout=120)


def check_roles(vm, inspect):
    volumes = inspect.list()
    for device, role, kind, excuse in (
            ("/dev/ubda", "os", "disk", "other-type"),
            ("/dev/ubdb", "container", "disk", "container"),
            ("/dev/ubdb1", "data", "partition", "none"),
            ("/dev/ubdb2", "data", "partition", "none"),
            ("/dev/ubdc", "data", "disk", "none"),
            ("/dev/ubdd", "container", "disk", "container"),
            ("/dev/mapper/roomy-lv", "data", "lvm", "none"),
            ("/dev/ubde", "data", "disk", "none"),
            ("/dev/ubdf1", "swap", "partition", "swap"),
            ("/dev/ubdf2", "bek", "partition", "bek"),
            ("/dev/ubdf3", "data", "partition", "no-filesystem"),
            ("/dev/ubdf5", "container", "partition", "container"),
            ("/dev/ubdf6", "boot", "partition", "boot"),
            ("/dev/ubdg", "data", "disk", "read-only")):
        volume = volumes[device]
        found = (volume["role"], volume["kind"], volume["excuse"])
        assert found == (role, kind, excuse), (device, found)
    assert volumes["/dev/ubda"]["excuse_all"] == "none"
    assert volumes["/dev/ubdc"]["lun"] == "lun1", volumes["/dev/ubdc"]
    assert volumes["/dev/ubdc"]["link"] == "/dev/disk/azure/scsi1/lun1"
    assert volumes["/dev/ubdb1"]["link"].startswith("/dev/disk/by-partuuid/")
    assert volumes["/dev/mapper/roomy-lv"]["link"].startswith("/dev/disk/by-id/dm-uuid-LVM-")
    assert volumes["/dev/ubdb1"]["fstab"] and not volumes["/dev/ubdb2"]["fstab"]
    assert volumes["/dev/ubdf1"]["swap_active"]
    assert volumes["/dev/ubdb2"]["filesystem_block"] == 1024
    assert volumes["/dev/ubdc"]["filesystem_block"] == 512
    assert volumes["/dev/ubde"]["filesystem_block"] == 4096
    assert volumes["/dev/ubde"]["mounts"] == ["/data/btrfs", "/data/home", "/data/bound"]


def check_room(vm, inspect):
    for device, way in (("/dev/ubdb1", "partition"), ("/dev/ubdb2", "filesystem"),
                        ("/dev/ubdb3", "partition"), ("/dev/ubdc", "filesystem"),
                        ("/dev/roomy/lv", "extents"), ("/dev/tight/lv", "filesystem"),
                        ("/dev/ubde", "filesystem")):
        answer = inspect.ok("room", device)
        assert answer["way"] == way, (device, answer)
    before = vm.run("sfdisk -d /dev/ubdb")
    for device in ("/dev/ubdb1", "/dev/ubdb3", "/dev/ubdc", "/dev/roomy/lv", "/dev/ubde"):
        inspect.ok("make-room", device)  # mounted
        inspect.ok("make-room", device)
        assert inspect.ok("room", device)["way"] == "is-there", device
        volume = inspect.list()[vm.run(f"readlink -f {device}").strip()
                                if "roomy" not in device else "/dev/mapper/roomy-lv"]
        assert ROOM <= volume["size_bytes"] - volume["filesystem_bytes"] < ROOM + 8 * MIB, volume
    # only the ends of two partitions have moved
    strip = lambda text: [" ".join(word for word in line.split() if not word[:-1].isdigit())
                          for line in text.splitlines()]
    after = vm.run("udevadm settle; sfdisk -V /dev/ubdb >&2; sfdisk -d /dev/ubdb")
    assert before != after and strip(before) == strip(after), (before, after)
    # ext gives way unmounted only
    for device in ("/dev/ubdb2", "/dev/tight/lv"):
        assert inspect("make-room", device)["result"] == 3
        vm.run(f"umount {device}")
        inspect.ok("check", device)
        inspect.ok("make-room", device)
        inspect.ok("make-room", device)
        vm.run(f"e2fsck -fn {device}")
        assert inspect.ok("room", device)["way"] == "is-there", device
    vm.run("mount /dev/ubdb2 /data/tight && mount /dev/tight/lv /data/full")
    # and everything grows back, mounted
    for device in ("/dev/ubdb1", "/dev/ubdb2", "/dev/ubdc", "/dev/roomy/lv", "/dev/ubde"):
        inspect.ok("grow", device)
        assert inspect.ok("room", device)["way"] != "is-there", device


def check_grown_disk(vm, inspect):
    """The cloud has made a disk larger: GPT's second header is not at its end any more."""
    vm.run("""
        set -e
        modprobe brd rd_nr=0 2>/dev/null || true
        truncate -s 200M /root/disk.img
        printf 'label: gpt\nstart=1M\n' | sfdisk -q /root/disk.img
        truncate -s 300M /root/disk.img
        losetup -P /dev/loop6 /root/disk.img
        udevadm settle
        mkfs.ext4 -q /dev/loop6p1
        mount /dev/loop6p1 /data/grown/ -o X-mount.mkdir
    """)
    assert inspect.ok("room", "/dev/loop6p1")["way"] == "partition"
    inspect.ok("make-room", "/dev/loop6p1")
    vm.run("udevadm settle; sfdisk -V /dev/loop6; sfdisk -d /dev/loop6 | grep 'last-lba: 614366'")
    vm.run("umount /dev/loop6p1; losetup -d /dev/loop6")
    # MBR: primary partitions only, flags stay
    vm.run("""
        set -e
        printf 'label: dos\nstart=1M,size=50M,bootable,type=83\nstart=200M,size=90M,type=5\nstart=201M,size=30M\n' |
            sfdisk -q /root/disk.img
        losetup -P /dev/loop6 /root/disk.img
        udevadm settle
        mkfs.ext4 -q /dev/loop6p1; mkfs.ext4 -q /dev/loop6p5
    """)
    assert inspect.ok("room", "/dev/loop6p1")["way"] == "partition"
    assert inspect.ok("room", "/dev/loop6p5")["way"] != "partition"
    inspect.ok("make-room", "/dev/loop6p1")
    vm.run("udevadm settle; sfdisk -d /dev/loop6 | grep 'type=83, bootable'; losetup -d /dev/loop6")


def check_mounts(vm, inspect):
    table = "findmnt -rno TARGET,FSROOT,OPTIONS,PROPAGATION | grep /data/ | sort"
    before = vm.run(table)
    for device in ("/dev/ubdb1", "/dev/ubdc", "/dev/ubde", "/dev/roomy/lv"):
        inspect.ok("remount", device)
    assert vm.run(table) == before, (before, vm.run(table))

    # busy: everyone is named, and all mounts are back
    vm.run("cp /bin/sleep /data/btrfs/nap; truncate -s 1M /data/home/image; mkdir /data/home/below")
    vm.run("losetup /dev/loop5 /data/home/image; mount -t tmpfs below /data/home/below")
    pids = [vm.spawn(command) for command in (
        "cd /data/home && exec sleep 1000", "exec /data/btrfs/nap 1000",
        "exec 5>/data/btrfs/folder/open; exec tail -f /dev/null")]
    vm.wait_for("test $(pgrep -xc 'nap|tail|sleep') -ge 3")
    before = vm.run(table)
    assert inspect("unmount", "/dev/ubde")["result"] == 3
    assert vm.run(table) == before, (before, vm.run(table))
    holders = {(holder["name"], holder["what"]) for holder in inspect.ok("holders", "/dev/ubde")["holders"]}
    for expected in (("sleep", "working folder /data/home"), ("nap", "program /data/btrfs/nap"),
                     ("tail", "open file /data/btrfs/folder/open"),
                     ("loop5", "loop device over /data/home/image"),
                     ("mount", "mounted below: /data/home/below")):
        assert expected in holders, (expected, holders)
    vm.run(f"kill {' '.join(map(str, pids))}; umount /data/home/below; losetup -d /dev/loop5")
    vm.wait_for("! fuser -m /data/btrfs")
    inspect.ok("unmount", "/dev/ubde")

    # mounted in a namespace that does not follow ours: not free, and said so
    pid = vm.spawn("exec unshare -m --propagation private sleep 2000")
    vm.wait_for(f"grep -q sleep /proc/{pid}/comm")
    assert inspect("unmount", "/dev/ubdc")["result"] == 3
    assert vm.run("findmnt -no TARGET /dev/ubdc").strip() == "/data/xfs"
    what = [holder["what"] for holder in inspect.ok("holders", "/dev/ubdc")["holders"]]
    assert what == ["own mount on /data/xfs"], what
    vm.run(f"kill {pid}")
    vm.wait_for(f"! test -e /proc/{pid}/ns/mnt")
    inspect.ok("unmount", "/dev/ubdc")


def check_formats(vm, inspect):
    uuid = "22222222-2222-4222-8222-222222222222"
    for filesystem in ("ext4", "ext2", "xfs", "btrfs", "btrfs"):
        inspect.ok("format", "/dev/ubdc", filesystem, uuid, "a label")
        vm.run("udevadm settle")
        volume = inspect.list()["/dev/ubdc"]
        assert (volume["filesystem"], volume["uuid"], volume["label"]) == (filesystem, uuid, "a label")
        assert not volume["other_signatures"]
        inspect.ok("check", "/dev/ubdc")
    # noted errors are a person's to repair
    vm.run("umount /dev/ubdb2; debugfs -w -R 'ssv error_count 3' /dev/ubdb2 2>/dev/null")
    assert inspect("check", "/dev/ubdb2")["result"] == 1
    # several devices
    vm.run("mkfs.btrfs -q -f /dev/ubdf3 /dev/ubdf4 >/dev/null; mount /dev/ubdf3 /data/md; udevadm settle")
    volumes = inspect.list()
    for device in ("/dev/ubdf3", "/dev/ubdf4"):
        assert volumes[device]["excuse"] == "several-devices", volumes[device]
        assert volumes[device]["mounts"] == ["/data/md"], volumes[device]
    # arrays: the array is the volume, its members are not
    vm.run("umount /data/md; wipefs -qa /dev/ubdf3 /dev/ubdf4; modprobe raid1; "
           "mdadm --create /dev/md0 --run --level=1 --raid-devices=2 /dev/ubdf3 /dev/ubdf4 2>/dev/null; "
           "mkfs.ext4 -q /dev/md0 && mount /dev/md0 /data/md; udevadm settle", timeout=120)
    volumes = inspect.list()
    assert volumes["/dev/ubdf3"]["role"] == "container"
    assert (volumes["/dev/md0"]["kind"], volumes["/dev/md0"]["excuse"]) == ("md", "none"), volumes["/dev/md0"]
    vm.run("umount /data/md; mdadm --stop /dev/md0 2>/dev/null")
    # encrypted, and what lies on a mapping
    vm.run("echo secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/ubdc -; "
           "udevadm settle")
    assert inspect.list()["/dev/ubdc"]["excuse"] == "encrypted"
    vm.run("set -e; echo secret | cryptsetup open --key-file - /dev/ubdc opened; mkfs.ext4 -q /dev/mapper/opened; "
           "mount /dev/mapper/opened /data/four; udevadm settle")
    volumes = inspect.list()
    assert volumes["/dev/ubdc"]["role"] == "container"
    opened = volumes["/dev/mapper/opened"]
    assert (opened["kind"], opened["excuse"], opened["parents"]) == ("crypt", "encrypted", ["ubdc"]), opened
    vm.run("umount /data/four; cryptsetup close opened")


def check_large_sectors(vm, inspect):
    """4096-byte sectors, and reads that fail: the inventory goes on."""
    vm.run("modprobe scsi_debug sector_size=4096 dev_size_mb=512 && udevadm settle", timeout=90)
    disk = vm.run("lsblk -ndo NAME,MODEL | awk '/scsi_debug/ {print \"/dev/\" $1}'").strip()
    vm.run(f"mkfs.xfs -q {disk}; mount {disk} /data/four; udevadm settle")
    volume = inspect.list()[disk]
    assert (volume["logical"], volume["filesystem_block"]) == (4096, 4096), volume
    assert inspect.ok("room", disk)["way"] == "filesystem"
    inspect.ok("make-room", disk)
    assert inspect.ok("room", disk)["way"] == "is-there"
    vm.run(f"umount {disk}; printf 'label: gpt\nsize=100M\n' | sfdisk -q -w always {disk}; "
           f"udevadm settle; mkfs.ext4 -q {disk}1; mount {disk}1 /data/four")
    assert inspect.ok("room", f"{disk}1")["way"] == "partition"
    inspect.ok("make-room", f"{disk}1")
    assert inspect.ok("room", f"{disk}1")["way"] == "is-there"
    vm.run(f"sfdisk -V {disk}; umount {disk}1; echo 1 >/sys/bus/pseudo/drivers/scsi_debug/every_nth; "
           "echo 2 >/sys/bus/pseudo/drivers/scsi_debug/opts; echo 3 >/proc/sys/vm/drop_caches")
    assert "/dev/ubdb1" in inspect.list()


def run(rig):
    vm = rig.vm(disks={"gpt": "512M", "whole": "512M", "lvm": "512M", "btrfs": "512M", "mixed": "768M",
                       "readonly": "64M"})
    vm.boot()
    binary = pathlib.Path(rig.product_tar).parent / "build" / "tests" / "disk" / "volume-inspect"
    vm.put(INSPECT, binary.read_bytes(), mode=0o755)
    inspect = Inspect(vm)
    prepare(vm)
    check_roles(vm, inspect)
    check_room(vm, inspect)
    check_mounts(vm, inspect)
    check_formats(vm, inspect)
    check_grown_disk(vm, inspect)
    check_large_sectors(vm, inspect)
