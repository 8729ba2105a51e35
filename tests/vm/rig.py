# SPDX-License-Identifier: LGPL-2.1-or-later
"""A scenario's rig: its network namespace with the cloud in it, and the machines it asks for."""

import os
import pathlib
import shutil
import sys

import host
import image
import stage
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

    def __init__(self, name, workdir, product_tar=None, cpu=0, outer=None):
        self.name = name
        self.workdir = pathlib.Path(workdir)
        # working folders of a run lie in one folder, and begin with the number of its process
        self.runs = outer.runs if outer else self.workdir.parent
        self.run = outer.run if outer else self.workdir.name.split("-")[0]
        self.base_image = self.hold(outer.base_image if outer else image.base_image())
        self.preload = host.preload_library()
        self.product_tar = product_tar
        self.machines = []
        self.namespace = self._make_namespace()
        self.tap = TAP
        self.cpu = cpu
        self._stage = None
        self._inner = 0

    def hold(self, path, name=None):
        """A name of our own for a file of the cache: a newer one may replace it while we run."""
        held = self.workdir / (name or path.name)
        try:
            os.link(path, held)
        except FileExistsError:
            pass
        except OSError:  # another filesystem
            return path
        return held

    def inner(self):
        """A rig inside this one, with a cloud and machines of its own."""
        self._inner += 1
        folder = self.workdir / f"inner{self._inner}"  # short: paths of sockets have a limit
        folder.mkdir()
        return Rig(folder.name, folder, self.product_tar, self.cpu, outer=self)

    def _make_namespace(self, saved=None):
        if not (CLOUD / "namespace.py").exists():
            return host.PlainNamespace(TAP)
        sys.path.append(str(CLOUD))
        from namespace import Namespace
        folder = self.workdir / "cloud"
        folder.mkdir(exist_ok=True)
        return Namespace(folder, tap=TAP, saved=saved)

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

    def vm(self, disks=None, memory="768M", name=None, boot_disk=None, root="ext4"):
        """A whole Debian, not yet booted. There is one tap: one machine runs at a time.

        boot_disk: size of a disk of its own for /boot; then kernel arguments and initramfs come
        from there at each boot, see loader.py. Without it the kernel mounts /dev/ubda itself.
        root: how the root disk is laid out, a key of layout.LAYOUTS; all but "ext4" need a boot_disk
        """
        return self._add(VM, disks, memory, name, boot_disk=boot_disk, root=root)

    def stage(self, name, build, memory=None, disks=None):
        """A machine as build(rig) leaves it, powered off, and the cloud as it was then, see stage.py.

        Built by the first scenario that asks, kept for all others. To be asked for before any other
        machine: the cloud begins anew, with the authority that the stage's machine trusts. Asked for
        again, it is a further machine from the same point.
        name: of the stage; a scenario names it in STAGE too, so that no other waits while it is built
        memory: of this machine, if not as much as it had
        disks: more disks, empty ones
        """
        if any(machine.is_running() for machine in self.machines):
            raise ValueError(f"stage {name} is asked for while a machine runs")
        if self._stage is None:
            if self.machines:
                raise ValueError(f"stage {name} is asked for after other machines")
            self._stage = stage.get(name, build, self)
            self._begin_anew(self._stage.cloud)
            (self.workdir / stage.READY).touch()
        elif self._stage.name != name:
            raise ValueError(f"this rig begins at stage {self._stage.name}, not at {name}")
        elif self._stage.cloud:
            self.cloud.load(self._stage.cloud / "state.json")
        return self._add(VM, disks, memory or self._stage.memory, None, stage=self._stage)

    def _begin_anew(self, saved):
        if saved:
            self.namespace.__exit__(None, None, None)
            self.namespace = self._make_namespace(saved)
            self.namespace.__enter__()

    def qemu(self, firmware, disks=None, memory="640M", name=None):
        """A whole Debian behind firmware ("bios" or "uefi") and GRUB, not yet booted; see qemu.py."""
        from qemu import QemuVM
        return self._add(QemuVM, disks, memory, name, firmware=firmware)

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
