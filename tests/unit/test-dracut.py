#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""dracut's module, keep_others_off(): what the module for LUKS says in an image of volumes of ours goes away."""
import os
import pathlib
import subprocess
import sys
import tempfile

MODULE = pathlib.Path(sys.argv[1])
ROOT = "0f8a1c52-6d3e-4b7a-9c61-2e5d7f3b9a10"
USR = "1c2d3e4f-6d3e-4b7a-9c61-2e5d7f3b9a11"
OTHER = "9b8c7d6e-6d3e-4b7a-9c61-2e5d7f3b9a12"
# what blkid says of the devices that crypttab names
BLKID = f"""#!/bin/sh
case $5 in
/dev/disk/by-partuuid/usr) echo {USR} ;;
*) exit 2 ;;
esac
"""
CALL = """
set -u
dracutsysrootdir=$1 initdir=$2
. "$3"
keep_others_off "$4"
"""

# name, HEADER_UUID, crypttab of the system, of the image, arguments in the image: before and after
ROWS = [
    ("encrypted", ROOT, f"vmcrypt-a UUID={ROOT} none luks\n", "",
     f" rd.luks.uuid=luks-{ROOT}\n", " \n"),
    ("decrypted: crypttab names the device", ROOT, "vmcrypt-a /dev/disk/by-partuuid/root none luks,header=/h\n", "",
     f" rd.luks.uuid=luks-{ROOT} rd.luks.uuid=luks-{OTHER}\n", f"  rd.luks.uuid=luks-{OTHER}\n"),
    ("another OS volume is decrypted", ROOT, "vmcrypt-b /dev/disk/by-partuuid/usr none luks,header=/h\n", "",
     f" rd.luks.uuid=luks-{USR} rd.luks.uuid=luks-{ROOT} ro\n", "   ro\n"),
    ("no prefix, in capitals", ROOT, "", "",
     f"rd.luks.uuid={ROOT.upper()} ro\n", " ro\n"),
    ("no header is known", "", "vmcrypt-c /dev/gone none luks\n", "",
     f"rd.luks.uuid=luks-{OTHER}\n", f"rd.luks.uuid=luks-{OTHER}\n"),
    ("somebody else's", ROOT, f"luks-{OTHER} UUID={OTHER} none luks\n", f"luks-{OTHER} UUID={OTHER} none luks\n",
     f"rd.luks.uuid=luks-{OTHER}\n", f"rd.luks.uuid=luks-{OTHER}\n"),
    ("no crypttab", ROOT, None, None, f"rd.luks.uuid=luks-{ROOT}\n", "\n"),
    ("no arguments", ROOT, "", "", None, None),
]


def keep_off(folder: pathlib.Path, row: tuple) -> tuple[str | None, str | None]:
    _, uuid, system, image, before, _ = row
    root, into, tools = folder / "root", folder / "image", folder / "tools"
    files = {root / "etc/crypttab": system, into / "etc/cmdline.d/90crypt.conf": before,
             into / "etc/crypttab": None if image is None else f"vmcrypt-a /dev/sda none luks\n{image}",
             tools / "blkid": BLKID}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text, encoding="utf-8")
    (tools / "blkid").chmod(0o755)
    subprocess.run(["bash", "-c", CALL, "bash", root, into, MODULE, uuid], check=True,
                   env={"PATH": f"{tools}:{os.environ['PATH']}"})
    return tuple(path.read_text(encoding="utf-8") if path.exists() else None
                 for path in (into / "etc/crypttab", into / "etc/cmdline.d/90crypt.conf"))


def main() -> None:
    failed = 0
    for row in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            found = keep_off(pathlib.Path(folder), row)
        if found != (row[3], row[5]):
            print(f"{row[0]}: {found}, not {(row[3], row[5])}", file=sys.stderr)
            failed += 1
    sys.exit(1 if failed else 0)


main()
