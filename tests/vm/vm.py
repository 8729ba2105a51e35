# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole Debian with systemd, run from outside through an agent on a serial line."""

import base64
import itertools
import json
import os
import pathlib
import queue
import secrets
import shlex
import subprocess
import tempfile
import threading
import time
import types

import files
import image
import layout
import loader
from machine import Machine, MachineError, parse_size

FIRST_INIT = "init=/usr/lib/vmtest/init"
BOOT = "boot"  # name of the disk that is /boot
LONGEST_LINE = 2000  # longer ones go through the shared folder, see the agent
HELLO_TIMEOUT_S = 180
BOOT_TIMEOUT_S = 240
JOURNAL_LINES = 120


class CommandError(MachineError):
    """A command in the guest failed; .result has code, out and err."""

    def __init__(self, command, result):
        what = "did not end in time" if result.code == -1 else f"ended with {result.code}"
        super().__init__(f"{command!r} {what}\n{result.out}{result.err}".rstrip())
        self.result = result


class Line:
    """Our end of the guest's serial line; see guest/root/usr/lib/vmtest/agent for the words."""

    def __init__(self, share):
        self._share = share
        from_us, self._to_guest = os.pipe()
        self._from_guest, to_us = os.pipe()
        self.theirs = [from_us, to_us]
        self.hello = queue.Queue()
        self._numbers = itertools.count(1)
        self._waiting = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False

    def start(self):
        """Call after the machine has inherited its end."""
        for descriptor in self.theirs:
            os.close(descriptor)
        threading.Thread(target=self._read, daemon=True).start()

    def close(self):
        os.close(self._to_guest)  # the reader closes its own when the machine is gone

    def _read(self):
        pending = b""
        while True:
            data = os.read(self._from_guest, 1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for text in lines:
                # firmware may have written here before, without an end of its last line
                text = text[max(0, text.find(b'{"hello"')):]
                try:
                    message = json.loads(text)
                except ValueError:
                    continue
                if "file" in message:
                    path = self._share / message["file"]
                    message = json.loads(path.read_bytes())
                    path.unlink()
                if "hello" in message:
                    self.hello.put(message["hello"])
                else:
                    with self._lock:
                        box = self._waiting.pop(message["id"], None)
                    if box:
                        box.put(message)
        os.close(self._from_guest)
        with self._lock:
            self._closed = True
            boxes, self._waiting = self._waiting, {}
        for box in boxes.values():
            box.put(None)

    def ask(self, patience_s, **request):
        """Send a request, wait for its reply."""
        box = queue.Queue()
        with self._lock:
            if self._closed:
                raise MachineError("the machine is off")
            number = next(self._numbers)
            self._waiting[number] = box
        try:
            data = json.dumps(dict(request, id=number)).encode()
            if len(data) > LONGEST_LINE:
                name = f"request-{secrets.token_hex(8)}"
                (self._share / name).write_bytes(data)
                data = json.dumps({"file": name}).encode()
            data += b"\n"
            with self._writing:
                while data:
                    data = data[os.write(self._to_guest, data):]
            reply = box.get(timeout=patience_s)
        except queue.Empty:
            raise MachineError(f"no reply from the machine in {patience_s:.0f} s "
                               f"to {request['op']}") from None
        except OSError:
            reply = None
        if reply is None:
            raise MachineError(f"the machine went off during {request['op']}")
        if "error" in reply:
            raise MachineError(f"{request['op']}: {reply['error']}")
        return reply


class VM(Machine):
    """vm = rig.vm(disks={"data": "512M"}); vm.boot(); vm.run("lsblk")"""

    # between two questions about its disks: each costs a second of this slow processor, which the conversion wants too
    LOOK_S = 3

    def __init__(self, rig, name, disks, memory, boot_disk=None, root="ext4", stage=None):
        root_image = stage.root_image if stage else layout.make(root, rig)
        super().__init__(rig, name, {} if stage else disks, memory, root_image)
        self.root = stage.root if stage else root
        self.notes = dict(stage.notes) if stage else {}  # texts that a stage keeps for its scenarios
        self.line = None
        self.boot_id = None
        self.boot_seconds = None
        self._laid_out = bool(stage)
        self._loads_from = None
        rig.fill_share(self.share)
        if stage:
            stage.copy_disks(self)
            self._loads_from = self.disks.get(BOOT)
            self.make_disks(disks)
        elif boot_disk:
            self._make_boot_disk(boot_disk)
        elif layout.LAYOUTS[root].boots:
            self.flatten_root()
        elif root != "ext4":
            raise ValueError(f"a root of {root} needs an initramfs, so a boot disk")
        if self._loads_from:
            self.flatten_root()

    def _make_boot_disk(self, size):
        chosen = layout.LAYOUTS[self.root]
        self._loads_from = self.workdir / f"{BOOT}.img"
        loader.make_disk(self._loads_from, size, self.rig.base_image, chosen.arguments)
        self.add_disk(BOOT, self._loads_from)
        fstab = "\n".join([*chosen.fstab, loader.fstab_line()])
        (self.share / "first-boot").write_text(
            f"cat > /etc/fstab <<'END'\n{fstab}\nEND\nrm -rf /boot/*\n")

    # -- power

    def boot(self, wait="up", arguments=(), timeout=BOOT_TIMEOUT_S):
        """Power on.

        wait: "up" = until systemd has finished starting, "agent" = until commands can be run
              (early, before local file systems), None = do not wait
        arguments: more words for the kernel's command line
        """
        began = time.monotonic()
        if self.line:
            self.line.close()
        self.line = Line(self.share)
        first = [] if self._laid_out else [FIRST_INIT]
        loaded = self._load()
        self.power([*loaded, *first, "systemd.show_status=0", *arguments], self.line.theirs)
        self.line.start()
        self._laid_out = True
        if wait:
            self.wait_agent(timeout)
        if wait == "up":
            self.wait_up(timeout - (time.monotonic() - began))
        self.boot_seconds = time.monotonic() - began

    def _load(self):
        if self._loads_from:
            return loader.load(self._loads_from, self.workdir)
        if layout.LAYOUTS[self.root].boots:
            return loader.load_from_disk(self.flat_root, self.workdir)
        return []

    def wait_agent(self, timeout=HELLO_TIMEOUT_S):
        """Wait until the guest's agent has said hello."""
        end = time.monotonic() + timeout
        while True:
            try:
                self.boot_id = self.line.hello.get(timeout=0.1)
                return
            except queue.Empty:
                if not self.is_running():
                    raise MachineError(f"{self.name} went off while it booted") from None
                if time.monotonic() > end:
                    raise MachineError(f"{self.name} did not boot in {timeout:.0f} s") from None

    def wait_up(self, timeout=BOOT_TIMEOUT_S):
        """Wait until systemd has finished starting; units may have failed, see failed_units()."""
        result = self.run("systemctl is-system-running --wait", check=False, timeout=timeout)
        if result.out.strip() not in ("running", "degraded"):
            jobs = self.run("systemctl list-jobs --no-pager", check=False, timeout=10).out
            raise MachineError(f"{self.name} is {result.out.strip() or 'not up'}; jobs:\n{jobs}")

    def failed_units(self):
        return self.run("systemctl list-units --failed --plain --no-legend --no-pager "
                        "| awk '{print $1}'").split()

    def shutdown(self, timeout=90):
        """Power off in an orderly way."""
        self._ask_systemd("poweroff")
        self.wait_off(timeout)

    def reboot(self, wait="up", arguments=(), timeout=90):
        """Reboot in an orderly way from inside; back when it is up again."""
        self._ask_systemd("reboot")
        self.wait_off(timeout)
        if "reboot: Restarting system" not in self.console_since_power_on():
            raise MachineError(f"{self.name} went off instead of rebooting")
        self.boot(wait=wait, arguments=arguments)

    def _ask_systemd(self, verb):
        try:
            self.run(f"systemctl --no-block {verb}", timeout=20)
        except CommandError:
            raise
        except MachineError:
            pass  # it may be gone before it has answered

    # -- commands

    def run(self, command, check=True, timeout=60, input=b""):
        """Run a shell command (bash) in the guest.

        Return: its standard output; with check=False an object with .code .out .err, where code
        is -1 after a timeout.
        """
        if isinstance(input, str):
            input = input.encode()
        timeout = max(timeout, 1)
        reply = self.line.ask(timeout + 20, op="run", command=command, timeout=timeout,
                              input=base64.b64encode(input).decode())
        result = types.SimpleNamespace(
            code=reply["code"], out=base64.b64decode(reply["out"]).decode(errors="replace"),
            err=base64.b64decode(reply["err"]).decode(errors="replace"))
        if not check:
            return result
        if result.code:
            raise CommandError(command, result)
        return result.out

    def spawn(self, command):
        """Start a shell command in the guest that goes on by itself; its process id."""
        return self.line.ask(30, op="spawn", command=command)["pid"]

    def put(self, path, data, mode=0o644):
        """Write a file in the guest, with the folders above it; data: text or bytes."""
        if isinstance(data, str):
            data = data.encode()
        self.line.ask(60, op="put", path=path, mode=mode,
                      data=base64.b64encode(data).decode())

    def get(self, path, text=True):
        """A file of the guest."""
        data = base64.b64decode(self.line.ask(60, op="get", path=path)["data"])
        return data.decode(errors="replace") if text else data

    def wait_for(self, condition, timeout=60, interval=0.3):
        """Wait until a shell command in the guest succeeds; its output."""
        end = time.monotonic() + timeout
        while True:
            result = self.run(condition, check=False, timeout=timeout)
            if result.code == 0:
                return result.out
            if time.monotonic() > end:
                raise MachineError(f"not within {timeout} s: {condition}\n"
                                   f"{result.out}{result.err}".rstrip())
            time.sleep(interval)

    # -- files with checksums, see files.py

    def fill(self, folder, size):
        """Make a tree of files of about this total size, with checksums beside verify()'s."""
        files.fill(self, folder, parse_size(size))

    def verify(self, folder):
        """Every file that fill() made is there, bit by bit."""
        files.verify(self, folder)

    def writer(self, folder):
        """A process in the guest that goes on writing files until writer.stop()."""
        return files.Writer(self, folder)

    # -- reports

    def journal(self, arguments=""):
        """The journal as text: from the guest if it answers, else from its disk."""
        if self.is_running():
            try:
                return self.run(f"journalctl --no-pager -o short-monotonic {arguments}",
                                timeout=15)
            except MachineError:
                self.power_cut()
        return self._journal_from_disk(arguments)

    def _journal_from_disk(self, arguments):
        if not self.root_cow.exists() and not self.flat_root:
            return ""
        chosen = layout.LAYOUTS[self.root]
        if chosen.filesystem != "ext4":
            return f"(not read from a disk of layout {self.root})\n"
        with tempfile.TemporaryDirectory(dir=self.workdir) as folder:
            whole = pathlib.Path(folder) / "root.img"
            if self.flat_root:
                subprocess.run(["cp", "--sparse=always", self.flat_root, whole], check=True)
            else:
                image.merge_overlay(self.root_cow, self.root_image, whole)
            filesystem = f"{whole}?offset={chosen.at}"
            subprocess.run(["e2fsck", "-fy", filesystem], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            subprocess.run(["debugfs", "-R", f"rdump /var/log/journal {folder}", filesystem],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return subprocess.run(
                ["journalctl", "-D", f"{folder}/journal", "--no-pager", "-o", "short-monotonic",
                 *shlex.split(arguments)], capture_output=True, text=True, errors="replace").stdout

    def report(self):
        text = super().report()
        try:
            journal = self.journal(f"-n {JOURNAL_LINES}")
        except Exception as error:  # a report must not hide the failure that it is about
            journal = f"(cannot be read: {error})\n"
        return f"{text}-- journal of {self.name}\n{journal}"
