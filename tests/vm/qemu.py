# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole Debian behind real firmware and a real boot loader, with the same verbs as VM.

QEMU emulates the processor, so each boot takes a minute or two. What differs from VM: kernel
arguments come from the guest's own GRUB, and the product is installed into the running system.
"""

import os
import shutil
import socket
import subprocess

import qemu_image
from machine import MAC, MachineError
from vm import VM

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
BOOT_TIMEOUT_S = 600
DOWN_TIMEOUT_S = 240
# without five levels of page tables, which cost the emulator a fifth of each miss, and without KVM in the guest
COMMON = ("qemu-system-x86_64", "-accel", "tcg,tb-size=256", "-cpu", "max,la57=off,svm=off", "-smp", "1",
          "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
# as a package does after its installation
INSTALL = """set -e
share=$(mktemp -d)
mount -t hostfs hostfs "$share"
tar -C / --keep-directory-symlink --no-same-owner -xf "$share/product.tar"
cp "$share/ca.pem" /usr/local/share/ca-certificates/vmtest.crt
cat "$share/ca.pem" >> /etc/ssl/certs/ca-certificates.crt
umount "$share"
rmdir "$share"
ldconfig
systemd-sysusers
systemd-tmpfiles --create
systemctl daemon-reload
udevadm control --reload
units=$(cd /usr/lib/systemd/system && ls -d vmcrypt*.socket vmcryptd.service)
systemctl preset $units
systemctl start $units
"""


def _firmware(variables):
    if not variables:
        return ["-machine", "q35,memory-backend=memory"]
    return ["-machine", "q35,memory-backend=memory",
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={qemu_image.OVMF_CODE}",
            "-drive", f"if=pflash,unit=1,format=raw,file={variables}"]


def _memory(size):
    # shared: the process behind the shared folder reads and writes it
    return ["-m", size, "-object", f"memory-backend-memfd,id=memory,share=on,size={size}"]


def _disk(number, path, form):
    # the host does not lose its power in these tests, so nothing has to reach its disk
    return ["-drive", f"if=none,id=disk{number},format={form},cache=unsafe,file={path}",
            "-device", f"virtio-blk-pci,drive=disk{number}"]


def start_by_hand(disk, variables, kernel, initrd, arguments, console):
    """A machine that runs from disk with this kernel, for making images; as a Popen."""
    command = [*COMMON, *_firmware(variables), *_memory("512M"), *_disk(0, disk, "raw"),
               "-serial", "null", "-chardev", "stdio,id=console,signal=off",
               "-serial", "chardev:console",
               "-kernel", kernel, "-initrd", initrd, "-append", arguments]
    return subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=console,
                            stderr=subprocess.STDOUT)


class QemuVM(VM):
    """vm = rig.qemu("bios"); vm.boot(); vm.install_product(); vm.run("lsblk")"""

    LOOK_S = 15  # and of an emulated one several

    def __init__(self, rig, name, disks, memory, firmware):
        super().__init__(rig, name, disks, memory)
        self._laid_out = True  # the disk's own GRUB says what is started
        image, variables = qemu_image.disk_image(firmware, start_by_hand)
        self._root_disk = self.workdir / "root.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image,
                        self._root_disk], check=True)
        self._variables = None
        if variables:
            self._variables = self.workdir / "variables"
            shutil.copyfile(variables, self._variables)

    # -- power

    def add_disk(self, name, path):
        self.disks[name] = path
        self.devices[name] = f"/dev/vd{'bcdefgh'[len(self.devices)]}"

    def boot(self, wait="up", arguments=(), timeout=BOOT_TIMEOUT_S):
        super().boot(wait=wait, arguments=arguments, timeout=timeout)

    def reboot(self, wait="up", arguments=(), timeout=DOWN_TIMEOUT_S):
        super().reboot(wait=wait, arguments=arguments, timeout=timeout)

    def shutdown(self, timeout=DOWN_TIMEOUT_S):
        super().shutdown(timeout)

    def power(self, arguments, serial):
        """See Machine; arguments are not for us to give."""
        if self.is_running():
            raise MachineError(f"{self.name} runs already")
        command = [
            "setpriv", "--pdeathsig", "KILL", *COMMON, *_firmware(self._variables),
            *_memory(self.memory), *_disk(0, self._root_disk, "qcow2"),
            # the first line is the agent's, the second the console
            "-chardev", f"pipe,id=line,path={self._name_line(serial)}",
            "-serial", "chardev:line",
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-chardev", f"socket,id=share,path={self._serve_share()}",
            "-device", "vhost-user-fs-pci,chardev=share,tag=share",
            "-netdev", f"tap,id=net,ifname={self.rig.tap},script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=net,mac={MAC},romfile="]
        for number, path in enumerate(self.disks.values(), 1):
            command += _disk(number, path, "raw")
        self._unplug_keyboard()
        keys, self.keyboard = os.pipe()
        with open(self.console_file, "ab") as console, open(keys, "rb") as keys:
            console.write(b"\n@@vmtest power on\n")
            console.flush()
            self.process = self.rig.popen_in_namespace(
                list(map(str, command)), stdin=keys, stdout=console, stderr=subprocess.STDOUT,
                pass_fds=sorted(set(serial)))

    def _name_line(self, serial):
        """The two descriptors by names, as the emulator wants them."""
        path = self.workdir / "line"
        for suffix, descriptor in zip((".in", ".out"), serial):
            name = path.with_suffix(suffix)
            name.unlink(missing_ok=True)
            name.symlink_to(f"/proc/self/fd/{descriptor}")
        return path

    def _serve_share(self):
        """A server for the shared folder, which ends with the machine; its socket."""
        path = self.workdir / "share.socket"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening, open(self.workdir / "virtiofsd.log", "ab") as log:
            listening.bind(str(path))
            listening.listen(1)
            subprocess.Popen(["setpriv", "--pdeathsig", "KILL", VIRTIOFSD, f"--fd={listening.fileno()}",
                              "-o", f"source={self.share}", "-o", "cache=none"],
                             stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                             pass_fds=[listening.fileno()])
        return path

    def _kernel_pids(self):
        return [self.process.pid]

    # -- the product

    def install_product(self):
        """As its package does, in the running machine."""
        self.run(INSTALL, timeout=300)

    # -- reports

    def _journal_from_disk(self, arguments):
        return ""  # the console has to do: the root may be encrypted
