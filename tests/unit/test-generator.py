#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmcrypt-generator over made-up roots: which units it wants, and after what it orders them."""
import pathlib
import subprocess
import sys
import tempfile

GENERATOR = pathlib.Path(sys.argv[1])
UUID = "0f8a1c52-6d3e-4b7a-9c61-2e5d7f3b9a10"
DATA = f"vmcrypt-{UUID} UUID={UUID} none luks,noauto,nofail\n"
ROOT = f"vmcrypt-root UUID={UUID} none luks,noauto,nofail,x-initrd.attach\n"
DETACHED_ROOT = f"vmcrypt-root UUID={UUID} none luks,x-initrd.attach,header=/boot/vmcrypt/headers/{UUID}.luks\n"
OTHER = f"vmcrypt-other UUID={UUID} none luks,noauto,nofail,x-initrd.attach\n"
CONF = {"etc/vmcrypt/initramfs.conf": f"ROOT_UUID={UUID}\nMAPPING=vmcrypt-root\n"}
UNLOCK = "local-fs.target.wants/vmcrypt-unlock.service"
NEXT_BOOT = "local-fs.target.wants/vmcrypt-next-boot.service"

# name, files of the root, units that are wanted
ROWS = [
    ("no crypttab", {}, []),
    ("somebody else's volumes", {"etc/crypttab": f"luks-{UUID} UUID={UUID} none luks\n"}, []),
    ("a comment", {"etc/crypttab": f"# {DATA}"}, []),
    ("a data volume", {"etc/crypttab": DATA}, [UNLOCK]),
    ("indented", {"etc/crypttab": f"\t{DATA}"}, [UNLOCK]),
    ("the root alone", {"etc/crypttab": ROOT, **CONF}, []),
    ("the root, its header detached", {"etc/crypttab": DETACHED_ROOT, **CONF}, []),
    ("the root and a data volume", {"etc/crypttab": ROOT + DATA, **CONF}, [UNLOCK]),
    ("another volume of the OS disk", {"etc/crypttab": ROOT + OTHER, **CONF}, [UNLOCK]),
    ("no initramfs opens anything any more", {"etc/crypttab": OTHER}, [UNLOCK]),
    ("in the initramfs", {"etc/crypttab": DATA, "etc/initrd-release": ""}, []),
    ("headers for this boot", {"var/lib/vmcrypt/next-boot/job": "", "etc/fstab": ""}, [NEXT_BOOT]),
]

FSTAB = ("# a comment /z ext4\nUUID=aaaa / ext4 defaults 0 1\nUUID=bbbb /var btrfs subvol=@var 0 2\n"
         "UUID=bbbb /home btrfs subvol=@home 0 2\nUUID=cccc /data ext4 defaults 0 2\n/dev/sdc1 none swap sw 0 0\n"
         "/dev/sdd1 /mnt/my\\040disk xfs defaults 0 0\nLABEL=\"x\" /z ext4 defaults 0 2\n")
# before these, and no others; what /var lies on is needed first
ORDER = ["home.mount", "data.mount", r"systemd-fsck@dev-disk-by\x2duuid-cccc.service", r"mnt-my\x20disk.mount",
         "systemd-fsck@dev-sdd1.service", "z.mount", r"systemd-fsck@dev-disk-by\x2dlabel-x.service"]


def wants(root: pathlib.Path, into: pathlib.Path) -> list[str]:
    subprocess.run([GENERATOR, into, into, into], check=True,
                   env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "VMCRYPT_ROOT": str(root)})
    return sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_symlink())


def main() -> None:
    failed = 0
    for name, files, expected in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            root, into = pathlib.Path(folder, "root"), pathlib.Path(folder, "into")
            into.mkdir()
            for path, text in files.items():
                file = root / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            found = wants(root, into)
        if found != expected:
            print(f"{name}: wants {found}, not {expected}", file=sys.stderr)
            failed += 1
    with tempfile.TemporaryDirectory() as folder:
        root, into = pathlib.Path(folder, "root"), pathlib.Path(folder, "into")
        into.mkdir()
        (root / "var/lib/vmcrypt/next-boot").mkdir(parents=True)
        (root / "var/lib/vmcrypt/next-boot/job").touch()
        (root / "etc").mkdir()
        (root / "etc/fstab").write_text(FSTAB, encoding="utf-8")
        wants(root, into)
        text = (into / "vmcrypt-next-boot.service.d/60-mounts.conf").read_text(encoding="utf-8")
    found = [line.removeprefix("Before=") for line in text.splitlines() if line.startswith("Before=")]
    if found != ORDER:
        print(f"ordered before {found}, not {ORDER}", file=sys.stderr)
        failed += 1
    sys.exit(1 if failed else 0)


main()
