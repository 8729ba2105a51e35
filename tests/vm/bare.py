# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest without systemd: the same Debian, one script, power off. For power cuts by the dozen."""

import os
import re
import time
import types

from machine import Machine, MachineError

INIT = "init=/usr/lib/vmtest/bare-init"


class BareError(MachineError):
    """A script ended with failure; .result has code and out."""


class Bare(Machine):
    """bare = rig.bare(disks={"data": "64M"}); print(bare.run("lsblk").out)

    The root overlay persists between scripts as the disks do.
    """

    def __init__(self, rig, name, disks, memory):
        super().__init__(rig, name, disks, memory)
        self.output_file = self.workdir / "output"
        self.output_file.touch()
        rig.fill_share(self.share)

    def start(self, script, arguments=()):
        """Boot and let the script (bash) run."""
        (self.share / "bare-script").write_text(script)
        with open(self.output_file, "wb") as output, open(os.devnull, "rb") as nothing:
            self.power([INIT, *arguments], [nothing.fileno(), output.fileno()])

    def output(self):
        """What the script of this power cycle has printed so far."""
        return self.output_file.read_text(errors="replace")

    printed = output

    def wait(self, timeout=120):
        """Wait until the machine is off.

        Return: object with .out, what the script printed, and .code, None if it did not end
        because of a power cut or a crash.
        """
        try:
            self.wait_off(timeout)
        except MachineError:
            self.power_cut()
            raise
        out = self.output()
        end = re.search(r"^@@vmtest end (\d+)$", out, re.MULTILINE)
        return types.SimpleNamespace(out=out[:end.start()] if end else out,
                                     code=int(end[1]) if end else None)

    def run(self, script, check=True, timeout=120, arguments=()):
        """start() and wait(); raises unless the script ends with 0."""
        self.start(script, arguments)
        result = self.wait(timeout)
        if check and result.code != 0:
            error = BareError(f"script ended with {result.code}\n{result.out}".rstrip())
            error.result = result
            raise error
        return result

    def power_cut_at(self, pattern, timeout=60, delay=0):
        """Cut the power as soon as the script has printed what matches the regular expression."""
        match = self.wait_console(pattern, timeout)
        time.sleep(delay)
        self.power_cut()
        return match

    def report(self):
        return f"{super().report()}-- output of the script in {self.name}\n{self.output()[-4000:]}\n"
