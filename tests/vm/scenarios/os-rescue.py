# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine whose initramfs is broken, repaired on another with Debian's plain tools and the recovery key."""

import os_story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True
STAGE = "os-encrypted"

REPAIR = """set -e
printf %s '{key}' | cryptsetup open {disk} patient
mount /dev/mapper/patient /mnt
mount {boot} /mnt/boot
for name in dev proc sys; do mount --bind /$name /mnt/$name; done
chroot /mnt update-initramfs -u -k all
umount /mnt/dev /mnt/proc /mnt/sys /mnt/boot /mnt
cryptsetup close patient
sync
"""


def run(rig):
    vm = os_story.encrypted(rig)
    vm.boot()
    version = vm.run("uname -r").strip()
    # as after a kernel update by hand: an image without the unlocker
    vm.run(f"mv /etc/vmcrypt/initramfs.conf /run/aside; mkinitramfs -o /boot/initrd.img-{version} {version}; "
           "mv /run/aside /etc/vmcrypt/initramfs.conf", timeout=os_story.PREPARED_S)
    assert "initramfs" in vm.run("vmcryptctl recover", timeout=120)
    vm.shutdown()
    vm.boot(wait=None)
    # or, with cryptsetup-initramfs installed, Debian asks for the volume's key
    vm.wait_console("Gave up waiting for root|does not exist|ALERT|Please unlock disk", 240)
    vm.power_cut()

    vm.flatten_root()
    doctor = rig.vm(name="doctor", memory="1024M")
    doctor.add_disk("patient", vm.flat_root)
    doctor.add_disk("patientboot", vm.disks["boot"])
    doctor.boot()
    doctor.run(REPAIR.format(key=vm.notes["recovery key"], disk=doctor.devices["patient"],
                             boot=doctor.devices["patientboot"]), timeout=os_story.PREPARED_S)
    doctor.shutdown()

    vm.boot()
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
