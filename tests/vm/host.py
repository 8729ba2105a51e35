# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the rig needs of the host: packages, the preload library, network namespaces, leftovers."""

import ctypes
import hashlib
import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess

import image

HERE = pathlib.Path(__file__).resolve().parent

NAMESPACE_PREFIX = "vmt-"
PR_SET_PDEATHSIG = 1


def ensure_packages(*groups):
    """Install what is missing of these groups of tests/packages; asks nothing of apt when nothing is."""
    if subprocess.run([HERE.parent / "need", *groups]).returncode:
        raise SystemExit(1)


def preload_library():
    """Path of the compiled ptrace-xstate.c."""
    return _library("ptrace-xstate")


def lossy_library():
    """Path of the compiled lossy-disk.c."""
    return _library("lossy-disk")


def _library(name):
    source = HERE / f"{name}.c"
    key = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    path = image.cache_directory() / f"{name}-{key}.so"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", source, "-o", part],
                       check=True)
        part.rename(path)
    return path


def die_with_parent():
    """Make the calling process end when its parent does, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class PlainNamespace:
    """A network namespace with a tap device and nobody in it: for scenarios without a cloud."""

    _numbers = itertools.count()
    cloud = None
    ca_pem = None

    def __init__(self, tap):
        self.name = f"{NAMESPACE_PREFIX}{os.getpid()}-{next(self._numbers)}"
        self.tap = tap

    def __enter__(self):
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run(["ip", "link", "set", "lo", "up"], check=True)
        self.run(["ip", "tuntap", "add", "dev", self.tap, "mode", "tap"], check=True)
        self.run(["ip", "link", "set", self.tap, "up"], check=True)
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "delete", self.name], stderr=subprocess.DEVNULL)

    def popen(self, argv, **kw):
        return subprocess.Popen(["ip", "netns", "exec", self.name, *map(str, argv)], **kw)

    def run(self, argv, **kw):
        return subprocess.run(["ip", "netns", "exec", self.name, *map(str, argv)], **kw)


def clear_leftovers(runs):
    """Remove namespaces and working folders of runs whose process is gone.

    runs: folder that holds the working folders, named PID-…
    """
    listing = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    for line in listing.splitlines():
        match = re.match(rf"{NAMESPACE_PREFIX}(\d+)-", line)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            subprocess.run(["ip", "netns", "delete", line.split()[0]])
    for folder in runs.glob("*-*"):
        pid = folder.name.split("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}") and not (folder / "keep").exists():
            shutil.rmtree(folder, ignore_errors=True)
