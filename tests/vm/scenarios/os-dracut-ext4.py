# SPDX-License-Identifier: LGPL-2.1-or-later
"""An ext4 root is encrypted with one ordinary reboot, and unlocked from an initramfs of dracut with systemd in it."""

import os_story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True


def run(rig):
    vm = os_story.prepare(rig)
    os_story.use_dracut(vm)
    writer = os_story.encrypt(vm, prepared_s=os_story.DRACUT_PREPARED_S)
    vm.verify("/srv")
    vm.reboot(timeout=180)
    journal = vm.run("journalctl -b -o cat")
    assert "dracut-059" in journal and "Unlock the root" in journal
    os_story.check_after(vm, writer)
    assert vm.failed_units() == [], vm.failed_units()
    boot_static(rig, vm)
    update_kernel(vm)


def boot_static(rig, vm):
    """The settings say the address, which DHCP does not; then the network is the system's own."""
    version = vm.run("uname -r").strip()
    vm.put("/etc/vmcrypt/vmcrypt.conf", f"NETWORK={os_story.STATIC}\n")
    vm.run(f"dracut -q --force /boot/initrd.img-{version} {version}", timeout=os_story.DRACUT_PREPARED_S)
    vm.shutdown()
    rig.cloud.stop("dhcp")
    vm.boot(wait="agent")
    os_story.assert_root_encrypted(vm)
    rig.cloud.start("dhcp")
    os_story.wait_own_network(vm)
    vm.wait_up()


def update_kernel(vm):
    """A new kernel's image has the unlocker; one that was made without it is told of before it is booted."""
    new = os_story.add_kernel(vm, vm.run("uname -r").strip())
    for is_stale in (False, True):
        if is_stale:
            vm.put("/etc/dracut.conf.d/vmtest.conf", os_story.DRACUT_CONF.replace(" vmcrypt ", " "))
        # as Debian's hook of dracut has it
        vm.run(f"dracut -q --force /boot/initrd.img-{new} {new}", timeout=os_story.DRACUT_PREPARED_S)
        said = vm.run(f"/etc/kernel/postinst.d/zz-vmcrypt {new} /boot/vmlinuz-{new} 2>&1", timeout=120)
        assert (f"Kernel {new} cannot unlock" in said) == is_stale, said
        stale = os_story.stale_images(vm)
        assert len(stale) == is_stale and all(new in line for line in stale), stale
