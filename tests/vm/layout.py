# SPDX-License-Identifier: LGPL-2.1-or-later
"""Root disks other than the plain one: partitions, xfs, btrfs, LVM, with and without room behind the data.

Two stages, as with the base image, each made when a scenario first asks for it and cached beside that: the
filesystem with the content of the base image, and the disk that it is laid on. What takes a kernel is done by a
bare guest; partition tables are written into the file here.
"""

import dataclasses
import pathlib
import shutil
import subprocess

import image

MIB = 1 << 20
SECTOR = 512
TABLE_SECTORS = 33  # the second copy of a GPT, at the end of the disk
FIRST = 1 * MIB     # where the partition begins, as every partitioning tool has it
GAP = 80 * MIB
ODD = 7 * SECTOR    # growpart takes all that there is: no multiple of 4096 bytes
UUID = image.ROOT_UUID
VG = "azure-vg"
LV = f"/dev/mapper/{VG.replace('-', '--')}-root"
LVM_HEAD = 1 * MIB  # before the first extent
XFS_GROUPS, XFS_GROUP_MIB = 4, 168

# Scripts that fill /dev/ubdb. The guest's own root has this UUID too, and mkfs.btrfs would find it.
MAKE = {
    "xfs": f"""mkfs.xfs -q -m uuid={UUID} -d agcount={XFS_GROUPS} /dev/ubdb
mkdir /run/to; mount /dev/ubdb /run/to
tar -C /run/to -xpf /run/share/root.tar""",
    "btrfs": f"""mount -t tmpfs tmpfs /sys/block; mount --bind /dev/null /proc/partitions
BLKID_FILE=/dev/null mkfs.btrfs -q -U {UUID} /dev/ubdb
mkdir /run/to; mount /dev/ubdb /run/to
btrfs -q subvolume create /run/to/@; btrfs -q subvolume create /run/to/@home
tar -C /run/to/@ -xpf /run/share/root.tar""",
}
BYTES = {
    "ext4": image.IMAGE_BYTES,
    "xfs": XFS_GROUPS * XFS_GROUP_MIB * MIB,
    "btrfs": image.IMAGE_BYTES,
}

