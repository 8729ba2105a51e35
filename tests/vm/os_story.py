# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the OS scenarios have in common: the root from plain to encrypted, and what must hold."""

import time

import image
import story

ROOT = image.ROOT_UUID
PREPARED_S = 420  # an initramfs is made, of some 700 processes
LIMIT = 1500

# the address that DHCP would give, as ip= has it
STATIC = "10.0.0.4::10.0.0.1:255.255.255.0::vec0:off:168.63.129.16"

DRACUT_PREPARED_S = 1200  # it starts some thousand processes for an image
# Only what this machine needs: each module asks some processes whether it is wanted.
DRACUT_CONF = """
dracutmodules+=" bash systemd systemd-initrd systemd-networkd systemd-ask-password systemd-udevd udev-rules "
dracutmodules+=" rootfs-block fs-lib base dracut-systemd network dm usrmount shutdown vmcrypt "
hostonly="yes"
hostonly_cmdline="no"
compress="gzip -1"
do_strip="no"
early_microcode="no"
"""


def use_dracut(vm):
    """As on a machine that has dracut and not initramfs-tools."""
    vm.run("cd /usr/sbin; for name in update-initramfs mkinitramfs; do mv $name $name.away; done")
    vm.put("/etc/dracut.conf.d/vmtest.conf", DRACUT_CONF)


def enable(vm, *flags, volume_type="OS", **more):
    """Type enable; back when the machine is ready for its reboot, or with the refusal."""
    more.setdefault("timeout", PREPARED_S)
    words = ["vmcryptctl", "enable", "--volume-type", volume_type, "--disk-encryption-keyvault",
             story.VAULT, *flags]
    return vm.run(" ".join(words), **more)


def prepare(rig, memory="1024M", boot_disk="384M", **more):
    """A machine with files on its root, booted through its own initramfs."""
    vm = rig.vm(boot_disk=boot_disk, memory=memory, **more)
    vm.boot()
    vm.fill("/srv", "24M")
    return vm


def root_mapping(uuid=ROOT):
    return f"vmcrypt-{uuid}"


def assert_root_encrypted(vm, uuid=ROOT):
    """The root is mounted through a finished mapping over LUKS2, whatever our programs say."""
    story.assert_encrypted(vm, uuid, "/")


def assert_pending(vm, uuid=ROOT):
    answer = story.show(vm)
    assert answer["os"] == "VMRestartPending", answer
    row = story.state(vm, uuid)
    assert row["state"] == "VMRestartPending", row
    return answer


def faults(vm):
    return [fault for report in story.show(vm)["reports"] for fault in report["faults"]]


def wait_for_key(vm, timeout=400):
    """Wait until the job cannot go on without the vault, which is no reason to take it back, nor to reboot."""
    end = time.monotonic() + timeout
    while True:
        report = story.newest(story.show(vm))[0]
        if report["state"] == "waiting":
            break
        assert report["state"] == "running" and time.monotonic() < end, report
        time.sleep(vm.LOOK_S)
    assert "key-unreachable" in [fault["code"] for fault in report["faults"]], report
    assert not report.get("restart") and not report.get("prepared"), report
    assert vm.run("find /boot/vmcrypt/next-boot -type f 2>/dev/null || true").strip() == ""


def encrypt(vm, uuid=ROOT, flags=("--key-encryption-key", story.KEK), prepared_s=PREPARED_S):
    """The main job for the root, whole, with a busy root. Return: the writer, stopped."""
    writer = vm.writer("/var/lib/writer")
    enable(vm, *flags, timeout=prepared_s)
    assert_pending(vm, uuid)
    vm.reboot()
    source = vm.run("findmnt -n -o SOURCE /").strip().split("[")[0]
    assert vm.run(f"readlink -f {source} /dev/mapper/{root_mapping(uuid)} | uniq | wc -l").strip() \
        == "1", source
    writer.start()
    story.wait_state(vm, [uuid], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    time.sleep(1)
    writer.stop()
    assert_root_encrypted(vm, uuid)
    assert story.show(vm)["os"] == "Encrypted"
    return writer


def check_after(vm, writer, uuid=ROOT):
    """Whole and unlocked by itself."""
    assert_root_encrypted(vm, uuid)
    assert story.show(vm)["os"] == "Encrypted"
    vm.verify("/srv")
    writer.verify()


def wait_own_network(vm):
    """The system has its address by DHCP, and of what the initramfs had set up nothing is left."""
    vm.wait_for("ip -4 address show dev vec0 | grep dynamic && test $(ip -4 -o address show dev vec0 | wc -l) = 1",
                timeout=180)


def add_kernel(vm, version):
    """A further kernel, a copy of this one, that has no initramfs yet. Return: its version."""
    new = f"{version}-new"
    vm.run(f"cp -a /lib/modules/{version} /lib/modules/{new} && depmod {new} && "
           f"cp /boot/vmlinuz-{version} /boot/vmlinuz-{new} && cp /boot/config-{version} /boot/config-{new}",
           timeout=120)
    return new


def stale_images(vm):
    """What `check` says of the images."""
    result = vm.run("vmcryptctl check", check=False, timeout=240)
    stale = [line for line in (result.out + result.err).splitlines() if "initramfs-stale" in line]
    assert result.code == (4 if stale else 0), (result.code, result.out, result.err)
    return stale


def _build_pending(rig):
    vm = prepare(rig)
    vm.run("vmcryptctl enable --volume-type OS --disk-encryption-keyvault " + story.VAULT
           + " --key-encryption-key " + story.KEK
           + " --recovery-key-fd=9 9>/srv/recovery-key", timeout=PREPARED_S)
    vm.notes["recovery key"] = vm.get("/srv/recovery-key").strip()
    vm.run("rm /srv/recovery-key")
    assert_pending(vm)
    return vm


def pending(rig, lossy=None):
    """A machine that is off; its next boot begins to encrypt its root. lossy: see Machine.lossy."""
    vm = rig.stage("os-pending", _build_pending)
    if lossy is not None:
        vm.flatten_root()
        vm.lossy = lossy
    return vm


def _build_encrypted(rig):
    vm = pending(rig)
    vm.boot()
    story.wait_state(vm, [ROOT], "Encrypted", timeout=900)
    story.wait_jobs(vm)
    assert_root_encrypted(vm)
    return vm


def encrypted(rig):
    """A machine that is off, its root encrypted; vm.notes has its recovery key."""
    return rig.stage("os-encrypted", _build_encrypted)
