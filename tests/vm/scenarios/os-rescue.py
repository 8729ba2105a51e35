# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine whose initramfs is broken, repaired on another with Debian's plain tools and the recovery key."""

import os_story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True
STAGE = "os-encrypted"

def repair(text, key):
    """What `recover` prints, as a script: nothing is added but the recovery key, and what is typed inside chroot."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("       ")]
    first, third = text.index("1. Attach"), text.index("3. Mount it")
    opening = [line for line in lines if line in text[first:text.index("Without one")]]
    rest = [line for line in lines if line in text[third:]]
    assert "cryptsetup open $D $N" in opening and "cryptsetup close $N" in rest, text
    script = []
    for line in opening + rest:
        if line == "cryptsetup open $D $N":
            line = f"printf %s '{key}' | {line}"
        elif line == "chroot /mnt":
            line = "chroot /mnt sh -e > /run/said 2>&1 <<'END'"
        elif line == "/usr/lib/vmcrypt/vmcrypt-worker --kernel":
            line = f"{line} > /kernels 2>&1"
        elif line == "exit":
            line = "exit\nEND\ncat /run/said /mnt/kernels; test ! -s /mnt/kernels"
        script.append(line)
    return "set -e\n" + "\n".join(script) + "\nsync\n"


def run(rig):
    vm = os_story.encrypted(rig)
    vm.boot()
    version = vm.run("uname -r").strip()
    # as after a kernel update by hand: an image without the unlocker
    vm.run(f"mv /etc/vmcrypt/initramfs.conf /run/aside; mkinitramfs -o /boot/initrd.img-{version} {version}; "
           "mv /run/aside /etc/vmcrypt/initramfs.conf", timeout=os_story.PREPARED_S)
    text = vm.run("vmcryptctl recover", timeout=120)
    vm.shutdown()
    vm.boot(wait=None)
    # or, with cryptsetup-initramfs installed, Debian asks for the volume's key
    vm.wait_console("Gave up waiting for root|does not exist|ALERT|Please unlock disk", 240)
    vm.power_cut()

    vm.flatten_root()
    doctor = rig.vm(name="doctor", memory="1024M")
    doctor.add_disk("patient", vm.flat_root)
    doctor.add_disk("patientboot", vm.disks["boot"])
    (doctor.share / "product.tar").unlink()  # plain Debian
    doctor.boot()
    assert doctor.run("ls -d /usr/lib/vmcrypt /usr/bin/vmcryptctl 2>/dev/null || true") == ""
    doctor.run(repair(text, vm.notes["recovery key"]), timeout=os_story.PREPARED_S)
    doctor.shutdown()

    vm.boot()
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")
