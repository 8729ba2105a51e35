# SPDX-License-Identifier: LGPL-2.1-or-later
"""What cannot be done with a root is refused before anything is changed: all reasons at once, each with its remedy."""

import story

LIMIT = 1500
ONLY_BY_NAME = True
# /boot in the root as an installer leaves it, seen from the running system
INSIDE = ("cp -a /boot /boot.inside; umount /boot; rmdir /boot; mv /boot.inside /boot; sed -i '\\, /boot ,d' /etc/fstab; "
          "systemctl daemon-reload")
# the only room that there is lies at the end, and what is made there stays
FOLDER_AT_END = """echo 0 > /sys/fs/ext4/ubda1/reserved_clusters
cd /srv; n=0
while fallocate -l 16M fill-$n 2> /dev/null; do n=$((n + 1)); done
cat /dev/zero > rest 2> /dev/null; sync
last=$(for file in fill-*; do
	echo $(filefrag -b1048576 -v $file | awk '/^ *0:/ { gsub(/[.:]/, " "); print $4 }') $file
done | sort -n | tail -n 1)
rm ${last#* }; sync
mkdir /boot/late; cp /etc/hostname /boot/late; sync
rm fill-* rest; sync"""
# three small ones before it
FILL_TABLE = """
import struct
with open('/dev/ubda', 'r+b') as disk:
    disk.seek(446 + 16)
    for start in 64, 128, 192:
        disk.write(struct.pack('<B3xB3xII', 0, 0x83, start, 8))
"""
# what a job would change
STATE = ("sha256sum /etc/fstab /etc/default/grub; ls -l /boot/initrd.img-* /boot/grub/grub.cfg; lsblk -rnbo NAME,SIZE;"
         "find /etc/crypttab /etc/vmcrypt/initramfs.conf /etc/vmcrypt/split.conf /boot/vmcrypt -type f 2>/dev/null; true")


def assert_refused(vm, *codes, volume_type="OS", words="", keys=("--disk-encryption-keyvault", story.VAULT)):
    """Each code is said, at once, and with a remedy."""
    before = vm.run(STATE)
    for kind in ("check", "enable"):
        result = vm.run(f"vmcryptctl {kind} --json=short --volume-type {volume_type} {' '.join(keys)}",
                        check=False, timeout=300)
        said = result.out + result.err
        assert result.code == 4, (kind, codes, result)
        assert all(code in said for code in codes) and words in said and "remedy" in said, (kind, codes, said)
    assert vm.run(STATE) == before, (codes, before)
    assert story.show(vm)["os"] == "NotEncrypted", story.show(vm)


def refuse_machine(rig):
    """What speaks against it whatever the layout is."""
    vm = rig.vm(boot_disk="384M", memory="1024M", disks={"usr": "64M", "one": "128M", "two": "128M"})
    vm.boot()
    device = vm.devices["usr"]
    vm.run(f"mkfs.ext4 -q {device}; echo \"UUID=$(blkid -s UUID -o value {device}) /usr ext4 noauto 0 0\" >> /etc/fstab")
    one, two = vm.devices["one"], vm.devices["two"]
    vm.run(f"mkfs.btrfs -q -d single {one} {two}; mkdir /data; mount {one} /data")
    # room for what the conversion puts there, and none for new images
    vm.run("fallocate -l $(($(findmnt -nbo AVAIL /boot) - 125829120)) /boot/old-kernels")
    assert_refused(vm, "usr-separate", "boot-space", "left-out", volume_type="All", words="several devices")
    vm.run("umount /data; rm /boot/old-kernels; sed -i '\\, /usr ,d' /etc/fstab; rm -rf /boot/vmcrypt; "
           "mount -o remount,ro /boot")
    assert_refused(vm, "boot-unwritable")
    vm.run("mount -o remount,rw /boot")

    # dracut would do, with its network
    vm.run("mv /usr/sbin/mkinitramfs /boot/grub/grub.cfg /usr/lib/dracut/modules.d/??network /root")
    reasons = "no-initramfs", "boot-loader", "os-needs-vault"
    assert_refused(vm, *reasons, words="dracut-network", keys=("--key-provider", "file"))
    vm.run("mv /usr/bin/dracut /root")
    assert_refused(vm, *reasons, words="Install initramfs-tools or dracut.", keys=("--key-provider", "file"))
    vm.run("cd /root; mv dracut /usr/bin; mv ??network /usr/lib/dracut/modules.d; mv mkinitramfs /usr/sbin; "
           "mv grub.cfg /boot/grub")

    # it is a whole disk
    vm.run(INSIDE)
    assert_refused(vm, "boot-inside-root", words="the root is no partition")
    vm.run("mv /boot /boot.away")
    assert_refused(vm, "no-boot")
    vm.power_cut()


def refuse_end(rig):
    """/boot is in an ext4 root, whose end cannot be had."""
    vm = rig.vm(root="gpt-ext4-inside", memory="1024M")
    vm.boot()
    vm.run("mv /usr/sbin/grub-mkconfig /usr/sbin/grub-mkconfig.away")
    assert_refused(vm, "boot-inside-root", words="its boot loader is none that can be made to follow")
    vm.run("mv /usr/sbin/grub-mkconfig.away /usr/sbin/grub-mkconfig; fallocate -l 480M /boot/rescue.iso")
    assert_refused(vm, "boot-inside-root", words="512 MiB are too little for what is in it")
    vm.run("rm /boot/rescue.iso; cp /etc/fstab /root/fstab; echo UUID=1234-ABCD /boot vfat noauto 0 0 >> /etc/fstab")
    assert_refused(vm, "boot-inside-root", words="/etc/fstab has a line for /boot, which is not mounted")
    vm.run("mv /root/fstab /etc/fstab; fallocate -l $(($(findmnt -nbo AVAIL /) - 419430400)) /srv/big; sync")
    assert_refused(vm, "boot-inside-root", words="Free some space")
    vm.run("rm /srv/big; sync")
    vm.run(FOLDER_AT_END, timeout=120)
    assert_refused(vm, "boot-inside-root", words="files of /boot lie at the end of the filesystem")
    vm.run("rm -r /boot/late; sync; debugfs -w -R 'feature -metadata_csum' /dev/ubda1; sync")
    assert_refused(vm, "boot-inside-root", words="it is no ext4 filesystem with checksums")
    vm.power_cut()


def refuse_table(rig):
    """It has four partitions."""
    vm = rig.vm(root="mbr-ext4-inside", memory="1024M")
    vm.boot()
    vm.run(f"/usr/bin/python3 -c \"{FILL_TABLE}\"")
    assert_refused(vm, "boot-inside-root", words="the partition table takes no further partition")
    vm.power_cut()


def run(rig):
    refuse_machine(rig)
    refuse_end(rig)
    refuse_table(rig)
    for layout, why in (("gpt-xfs", "its filesystem cannot give way"), ("btrfs", "its filesystem cannot give way"),
                        ("lvm-free", "the root is no partition")):
        vm = rig.vm(root=layout, boot_disk="384M", memory="1024M", disks={"more": "256M"})
        vm.boot()
        if layout == "btrfs":
            vm.run(f"btrfs device add -f {vm.devices['more']} /")
            assert_refused(vm, "no-volume", "volume-unsupported", words="several devices")
            vm.run(f"btrfs device remove {vm.devices['more']} /")
        vm.run(INSIDE)
        assert_refused(vm, "boot-inside-root", words=why)
        vm.power_cut()
