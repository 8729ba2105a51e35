# SPDX-License-Identifier: LGPL-2.1-or-later
"""The base image: a Debian in an ext4 file, made once and cached.

Two stages, each cached under the hash of what goes into it: the packages (mmdebstrap, minutes) and
the image (configuration laid over them, mke2fs -d, seconds). Nothing is mounted on the host.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MODULES = pathlib.Path("/usr/lib/uml/modules")
# about half of it is free; no more, since scenarios encrypt all of it
IMAGE_BYTES = 1200 << 20
KERNEL_CONFIG = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\n"  # what initramfs-tools looks for
ROOT_UUID = "76dc0a7e-57c2-4c1a-9f0b-1d2f6e0a1b01"
FSTAB_LINE = f"UUID={ROOT_UUID} / ext4 defaults,errors=remount-ro 0 1"

# dpkg leaves these out: the guest is never read by a person
EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")

# dracut-network depends on dracut, which conflicts with initramfs-tools. The guest has both makers,
# so that either can be tried; hence these packages are unpacked without being installed.
UNPACKED = ("dracut-network",)

# what a test machine need not wait for at boot
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
          "e2scrub_reap.service", "fstrim.timer", "logrotate.timer", "mdcheck_start.timer",
          "mdcheck_continue.timer", "mdmonitor-oneshot.timer", "xfs_scrub_all.timer",
          "getty@tty1.service", "console-getty.service", "serial-getty@ttyS0.service",
          "getty-static.service", "systemd-logind.service", "systemd-update-utmp.service",
          "systemd-update-utmp-runlevel.service", "systemd-firstboot.service",
          "systemd-pstore.service", "systemd-networkd-wait-online.service",
          "systemd-network-generator.service", "systemd-binfmt.service",
          "systemd-user-sessions.service", "proc-sys-fs-binfmt_misc.automount",
          "networking.service", "keyboard-setup.service", "console-setup.service",
          "hwclock.service", "rc-local.service", "mdadm-shutdown.service", "dracut-shutdown.service",
          "lvm2-monitor.service", "kmod-static-nodes.service", "modprobe@configfs.service",
          "modprobe@drm.service", "modprobe@fuse.service", "modprobe@efi_pstore.service",
          "sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount",
          "sys-kernel-tracing.mount", "dev-hugepages.mount", "dev-mqueue.mount")
GENERATORS = ("bless-boot", "debug", "getty", "gpt-auto", "hibernate-resume", "integritysetup",
              "rc-local", "run", "system-update", "sysv", "veritysetup")
ENABLED = ("systemd-networkd.service", "vmtest-agent.service")
DISABLED = ("ssh.service",)  # a scenario that wants it makes host keys first


def cache_directory():
    """Where images and product builds are kept between runs."""
    path = pathlib.Path(os.environ.get("VMCRYPT_CACHE") or "/var/cache/vmcrypt-tests") / "vm"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(name):
    """One process at a time builds the thing called name."""
    with open(cache_directory() / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def packages():
    lines = (HERE / "guest/packages").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _digest(*parts):
    """A short name for this content."""
    total = hashlib.sha256()
    for part in parts:
        total.update(str(part).encode() + b"\0")
    return total.hexdigest()[:12]


def _tree_digest(folder):
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            parts += [path.relative_to(folder), path.stat().st_mode, path.read_bytes()]
    return _digest(*parts)


def base_image(say=print):
    """Path of the base image; builds what is missing. Read-only for everybody."""
    modules = ",".join(sorted(path.name for path in MODULES.iterdir()))
    debian = _digest("debian 1", packages(), EXCLUDED, UNPACKED)
    image = _digest("image 1", debian, modules, _tree_digest(HERE / "guest/root"),
                    pathlib.Path(__file__).read_bytes())
    path = cache_directory() / f"base-{image}.ext4"
    if path.exists():
        return path
    with locked("image"):
        if not path.exists():
            _build_image(_debian(debian, say), path, say)
            for other in cache_directory().glob("base-*.ext4"):
                # a run that began with the older image has it open; it stays until then
                if other != path:
                    other.unlink()
    return path


def _debian(key, say):
    """A folder with the packages installed, as mmdebstrap leaves it."""
    final = cache_directory() / f"debian-{key}"
    if final.exists():
        return final
    say("building the guest's Debian (once, some minutes)")
    work = cache_directory() / f"debian-{key}.part"
    shutil.rmtree(work, ignore_errors=True)
    unpack = "; ".join(f"apt-get download {name} && dpkg -x {name}_*.deb / && rm {name}_*.deb"
                       for name in UNPACKED)
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
               "--include=" + ",".join(packages()),
               '--aptopt=Apt::Install-Recommends "false"',
               *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
               f'--customize-hook=chroot "$1" sh -ec "cd /tmp; {unpack}"',
               "bookworm", str(work)]
    log = cache_directory() / "debian.log"
    with open(log, "wb") as file:
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file).returncode:
            raise RuntimeError(f"mmdebstrap failed:\n{log.read_text()[-3000:]}")
    for other in cache_directory().glob("debian-*/"):
        if other not in (work, final):
            shutil.rmtree(other)
    work.rename(final)
    return final


def _build_image(debian, path, say):
    say("building the guest's image")
    with tempfile.TemporaryDirectory(dir=cache_directory(), prefix="image.") as folder:
        root = pathlib.Path(folder) / "root"
        subprocess.run(["cp", "-a", debian, root], check=True)
        _configure(root)
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        # fixed UUID and no lazy initialisation: every overlay starts from a quiet, known filesystem
        subprocess.run(["mke2fs", "-qF", "-t", "ext4", "-L", "root", "-U", ROOT_UUID, "-d", root,
                        "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
                        part, f"{IMAGE_BYTES >> 10}K"], check=True)
        part.chmod(0o444)
        part.rename(path)


def _configure(root):
    subprocess.run(["cp", "-a", "--no-preserve=ownership", f"{HERE}/guest/root/.", root],
                   check=True)
    for version in MODULES.iterdir():
        modules = root / "lib/modules" / version.name
        shutil.copytree(version, modules, symlinks=True, dirs_exist_ok=True)
        # they come with three times their size in debugging information
        subprocess.run(["strip", "--strip-debug", *modules.rglob("*.ko")], check=True)
        subprocess.run(["chroot", root, "depmod", version.name], check=True)
        # the names that a kernel package leaves; the initramfs is made here, where it takes seconds
        (root / "boot" / f"vmlinuz-{version.name}").write_text("User-Mode Linux is its own\n")
        (root / "boot" / f"config-{version.name}").write_text(KERNEL_CONFIG)
        shutil.rmtree(root / "boot/kernel", ignore_errors=True)
    (root / "etc/fstab").write_text(f"{FSTAB_LINE}\n")
    (root / "etc/hostname").write_text("vm\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost vm\n")
    (root / "etc/machine-id").write_text("")
    (root / "etc/resolv.conf").write_text("nameserver 168.63.129.16\noptions timeout:1 attempts:2\n")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "var/log/journal").mkdir(exist_ok=True)
    system = root / "etc/systemd/system"
    for unit in MASKED:
        (system / unit).unlink(missing_ok=True)
        (system / unit).symlink_to("/dev/null")
    generators = root / "etc/systemd/system-generators"
    generators.mkdir()
    for name in GENERATORS:
        (generators / f"systemd-{name}-generator").symlink_to("/dev/null")
    subprocess.run(["chroot", root, "systemctl", "--quiet", "enable", *ENABLED], check=True)
    subprocess.run(["chroot", root, "systemctl", "--quiet", "disable", *DISABLED], check=True)
    for command in (["update-initramfs", "-c", "-k", "all"], ["update-grub"]):
        result = subprocess.run(["chroot", root, *command], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
        if result.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{result.stdout}")
    subprocess.run(["chroot", root, "passwd", "--quiet", "--delete", "root"], check=True)


# -- overlays

COW_MAGIC, COW_VERSION, COW_SECTOR, COW_PATH_BYTES = 0x4F4F4F4D, 3, 512, 4096
_COW_HEADER = struct.Struct(f">IIIQIII{COW_PATH_BYTES}s")


def merge_overlay(cow, base, target):
    """Write the disk that a UML overlay and its base image are together; sparse.

    Source: Linux, arch/um/drivers/cow_user.c, struct cow_header_v3 and cow_sizes().
    """
    subprocess.run(["cp", "--sparse=always", "--no-preserve=mode", base, target], check=True)
    with open(cow, "rb") as overlay, open(target, "r+b") as whole:
        header = _COW_HEADER.unpack(overlay.read(_COW_HEADER.size))
        magic, version, _, size, sector, alignment, _, _ = header
        if (magic, version, sector) != (COW_MAGIC, COW_VERSION, COW_SECTOR):
            raise ValueError(f"{cow} is not an overlay that this code knows")
        bitmap_bytes = (size // sector + 7) // 8
        overlay.seek(_round_up(_COW_HEADER.size, alignment))
        bitmap = overlay.read(bitmap_bytes)
        data = _round_up(_COW_HEADER.size, alignment) + _round_up(bitmap_bytes, alignment)
        # bytes that are all ones are the usual case, in long runs; single sectors where one is mixed
        for match in re.finditer(rb"\xff{1,256}|[^\x00\xff]", bitmap):
            index, length, byte = match.start() * 8, len(match[0]) * 8, match[0][0]
            runs = [(0, length)] if byte == 0xFF else [(bit, 1) for bit in range(8) if byte >> bit & 1]
            for first, count in runs:
                offset = (index + first) * sector
                overlay.seek(data + offset)
                whole.seek(offset)
                whole.write(overlay.read(count * sector))


def _round_up(number, unit):
    return -(-number // unit) * unit
