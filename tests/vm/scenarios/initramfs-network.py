# SPDX-License-Identifier: LGPL-2.1-or-later
"""In an initramfs of initramfs-tools the key service answers; the booted system has its network to itself."""

import initramfs

LIMIT = initramfs.LIMIT
ONLY_BY_NAME = True
HOOK = """#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
copy_exec /usr/bin/curl
copy_file file /etc/vmtest-request
"""


def run(rig):
    vm = initramfs.prepare(rig)
    vm.put("/etc/initramfs-tools/hooks/vmtest", HOOK, mode=0o755)
    vm.put("/etc/initramfs-tools/scripts/local-premount/vmtest",
           f'#!/bin/sh\n[ "$1" != prereqs ] || exit 0\n{initramfs.LOOK}', mode=0o755)
    vm.run("update-initramfs -u", timeout=600)
    vm.reboot()
    initramfs.check(vm)
    assert "interface vec0 has the address 10.0.0.4." in vm.run("dmesg")
