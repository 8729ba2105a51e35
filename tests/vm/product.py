# SPDX-License-Identifier: LGPL-2.1-or-later
"""The product as a tar file that the guest lays over its image at first boot."""

import hashlib
import os
import pathlib
import shutil
import subprocess

import image

SOURCE = pathlib.Path(__file__).resolve().parents[2]
OPTIONS = ["--buildtype=debugoptimized", "--prefix=/usr", "--sysconfdir=/etc",
           "--localstatedir=/var", "--libdir=lib/x86_64-linux-gnu"]


def exists():
    return (SOURCE / "meson.build").exists()


def build(say=print):
    """Build and stage the tree we are in.

    Return: path of product.tar, or None while there is no product.
    """
    if not exists():
        say("no meson.build: guests run without the product")
        return None
    key = hashlib.sha256(str(SOURCE).encode()).hexdigest()[:12]
    folder = image.cache_directory() / f"product-{key}"
    build_folder, stage = folder / "build", folder / "stage"
    folder.mkdir(exist_ok=True)
    with image.locked(f"product-{key}"):
        if not (build_folder / "build.ninja").exists():
            shutil.rmtree(build_folder, ignore_errors=True)
            _quietly(["meson", "setup", *OPTIONS, build_folder, SOURCE])
        _quietly(["ninja", "-C", build_folder])
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        _quietly(["meson", "install", "-C", build_folder, "--no-rebuild", "--destdir", stage])
        tar = folder / f"product-{os.getpid()}.tar"
        for old in folder.glob("product-*.tar"):
            if not os.path.exists(f"/proc/{old.stem.split('-')[1]}"):
                old.unlink()
        _quietly(["tar", "-C", stage, "--owner=0", "--group=0", "-cf", tar, "."])
    return tar


def _quietly(command):
    """Run; the output is shown only when it fails. Our own python3 first: meson has to find it."""
    environment = dict(os.environ, PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace", env=environment)
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{result.stdout[-8000:]}")
