# SPDX-License-Identifier: LGPL-2.1-or-later
"""A scenario's rig: its network namespace with the cloud in it, and the machines it asks for."""

import os
import pathlib
import shutil
import sys

import host
import image
from bare import Bare
from vm import VM

TAP = "tap0"
CLOUD = pathlib.Path(__file__).resolve().parents[1] / "cloud"


class Skip(Exception):
    """Raised by a scenario that cannot be tried here; the text says why."""


class Rig:
    """Context manager; on leaving, everything the scenario started ends.

    cloud: control client of the emulated cloud, None without one
    namespace: network namespace with .run() and .popen()
    """

    def __init__(self, name, workdir, product_tar=None, cpu=0):
        self.name = name
        self.workdir = pathlib.Path(workdir)
        self.base_image = self._hold(image.base_image())
        self.preload = host.preload_library()
        self.product_tar = product_tar
        self.machines = []
        self.namespace = self._make_namespace()
        self.tap = TAP
        self.cpu = cpu

    def _hold(self, path):
        """A name of our own for the base image: a newer one may replace it while we run."""
        held = self.workdir / path.name
        try:
            os.link(path, held)
        except OSError:  # another filesystem
            return path
        return held

    def _make_namespace(self):
        if not (CLOUD / "namespace.py").exists():
            return host.PlainNamespace(TAP)
        sys.path.append(str(CLOUD))
        from namespace import Namespace
        folder = self.workdir / "cloud"
        folder.mkdir()
        return Namespace(folder, tap=TAP)

    def __enter__(self):
        self.namespace.__enter__()
        return self

    def __exit__(self, *_):
        for machine in self.machines:
            machine.clean_up()
        self.namespace.__exit__(None, None, None)

    @property
    def cloud(self):
        return self.namespace.cloud

    def popen_in_namespace(self, argv, **kw):
        return self.namespace.popen(argv, **kw)

    def fill_share(self, share):
        """What every machine's first boot looks for."""
        if self.product_tar:
            os.link(self.product_tar, share / "product.tar")
        if self.namespace.ca_pem:
            pem = self.namespace.ca_pem
            if isinstance(pem, bytes):
                (share / "ca.pem").write_bytes(pem)
            else:
                shutil.copyfile(pem, share / "ca.pem")

    def vm(self, disks=None, memory="768M", name=None, boot_disk=None):
        """A whole Debian, not yet booted. There is one tap: one machine runs at a time.

        boot_disk: size of a disk of its own for /boot; then kernel arguments and initramfs come
        from there at each boot, see loader.py. Without it the kernel mounts /dev/ubda itself.
        """
        return self._add(VM, disks, memory, name, boot_disk=boot_disk)

    def bare(self, disks=None, memory="256M", name=None):
        """A machine that boots into one script, see bare.py."""
        return self._add(Bare, disks, memory, name)

    def _add(self, kind, disks, memory, name, **more):
        name = name or f"{kind.__name__.lower()}{len(self.machines)}"
        machine = kind(self, name, disks or {}, memory, **more)
        self.machines.append(machine)
        return machine

    def report(self):
        return "".join(machine.report() for machine in self.machines)

    @staticmethod
    def skip(reason):
        raise Skip(reason)
