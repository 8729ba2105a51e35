# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disk images with firmware's eyes: a partition table, a real boot loader, Debian's own kernel.

Three stages, each cached under the hash of what goes into it: the packages (mmdebstrap), the disk
(partitions filled by mke2fs -d; nothing is mounted on the host), and GRUB, which its own tool
installs in a machine that runs from that disk. The installed kernel is the last but one that
Debian's archive has; the last one lies in KERNEL_UPDATE as a package.
"""

import pathlib
import shutil
import subprocess
import tempfile
import uuid

import image
import loader
from machine import MachineError

HERE = pathlib.Path(__file__).resolve().parent
OVERLAY = HERE / "guest-qemu/root"
# of guest/root; the rest is made for User-Mode Linux
TAKEN = ("usr/lib/vmtest/agent", "etc/systemd/system/vmtest-agent.service",
         "etc/systemd/system.conf.d", "etc/systemd/journald.conf.d")
KERNEL_UPDATE = "/var/cache/vmtest"
ROOT_UUID, BOOT_UUID, ESP_ID = image.ROOT_UUID, loader.UUID, "1A2B-3C4D"

MIB = 1 << 20
BOOT_MIB, ROOT_MIB, TAIL_MIB = 384, 1024, 1
# firmware -> first partition: size, type; what starts from it
FIRST_PARTITION = {
    "bios": (1, "21686148-6449-6E6F-744E-656564454649"),
    "uefi": (48, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
}
LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
INSTALL_TIMEOUT_S = 900

# in the new Debian: the newest two kernels for clouds, one installed, one at hand. INITRD=No: no
# initramfs yet, its settings are not there either
CHOOSE_KERNELS = f"""
apt-cache search --names-only '^linux-image-6[.]1[.]0-[0-9]+-cloud-amd64$' | cut -d' ' -f1 | sort -V | tail -n 2 > /tmp/kernels
[ "$(wc -l < /tmp/kernels)" = 2 ]
INITRD=No DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$(head -n 1 /tmp/kernels)"
mkdir -p {KERNEL_UPDATE}
cd {KERNEL_UPDATE}
apt-get -o APT::Sandbox::User=root download "$(tail -n 1 /tmp/kernels)"
rm /tmp/kernels
"""


def disk_image(firmware, start, say=print):
    """Path of the disk and of the firmware's variables (None for a BIOS); builds what is missing.

    start: start(disk, variables, kernel, initrd, arguments, console), a machine of this firmware
           that runs from the disk, as a Popen
    """
    packages = _packages()
    debian = image._digest("debian-qemu 1", packages, image.EXCLUDED, CHOOSE_KERNELS)
    key = image._digest("disk 1", debian, image._tree_digest(OVERLAY),
                        image._tree_digest(HERE / "guest/root/usr/lib/vmtest"),
                        image._tree_digest(HERE / "guest/root/etc/systemd"),
                        pathlib.Path(__file__).read_bytes())
    path = image.cache_directory() / f"disk-{firmware}-{key}.img"
    variables = path.with_suffix(".vars") if firmware == "uefi" else None
    if path.exists():
        return path, variables
    with image.locked(f"disk-{firmware}"):
        if not path.exists():
            with image.locked("debian-qemu"):
                folder = _debian(debian, packages, say)
            _build(folder, firmware, path, variables, start, say)
            for other in image.cache_directory().glob(f"disk-{firmware}-*"):
                if other not in (path, variables):
                    other.unlink()
    return path, variables


def _packages():
    lines = (HERE / "guest-qemu/packages").read_text().splitlines()
    return image.packages() + [line for line in lines if line and not line.startswith("#")]


def _debian(key, packages, say):
    final = image.cache_directory() / f"qemu-debian-{key}"
    if final.exists():
        return final
    say("building the Debian of emulated machines (once, some minutes)")
    work = final.with_suffix(".part")
    shutil.rmtree(work, ignore_errors=True)
    log = image.cache_directory() / "debian-qemu.log"
    with open(log, "wb") as file:
        result = subprocess.run(
            ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
             "--include=" + ",".join(packages), '--aptopt=Apt::Install-Recommends "false"',
             *(f"--dpkgopt=path-exclude={pattern}" for pattern in image.EXCLUDED),
             f'--customize-hook=chroot "$1" sh -ec \'{_quoted(CHOOSE_KERNELS)}\'',
             "bookworm", str(work)], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    if result.returncode:
        raise RuntimeError(f"mmdebstrap failed:\n{log.read_text(errors='replace')[-3000:]}")
    for other in image.cache_directory().glob("qemu-debian-*/"):
        if other not in (work, final):
            shutil.rmtree(other)
    work.rename(final)
    return final


def _quoted(script):
    return script.replace("'", "'\\''")


def _build(debian, firmware, path, variables, start, say):
    say(f"building the disk of emulated machines with {firmware.upper()} (once, some minutes)")
    with tempfile.TemporaryDirectory(dir=image.cache_directory(), prefix="disk.") as folder:
        root, part = pathlib.Path(folder) / "root", path.with_suffix(".part")
        subprocess.run(["cp", "-a", debian, root], check=True)
        _configure(root, firmware)
        boot = pathlib.Path(folder) / "boot"
        (root / "boot").rename(boot)
        (root / "boot").mkdir()
        _make_disk(part, firmware, root, boot)
        own_variables = None
        if variables:
            own_variables = pathlib.Path(folder) / "vars"
            shutil.copyfile(OVMF_VARIABLES, own_variables)
        _install_grub(part, own_variables, boot, folder, start)
        if variables:
            shutil.copyfile(own_variables, variables)
        part.chmod(0o444)
        part.rename(path)


def _configure(root, firmware):
    for name in TAKEN:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-rT", HERE / "guest/root" / name, target], check=True)
    (root / "usr/lib/vmtest/agent").chmod(0o755)
    subprocess.run(["cp", "-a", "--no-preserve=ownership", f"{OVERLAY}/.", root], check=True)
    lines = [f"UUID={ROOT_UUID} / ext4 defaults,errors=remount-ro 0 1", loader.fstab_line()]
    if firmware == "uefi":
        lines.append(f"UUID={ESP_ID} /boot/efi vfat umask=0077 0 1")
    (root / "etc/fstab").write_text("\n".join(lines) + "\n")
    (root / "etc/hostname").write_text("vm\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost vm\n")
    # not empty: systemd would take the boot for its first and enable everything there is
    (root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
    (root / "etc/resolv.conf").write_text("nameserver 168.63.129.16\noptions timeout:1 attempts:2\n")
    (root / "var/log/journal").mkdir(exist_ok=True)
    system = root / "etc/systemd/system"
    for unit in image.MASKED:
        (system / unit).unlink(missing_ok=True)
        (system / unit).symlink_to("/dev/null")
    generators = root / "etc/systemd/system-generators"
    generators.mkdir()
    for name in image.GENERATORS:
        (generators / f"systemd-{name}-generator").symlink_to("/dev/null")
    for words in (["enable", *image.ENABLED], ["disable", *image.DISABLED]):
        subprocess.run(["chroot", root, "systemctl", "--quiet", *words], check=True)
    result = subprocess.run(["chroot", root, "update-initramfs", "-c", "-k", "all"],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        raise RuntimeError(f"update-initramfs failed:\n{result.stdout}")
    subprocess.run(["chroot", root, "passwd", "--quiet", "--delete", "root"], check=True)


def _make_disk(path, firmware, root, boot):
    size, kind = FIRST_PARTITION[firmware]
    partitions = [(size, kind), (BOOT_MIB, LINUX_DATA), (ROOT_MIB, LINUX_DATA)]
    with open(path, "wb") as file:
        file.truncate((1 + sum(size for size, _ in partitions) + TAIL_MIB) * MIB)
    table = "label: gpt\n" + "".join(f"size={size}MiB, type={kind}\n" for size, kind in partitions)
    subprocess.run(["sfdisk", "--quiet", path], input=table, text=True, check=True,
                   stdout=subprocess.DEVNULL)
    for offset, size, label, identity, folder in (
            (1 + size, BOOT_MIB, loader.LABEL, BOOT_UUID, boot),
            (1 + size + BOOT_MIB, ROOT_MIB, "root", ROOT_UUID, root)):
        subprocess.run(["mke2fs", "-qF", "-t", "ext4", "-b", "4096", "-L", label, "-U", identity, "-d",
                        folder, "-E", f"offset={offset * MIB},lazy_itable_init=0,"
                        "lazy_journal_init=0,nodiscard", path, f"{size}M"], check=True)


def _install_grub(disk, variables, boot, folder, start):
    """One boot of the new disk, with the kernel given by hand."""
    console = pathlib.Path(folder) / "console"
    [kernel], [initrd] = boot.glob("vmlinuz-*"), boot.glob("initrd.img-*")
    with open(console, "wb") as file:
        process = start(disk, variables, kernel, initrd,
                        f"root=UUID={ROOT_UUID} ro console=ttyS1 panic=-1 mitigations=off norandmaps "
                        "init=/usr/lib/vmtest/install-grub", file)
        try:
            process.wait(INSTALL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    text = console.read_text(errors="replace")
    if "@@vmtest end 0" not in text:
        raise MachineError(f"GRUB could not be installed:\n{text[-6000:]}")