GROW_XFS = "mkdir /run/to; mount /dev/ubdb1 /run/to; xfs_growfs /run/to > /dev/null"
# it neither zeroes nor wipes what lies there
MAKE_LVM = f"""pvcreate -q /dev/ubdb1; vgcreate -q {VG} /dev/ubdb1
lvcreate -q -y -Z n -W n -L {BYTES['ext4']}b -n root {VG}
pvs --noheadings --units b --nosuffix --segments -o pe_start,pvseg_start,lv_name > /run/segments
read -r start first name < /run/segments
[ "$start $first $name" = "{LVM_HEAD} 0 root" ]"""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a root disk looks.

    filesystem: a key of BYTES
    label: of the partition table, as sfdisk names it
    at: where it begins on the disk; 0 = it is the disk
    partition: bytes of the partition that it lies in
    before: bytes of an empty partition that comes first, or 0
    gap: bytes behind the root's partition
    finish: script of a bare guest that has the disk as /dev/ubdb
    arguments: what the kernel is told of its root
    fstab: lines for it
    boots: /boot is a folder of it, and the boot loader reads it there
    """

    filesystem: str = "ext4"
    label: str = "gpt"
    at: int = FIRST
    partition: int = BYTES["ext4"]
    before: int = 0
    gap: int = 0
    finish: str = ""
    arguments: str = f"root=UUID={UUID}"
    fstab: tuple = (image.FSTAB_LINE,)
    boots: bool = False


def _xfs(more, gap=0):
    return Layout("xfs", partition=BYTES["xfs"] + more, gap=gap, finish=GROW_XFS,
                  fstab=(f"UUID={UUID} / xfs defaults 0 0",))


def _lvm(free):
    return Layout(at=FIRST + LVM_HEAD, partition=LVM_HEAD + BYTES["ext4"] + free, finish=MAKE_LVM,
                  arguments=f"root={LV}", fstab=(image.FSTAB_LINE.replace(f"UUID={UUID}", LV),))


LAYOUTS = {
    "ext4": Layout(at=0),
    "gpt-ext4": Layout(gap=GAP),
    "gpt-ext4-full": Layout(partition=BYTES["ext4"] + ODD),
    # as images are that grow at their first boot: what is in it lies at its beginning
    "gpt-ext4-inside": Layout(partition=2000 * MIB, boots=True),
    "gpt-ext4-inside-gap": Layout(gap=600 * MIB, boots=True),
    "gpt-ext4-inside-second": Layout(at=FIRST + 64 * MIB, before=64 * MIB, partition=2000 * MIB, boots=True),
    "mbr-ext4-inside": Layout(label="dos", partition=2000 * MIB, boots=True),
    # growing has added a group; it is empty and can give way
    "gpt-xfs": _xfs(96 * MIB),
    # growing has added a group; it is smaller than the room that will be asked of it
    "gpt-xfs-rigid": _xfs(24 * MIB + ODD),
    "gpt-xfs-rigid-gap": _xfs(24 * MIB, gap=GAP),
    "btrfs": Layout("btrfs", arguments=f"root=UUID={UUID} rootflags=subvol=@",
                    fstab=(f"UUID={UUID} / btrfs defaults,subvol=@ 0 0",
                           f"UUID={UUID} /home btrfs defaults,subvol=@home 0 0")),
    "lvm-free": _lvm(free=GAP),
    "lvm-full": _lvm(free=0),
}


def make(name, rig):
    """Path of a root disk of this layout; builds it if there is none. Read-only for everybody."""
    layout = LAYOUTS[name]
    return _cached(f"layout-{name}", rig, _make_disk, layout) if layout.at else rig.base_image


def _cached(title, rig, build, *arguments):
    """A file of the cache, made of the base image: build(path, rig, …) is called when it is not there."""
    key = image._digest(rig.base_image.name, pathlib.Path(__file__).read_bytes())
    path = image.cache_directory() / f"{title}-{key}.img"
    with image.locked(title):
        if not path.exists():
            part = path.with_suffix(".part")
            part.unlink(missing_ok=True)
            build(part, rig, *arguments)
            part.chmod(0o444)
            part.rename(path)
            for other in image.cache_directory().glob(f"{title}-{'?' * len(key)}.img"):
                if other != path:
                    other.unlink()
        return rig.hold(path)


def _make_disk(path, rig, layout):
    with open(path, "wb") as file:
        file.truncate(FIRST + layout.before + layout.partition + layout.gap + TABLE_SECTORS * SECTOR)
    lines = [f"label: {layout.label}"]
    if layout.before:
        lines.append(f"start={FIRST // SECTOR}, size={layout.before // SECTOR}, type=linux")
    lines.append(f"start={(FIRST + layout.before) // SECTOR}, size={layout.partition // SECTOR}, type=linux")
    subprocess.run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", path], input="\n".join(lines) + "\n",
                   text=True, check=True)
    filesystem = rig.base_image
    if layout.filesystem in MAKE:
        filesystem = _cached(f"root-{layout.filesystem}", rig, _make_filesystem, layout.filesystem)
    subprocess.run(["dd", f"if={filesystem}", f"of={path}", "bs=64K", "conv=notrunc,sparse",
                    "oflag=seek_bytes", f"seek={layout.at}", "status=none"], check=True)
    if layout.boots:
        _grow_ext4(path, layout)
    if layout.finish:
        _in_guest(layout.finish, path, rig.bare(name=path.stem))


def _grow_ext4(path, layout):
    """resize2fs knows of no offset, and would write over the end of a file that is larger."""
    part = path.with_suffix(".ext4")
    with open(part, "wb") as file:
        file.truncate(layout.partition)
    copy = ["dd", "bs=64K", "conv=notrunc,sparse", "status=none"]
    subprocess.run([*copy, f"if={path}", f"of={part}", "iflag=skip_bytes,count_bytes", f"skip={layout.at}",
                    f"count={BYTES['ext4']}"], check=True)
    subprocess.run(["e2fsck", "-fp", part], stdout=subprocess.DEVNULL, check=True)
    subprocess.run(["resize2fs", part], capture_output=True, check=True)
    subprocess.run([*copy, f"if={part}", f"of={path}", "oflag=seek_bytes", f"seek={layout.at}"], check=True)
    part.unlink()


def _make_filesystem(path, rig, filesystem):
    """Unpacked there from one file: half as much work for the slow processor as copying is."""
    with open(path, "wb") as file:
        file.truncate(BYTES[filesystem])
    bare = rig.bare(name=path.stem)
    tree = bare.workdir / "tree"
    tree.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump / {tree}", rig.base_image], stderr=subprocess.DEVNULL, check=True)
    subprocess.run(["tar", "-C", tree, "-cf", bare.share / "root.tar", "."], check=True)
    shutil.rmtree(tree)
    _in_guest(MAKE[filesystem], path, bare)


def _in_guest(script, path, bare):
    bare.add_disk("root", path)
    bare.run(f"set -e\n{script}\n! mountpoint -q /run/to || umount /run/to", timeout=300)
