# SPDX-License-Identifier: LGPL-2.1-or-later
"""The way back: the root is decrypted in use, and one reboot leads to a plain boot without us in it."""

import os_story
import story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True
STAGE = "os-encrypted"


def run(rig):
    vm = os_story.encrypted(rig)
    vm.boot()
    writer = vm.writer("/var/lib/writer")
    vm.run("vmcryptctl disable --volume-type OS", timeout=os_story.PREPARED_S)
    # an administrator who knows nothing of it
    vm.run("mkdir -p /scratch; echo 'tmpfs /scratch tmpfs size=1m 0 0' >> /etc/fstab; "
           "sed -i 's|^\\(UUID=[^ ]* / ext4 \\)defaults|\\1noatime|' /etc/fstab")
    edited = vm.get("/etc/fstab")
    assert " / ext4 noatime" in edited
    story.wait_state(vm, [os_story.ROOT], "NotEncrypted", timeout=900)
    vm.wait_for("vmcryptctl show --json=short | jq -e '.reports[-1].restart'", timeout=120)
    answer = story.show(vm)
    assert answer["os"] == "NotEncrypted", answer
    writer.stop()
    vm.reboot()
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda"
    story.wait_jobs(vm, timeout=300)
    assert vm.get("/etc/fstab") == edited
    assert "noatime" in vm.run("findmnt -n -o OPTIONS /") and vm.run("findmnt -n -o FSTYPE /scratch").strip() == "tmpfs"
    assert vm.run("cat /etc/crypttab | grep -c vmcrypt || true").strip() == "0"
    assert vm.run("ls /etc/vmcrypt/initramfs.conf", check=False).code != 0
    assert vm.run("ls /boot/vmcrypt/headers /boot/vmcrypt/jobs").split() == \
        ["/boot/vmcrypt/headers:", "/boot/vmcrypt/jobs:"]
    # its scripts stay, as those of every package do, and find nothing to do
    image = vm.run("lsinitramfs /boot/initrd.img-*", timeout=120)
    assert "usr/bin/" in image
    assert not [line for line in image.split() if "lib/vmcrypt/" in line or "etc/vmcrypt" in line]
    vm.verify("/srv")
    writer.verify()
    vm.reboot()
    vm.verify("/srv")
    assert story.show(vm)["os"] == "NotEncrypted"
