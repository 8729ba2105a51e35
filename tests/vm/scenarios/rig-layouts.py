# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rig's root layouts: booted through the guest's own initramfs, and the room that they promise."""

import layout
import stage

LIMIT = 900
ONLY_BY_NAME = True
BOOTED = {
    "btrfs": ("/dev/ubda1[/@]", "btrfs", "/@"),
    "lvm-free": (layout.LV, "ext4", "/"),
}
LOOKED_AT = {"gpt-xfs": "b", "gpt-xfs-rigid": "c", "gpt-ext4": "d", "gpt-ext4-full": "e", "lvm-full": "f"}
LOOK = """
shrink() { # LETTER: xfs, online, by 32 MiB
	mount /dev/ubd${1}1 /mnt || exit
	blocks=$(xfs_info /mnt | sed -n 's/^data .*blocks=\\([0-9]*\\),.*/\\1/p')
	xfs_growfs -D $((blocks - 8192)) /mnt
	status=$?
	umount /mnt
	return $status
}
behind() { # LETTER: MiB behind the partition
	cd /sys/block/ubd$1
	echo $((($(cat size) - $(cat ubd${1}1/start) - $(cat ubd${1}1/size)) / 2048))
}
set -x
shrink b || exit
! shrink c || exit
[ $(behind d) -ge 64 ] || exit
[ $(behind e) -eq 0 ] || exit
mount /dev/ubdd1 /mnt && umount /mnt && mount /dev/ubde1 /mnt || exit
[ $(vgs --noheadings -o vg_free_count) -eq 0 ]
"""


def boots(rig, name, root):
    vm = rig.vm(boot_disk="128M", root=name, memory="512M")
    vm.boot()
    print(f"{name}: up after {vm.boot_seconds:.0f} s")
    assert tuple(vm.run("findmnt -no SOURCE,FSTYPE,FSROOT /").split()) == root
    assert vm.run("findmnt -no SOURCE /boot").strip() == vm.devices["boot"]
    assert vm.failed_units() == [], vm.failed_units()
    vm.run("update-grub")
    for word in layout.LAYOUTS[name].arguments.split():
        assert word in vm.get("/proc/cmdline").split(), vm.get("/proc/cmdline")
        assert word in vm.get("/boot/grub/grub.cfg").split(), vm.get("/boot/grub/grub.cfg")
    if name == "lvm-free":
        assert int(vm.run("vgs --noheadings --units m --nosuffix -o vg_free_count")) * 4 >= 64
    vm.shutdown()


def run(rig):
    for name, root in BOOTED.items():
        boots(rig, name, root)

    bare = rig.bare()
    for name, letter in LOOKED_AT.items():
        path = bare.workdir / f"{name}.img"
        stage.copy(layout.make(name, rig), path)
        bare.add_disk(name, path)
        assert bare.devices[name] == f"/dev/ubd{letter}"
    print(bare.run(LOOK).out)
