# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files with checksums in a guest: a tree that must not change, a writer that does not stop."""

import pathlib
import shlex

GUEST = pathlib.Path(__file__).resolve().parent / "guest"
HELPER = "/var/tmp/vmtest/files"


def _helper(vm):
    vm.put(HELPER, (GUEST / "files").read_text(), mode=0o755)
    return HELPER


def fill(vm, folder, size):
    vm.run(f"{_helper(vm)} fill {shlex.quote(folder)} {size}", timeout=300)


def verify(vm, folder):
    vm.run(f"{_helper(vm)} verify {shlex.quote(folder)}", timeout=300)


class Writer:
    """Goes on writing until stop(); see guest/files, write()."""

    def __init__(self, vm, folder):
        self.vm, self.folder = vm, folder
        self.start()

    def start(self):
        """Begin, or go on after a reboot or a power cut."""
        self.vm.spawn(f"exec {_helper(self.vm)} write {shlex.quote(self.folder)}")

    def stop(self):
        """End it; how many files it has finished in all."""
        return int(self.vm.run(f"{HELPER} stop {shlex.quote(self.folder)}"))

    def count(self):
        """How many files it has finished by now."""
        return int(self.vm.run(f"{HELPER} count {shlex.quote(self.folder)}"))

    def verify(self):
        """Every file that the writer has finished has its checksum."""
        self.vm.run(f"{HELPER} verify-written {shlex.quote(self.folder)}", timeout=300)
