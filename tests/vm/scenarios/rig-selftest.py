# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rig itself: a Debian boots, reboots, loses power, and has dm-crypt, LVM, xfs, btrfs."""


def run(rig):
    vm = rig.vm(disks={"data": "512M", "more": "512M"})
    vm.boot()
    print(f"boot {vm.boot_seconds:.1f} s")
    print(vm.run("systemd-analyze; systemd-analyze blame | head -25"))
    print("failed:", vm.failed_units())
    assert vm.run("echo hello").strip() == "hello"
    assert vm.run("echo out; echo err >&2; exit 3", check=False).code == 3
