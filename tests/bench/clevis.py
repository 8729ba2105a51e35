# SPDX-License-Identifier: LGPL-2.1-or-later
"""The peer of boot-unlock: the same machine, its root encrypted with cryptsetup, unlocked by Debian's clevis and tang.

Nothing of it goes into the guest's base image: Debian's packages are installed on the encrypted root, from outside.
"""

import contextlib
import json
import subprocess
import time

import image
import machines

PACKAGES = ("clevis-luks", "clevis-initramfs")
TANGD, KEYGEN = "/usr/libexec/tangd", "/usr/libexec/tangd-keygen"
SERVER, GUEST = "10.0.0.1", "10.0.0.4/24"  # our end of the tap, and the machine's
UUID = "0c1e7150-7a19-4d0e-9b0c-6a5d3f0e7b02"  # of the LUKS header
NAME = "clevis-root"
PASSPHRASE = "typed by a person"
KEYS = "tang keys"  # note of the stage
START_S = 10
INSTALL_S = 900

# Debian's way to encrypt a root afterwards: crypttab says so to cryptsetup-initramfs, clevis answers its question.
ENCRYPT = f"""set -e
ip link set lo up; ip link set vec0 up; ip address add {GUEST} dev vec0
e2fsck -fy /dev/ubdb > /dev/null
resize2fs /dev/ubdb {(image.IMAGE_BYTES >> 20) - 32}M
printf '{PASSPHRASE}' > /run/passphrase
cryptsetup reencrypt --encrypt --type luks2 --uuid {UUID} --reduce-device-size 32M -q \\
    --key-file /run/passphrase /dev/ubdb
cryptsetup open --key-file /run/passphrase /dev/ubdb {NAME}
mount /dev/mapper/{NAME} /mnt; mount /dev/ubdc /mnt/boot
for i in dev proc sys run; do mount --bind /$i /mnt/$i; done
echo '{NAME} UUID={UUID} none luks,initramfs' > /mnt/etc/crypttab
cp /run/share/*.deb /run; chroot /mnt sh -c "dpkg -i /run/*.deb"
chroot /mnt clevis luks bind -y -k /run/passphrase -d /dev/ubdb tang '{{"url":"http://{SERVER}"}}'
for i in dev proc sys run boot; do umount /mnt/$i; done
umount /mnt; cryptsetup close {NAME}"""


@contextlib.contextmanager
def tang(rig, keys=None):
    """A tang server at SERVER. keys: those that it has, {file name: text}; without, new ones. Gives the keys."""
    folder = rig.workdir / "tang"
    folder.mkdir(exist_ok=True)
    if keys is None:
        subprocess.run([KEYGEN, folder], check=True)
    for name, text in (keys or {}).items():
        (folder / name).write_text(text)
    with open(rig.workdir / "tang.log", "wb") as log:
        server = rig.popen_in_namespace(["systemd-socket-activate", "--accept", "--inetd", "-l", f"{SERVER}:80", TANGD,
                                         str(folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(rig, server)
        yield {path.name: path.read_text() for path in folder.iterdir()}
    finally:
        server.terminate()
        server.wait()


def _wait_for(rig, server):
    end = time.monotonic() + START_S
    while not rig.namespace.run(["ss", "-Hltn", f"src {SERVER}:80"], stdout=subprocess.PIPE).stdout:
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"tang does not listen: {(rig.workdir / 'tang.log').read_text()}")
        time.sleep(0.05)


def download(rig, folder):
    """The packages, with what they need that the guest has not."""
    status = rig.workdir / "dpkg-status"
    subprocess.run(["debugfs", "-R", f"dump /var/lib/dpkg/status {status}", rig.base_image], check=True,
                   stderr=subprocess.DEVNULL)
    cache = rig.workdir / "packages"
    (cache / "partial").mkdir(parents=True)
    options = {"Dir::State::status": status, "Dir::Cache::archives": cache, "Debug::NoLocking": 1,
               "APT::Sandbox::User": "root", "APT::Install-Recommends": "false"}
    command = ["apt-get", "-qq", "-y", "--download-only", *(f"-o{key}={value}" for key, value in options.items()),
               "install", *PACKAGES]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:  # perhaps the lists are old
        subprocess.run(["apt-get", "-qq", "update"], check=True)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    for path in cache.glob("*.deb"):
        path.rename(folder / path.name)


def _build(rig):
    vm = machines.plain(rig)
    vm.flatten_root()
    bare = rig.bare(memory=vm.memory)
    bare.add_disk("root", vm.flat_root)
    bare.add_disk("boot", vm.disks["boot"])
    download(rig, bare.share)
    with tang(rig) as keys:
        vm.notes[KEYS] = json.dumps(keys)
        bare.run(ENCRYPT, timeout=INSTALL_S)
        # from here on this is what lies beneath the machine's overlay
        vm.root_image = vm.flat_root.rename(vm.workdir / "encrypted.img")
        vm.flat_root = None
        vm.root_cow.unlink(missing_ok=True)
        vm.boot()
        assert_unlocked(vm)
    return vm


def machine(rig):
    """A machine that is off and boots when its tang server is there: tang(rig, keys(vm)).

    Its keyslots: 0, a person's passphrase with cryptsetup's defaults; 1, clevis's own.
    """
    return rig.stage("bench-clevis", _build)


def keys(vm):
    return json.loads(vm.notes[KEYS])


def remove_passphrase(vm):
    """Leave clevis's keyslot alone; in the running machine."""
    vm.run("cryptsetup luksKillSlot -q /dev/ubda 0", timeout=120)


def assert_unlocked(vm):
    source = vm.run("findmnt -no SOURCE /").strip()
    assert source == f"/dev/mapper/{NAME}", source
