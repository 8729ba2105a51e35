# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine: one User-Mode Linux process at a time, its disks, its console.

The disks outlive the process, so power() can be called again after a power cut or a shutdown. The
process is the first of a process namespace of its own: when it goes, all guest processes go.
"""

import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import host
import image


LETTERS = "bcdefgh"  # UML has ubda..ubdh; ubda is the root disk
CONSOLE_TAIL_LINES = 40
# 256 pairs of ancient terminals would be most of what udev has to look at
KERNEL_ARGUMENTS = ("panic=-1", "pty.legacy_count=0")
PLAIN_ROOT = ("root=/dev/ubda", "rw")
LAST_WORDS = ("reboot: Restarting system", "reboot: Power down", "reboot: System halted")
MAC = "00:0d:3a:00:00:04"


class MachineError(Exception):
    """The machine did not do what was asked."""


def parse_size(text):
    """Bytes of "512M", "2G" or a plain number."""
    number, unit = re.fullmatch(r"(\d+)([KMG]?)", str(text)).groups()
    return int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]


def _enlarge(path, by):
    os.truncate(path, path.stat().st_size + parse_size(by))


class Machine:
    """What VM and Bare have in common.

    name: unique in the rig, names the working folder
    disks: {"data": "512M", …} in the order ubdb, ubdc, …; raw sparse files
    root_image: what lies beneath the overlay that is the root disk
    """

    def __init__(self, rig, name, disks, memory, root_image=None):
        if len(disks) > len(LETTERS):
            raise ValueError(f"at most {len(LETTERS)} disks besides the root disk")
        self.rig = rig
        self.name = name
        self.memory = memory
        self.workdir = pathlib.Path(rig.workdir) / name
        self.share = self.workdir / "share"  # the guest sees it through hostfs
        self.share.mkdir(parents=True)
        self.console_file = self.workdir / "console"
        self.console_file.touch()
        self.root_cow = self.workdir / "root.cow"
        self.root_image = root_image or rig.base_image
        self.disks = {}    # name -> image file on the host
        self.devices = {}  # name -> device in the guest
        self.flat_root = None  # the root disk when it is a file of its own, see flatten_root()
        self.lossy = None      # a seed: disks lose what was not flushed when the power is cut
        self.keyboard = None   # our end of what its console reads
        self.screen = None     # the process that puts what it prints into console_file
        self.process = None
        self._descriptors = ()
        self.make_disks(disks)

    # -- power

    def make_disks(self, disks):
        """More disks, empty ones, for the next power on."""
        for name, size in disks.items():
            path = self.workdir / f"{name}.img"
            with open(path, "wb") as file:
                file.truncate(parse_size(size))
            self.add_disk(name, path)

    def add_disk(self, name, path):
        """One more disk, an image file, for the next power on."""
        self.disks[name] = path
        self.devices[name] = f"/dev/ubd{LETTERS[len(self.devices)]}"

    def flatten_root(self):
        """The root disk becomes a file of its own, without an overlay; while the machine is off.

        Reads through an overlay of UML's are not always what was written last: with xfs on it, a few
        minutes of work and a remount end in "Metadata has LSN ahead of current LSN".
        """
        if self.flat_root:
            return
        path = self.workdir / "root.img"
        if self.root_cow.exists():
            image.merge_overlay(self.root_cow, self.root_image, path)
        else:
            subprocess.run(["cp", "--sparse=always", "--no-preserve=mode", self.root_image, path],
                           check=True)
        self.flat_root = path

    def enlarge_root(self, by):
        """The root disk grows at its end, as in the cloud; while the machine is off."""
        if not self.flat_root:
            self.flatten_root()
        _enlarge(self.flat_root, by)

    def enlarge_disk(self, name, by):
        """The same for another disk."""
        _enlarge(self.disks[name], by)

    def power(self, arguments, serial):
        """Start the kernel; arguments are added to its command line.

        serial: two descriptors, what the guest reads from its ttyS0 and what it writes there to
        """
        if self.is_running():
            raise MachineError(f"{self.name} runs already")
        command = [
            # dies with us, takes all of the guest's processes along; on one processor, since UML
            # changes between its kernel and its processes all the time, and waking another costs
            "setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(self.rig.cpu), "unshare", "--pid", "--fork", "--kill-child=KILL", "--",
            "linux.uml", f"mem={self.memory}", f"umid={self.name}", f"uml_dir={self.workdir}",
            "noreboot", f"hostfs={self.share}", "con=null", "con0=fd:0,fd:1", "ssl=null",
            f"ubda={self.flat_root or f'{self.root_cow},{self.root_image}'}",
            *(f"{pathlib.Path(device).name}={self.disks[disk]}"
              for disk, device in self.devices.items()),
            f"ssl0=fd:{serial[0]},fd:{serial[1]}",
            *([f"vec0:transport=tap,ifname={self.rig.tap},depth=128,gro=1,"
               f"mac={MAC}"]
              if self.rig.tap else []),
            *KERNEL_ARGUMENTS, *(arguments if any(word.startswith("root=") for word in arguments)
                                 else [*PLAIN_ROOT, *arguments])]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.workdir),
                       "TMPDIR": "/dev/shm", "LD_PRELOAD": str(self.rig.preload)}
        if self.lossy is not None:
            environment["LD_PRELOAD"] += f" {host.lossy_library()}"
            environment["VMTEST_LOSSY"] = str(self.lossy)
            disks = [os.stat(path) for path in [self.flat_root, *self.disks.values()] if path]
            environment["VMTEST_LOSSY_DISKS"] = " ".join(
                str(number) for number in [disks[0].st_dev, *(disk.st_ino for disk in disks)])
            self.lossy += 1
        self._unplug_keyboard()
        keys, self.keyboard = os.pipe()
        with open(self.console_file, "ab") as console, open(keys, "rb") as keys:
            console.write(b"\n@@vmtest power on\n")
            console.flush()
            # a pipe, since UML takes no keys from a console whose output it cannot poll
            self.screen = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=console)
            with self.screen.stdin as output:
                self.process = self.rig.popen_in_namespace(
                    command, stdin=keys, stdout=output, stderr=subprocess.STDOUT,
                    env=environment, pass_fds=sorted(set(serial)))

    def type(self, text):
        """Type on the console's keyboard."""
        os.write(self.keyboard, text.encode())

    def _unplug_keyboard(self):
        if self.keyboard is not None:
            os.close(self.keyboard)
            self.keyboard = None

    def is_running(self):
        if self.process is not None and self.process.poll() is None:
            return True
        self._read_to_the_end()
        return False

    def _read_to_the_end(self):
        """The kernel is gone: what it has printed last is in the file on return."""
        if self.screen is not None:
            try:
                self.screen.wait(10)
            except subprocess.TimeoutExpired:  # a process of the guest's that has outlived it
                self.screen.kill()
                self.screen.wait()
            self.screen = None

    def power_cut(self):
        """Pull the plug: writes that the guest's driver has completed stay, all else is gone."""
        if self.process is None:
            return
        for pid in self._kernel_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._read_to_the_end()
        with open(self.console_file, "ab") as console:
            console.write(b"\n@@vmtest power cut\n")

    def _kernel_pids(self):
        """Children of the process we started: the UML kernel; its death ends its namespace."""
        try:
            path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
            return [int(pid) for pid in pathlib.Path(path).read_text().split()]
        except FileNotFoundError:
            return []

    def power_cut_after(self, seconds):
        """A power cut that happens while the caller goes on; join() the returned thread."""
        timer = threading.Timer(seconds, self.power_cut)
        timer.daemon = True
        timer.start()
        return timer

    def wait_off(self, timeout=60):
        """Wait until the kernel has ended by itself.

        Where there is firmware, the kernel's last word is its end; here the process has to end after it. When it
        does not, which was seen once, it is said how it hangs.
        """
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            if not self.printed().rstrip().endswith(LAST_WORDS):
                raise MachineError(f"{self.name} is still up after {timeout} s") from None
            print(f"note: {self.name} has gone off, its process hangs: {self._hangs_in()}")
            self.power_cut()
        self._read_to_the_end()

    def _hangs_in(self):
        """State and system call of the kernel's process, with its children's."""
        found = []
        for pid in self._kernel_pids():
            for task in [pid, *pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]:
                folder = pathlib.Path(f"/proc/{task}")
                try:
                    state = re.search(r"^State:\s*(\w)", (folder / "status").read_text(), re.M).group(1)
                    found.append(f"{task} {state} {(folder / 'wchan').read_text()} "
                                 f"{(folder / 'syscall').read_text().strip()}")
                except (OSError, AttributeError) as error:
                    found.append(f"{task} {error}")
        return "; ".join(found)

    # -- console

    def console(self):
        """All that the machine has printed since the rig made it."""
        return self.console_file.read_text(errors="replace").replace("\r\n", "\n")

    def console_since_power_on(self):
        return self.console().rpartition("@@vmtest power on\n")[2]

    def printed(self):
        """What wait_console() looks at."""
        return self.console_since_power_on()

    def wait_console(self, pattern, timeout=60):
        """Wait for a regular expression in what this power cycle has printed; the match."""
        end = time.monotonic() + timeout
        while True:
            running = self.is_running()
            match = re.search(pattern, self.printed(), re.MULTILINE)
            if match:
                return match
            if not running:
                raise MachineError(f"{self.name} went off without printing {pattern!r}")
            if time.monotonic() > end:
                raise MachineError(f"{self.name} did not print {pattern!r} in {timeout} s")
            time.sleep(0.02)

    # -- reports

    def report(self):
        """What a person wants to see when a scenario failed."""
        tail = "\n".join(self.console().splitlines()[-CONSOLE_TAIL_LINES:])
        return f"-- console of {self.name}\n{tail}\n"

    def clean_up(self):
        self.power_cut()
        self._unplug_keyboard()
