# SPDX-License-Identifier: LGPL-2.1-or-later
"""The boot loader: reads kernel arguments and initramfs from the disk that the guest has as /boot.

As GRUB does, it reads the filesystem without replaying its journal: what the guest did not bring to
the disk before a power cut is not there. UML is its own kernel, so vmlinuz is only a name.
"""

import json
import re
import subprocess

from machine import MachineError, parse_size

LABEL, UUID = "boot", "5c4cf1a0-3b1c-4a4e-8d53-0f0c3f8a0b02"


def make_disk(path, size, base_image, root):
    """A /boot as the image's, on a disk of its own; root: kernel arguments that say what the root is."""
    folder = path.parent / "boot"
    _debugfs(base_image, f"rdump /boot {path.parent}")
    config = folder / "grub/grub.cfg"
    text = config.read_text().replace("/boot/", "/")
    config.write_text(re.sub(r"\broot=\S+", root, text))
    with open(path, "wb") as file:
        file.truncate(parse_size(size))
    subprocess.run(["mke2fs", "-qF", "-t", "ext4", "-L", LABEL, "-U", UUID, "-d", folder,
                    "-E", "lazy_itable_init=0,lazy_journal_init=0", path], check=True)


def fstab_line():
    return f"UUID={UUID} /boot ext4 defaults 0 2"


def load_from_disk(path, folder):
    """What to boot from a disk with partitions: from the root's /boot, or from the partition that the root has for it.

    A filesystem that nothing can mount for its superblock's wrong checksum is read nevertheless, as GRUB does.
    """
    text = subprocess.run(["sfdisk", "--json", path], stdout=subprocess.PIPE, check=True).stdout
    table = json.loads(text)["partitiontable"]
    places = [f"{path}?offset={each['start'] * table['sectorsize']}" for each in table["partitions"]]
    for place in places:
        if _has(place, "/boot/grub/grub.cfg"):
            fstab = _debugfs(place, "cat /etc/fstab").decode()
            if not re.search(r"^\S+\s+/boot\s", fstab, re.MULTILINE):
                return load(place, folder, "/boot")
    for place in places:
        if _has(place, "/grub/grub.cfg"):
            return load(place, folder)
    raise MachineError(f"boot loader: no menu on any partition of {path}")


def _has(place, name):
    return subprocess.run(["debugfs", "-c", "-R", f"cat {name}", place], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout != b""


def load(path, folder, prefix=""):
    """What to boot, from the first entry of grub.cfg.

    prefix: of the menu's path; other paths are as the menu says
    folder: where the initramfs is put, for UML to read
    Return: list of words for UML's command line
    """
    config = _debugfs(path, f"cat {prefix}/grub/grub.cfg").decode()
    linux = re.search(r"^\s*linux\s+\S+ (.*)$", config, re.MULTILINE)
    if not linux:
        raise MachineError(f"no kernel in grub.cfg:\n{config}")
    words = linux[1].split()
    initrd = re.search(r"^\s*initrd\s+(\S+)", config, re.MULTILINE)
    if initrd:
        target = folder / "initrd"
        target.unlink(missing_ok=True)
        _debugfs(path, f"dump {initrd[1]} {target}")
        if not target.exists() or not target.stat().st_size:
            raise MachineError(f"boot loader: {initrd[1]} is missing or empty")
        words.append(f"initrd={target}")
    return words


def _debugfs(path, command):
    # -c: opens a filesystem that was not unmounted, without its bitmaps
    return subprocess.run(["debugfs", "-c", "-R", command, path], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=True).stdout
