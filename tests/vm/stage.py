# SPDX-License-Identifier: LGPL-2.1-or-later
"""A stage: a machine and its cloud at a point where several scenarios begin, built once and kept.

What a stage holds, in a folder of the cache:

    root.img      the root disk; every machine made from it lays an overlay of its own over this file
    NAME.img      the other disks, of which every machine gets a copy
    cloud/        state.json and the authority that the guests trust; absent without a cloud
    about.json    {"root": layout, "memory": "768M", "disks": [names in their order], "notes": {…}}
    checkout      path of the tree that it belongs to

It is known under the hash of all that it was made with; one of another content is never used. Its folder gets its
name when it is whole.
"""

import hashlib
import inspect
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import time

import image

HERE = pathlib.Path(__file__).resolve().parent
CLOUD = HERE.parent / "cloud"
CHECKOUT = HERE.parents[1]
AGE_MAX_S = 30 * 86400  # the authority's certificate is good for 60 days
SHUTDOWN_S = 180
READY = "stage-is-ready"  # a file in the scenario's working folder: it waits for nobody any more


class Stage:
    """One that is there, by links of our own to its files: the cache may be rid of it."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        about = json.loads((folder / "about.json").read_text())
        self.root = about["root"]
        self.memory = about["memory"]
        self.notes = about["notes"]
        self.root_image = folder / "root.img"
        self._disks = about["disks"]

    def copy_disks(self, machine):
        for name in self._disks:
            path = machine.workdir / f"{name}.img"
            copy(self.folder / path.name, path)
            machine.add_disk(name, path)

    @property
    def cloud(self):
        """Folder with the cloud's authority and state, None without a cloud."""
        folder = self.folder / "cloud"
        return folder if folder.exists() else None


def copy(source, target):
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", "--no-preserve=mode", source, target],
                   check=True)


def get(name, build, rig):
    """The stage of this name, built by build(rig) if it is not there; one process at a time.

    build: gets a rig of its own and returns the VM that it has booted; that is then shut down here
    """
    folder = image.cache_directory() / f"stage-{name}-{_key(rig, build)}"
    with image.locked(f"stage-{name}"):
        if not folder.exists():
            _fail_again(folder, rig)
            _remove_old(name, folder)
            began = time.monotonic()
            try:
                _build(folder, build, rig)
            except BaseException as error:
                _note_failure(folder, rig, error)
                raise
            print(f"stage {name}: built in {time.monotonic() - began:.0f} s")
        ours = rig.workdir / "stage-files"
        subprocess.run(["cp", "--recursive", "--link", folder, ours], check=True)
    return Stage(name, ours)


def _key(rig, build):
    sources = sorted([*HERE.glob("*.py"), *CLOUD.glob("*.py"), pathlib.Path(inspect.getfile(build))])
    parts = [rig.base_image.name, int(time.time() // AGE_MAX_S)]
    for path in sources:
        parts += [path.name, path.read_bytes()]
    return image._digest(*parts, build.__qualname__, *_contents(rig.product_tar))


def _contents(tar):
    """What is in the product, whenever it was packed."""
    if not tar:
        return
    with tarfile.open(tar) as archive:
        for member in sorted(archive, key=lambda member: member.name):
            yield f"{member.name} {member.mode:o} {member.type} {member.linkname}"
            if member.isfile():
                yield hashlib.sha256(archive.extractfile(member).read()).hexdigest()


def _build(folder, build, rig):
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    with rig.inner() as builder:
        try:
            vm = build(builder)
            vm.shutdown(timeout=SHUTDOWN_S)
            vm.flatten_root()
            vm.flat_root.rename(part / "root.img")
            for name, path in vm.disks.items():
                copy(path, part / f"{name}.img")
            if builder.cloud:
                builder.namespace.save(part / "cloud")
            about = {"root": vm.root, "memory": vm.memory, "disks": list(vm.disks),
                     "notes": vm.notes}
            (part / "about.json").write_text(json.dumps(about))
        except BaseException:
            print(f"-- of the stage's own machines:\n{builder.report()}", flush=True)
            raise
    (part / "checkout").write_text(str(CHECKOUT))
    part.rename(folder)


def _remove_old(name, folder):
    """Stages of that name which this checkout, or one that is gone, cannot use any more."""
    for other in image.cache_directory().glob(f"stage-{name}-????????????*/"):
        checkout = other / "checkout"
        owner = checkout.read_text() if checkout.exists() else ""
        if other != folder and (owner == str(CHECKOUT) or not os.path.exists(owner)):
            shutil.rmtree(other, ignore_errors=True)


# A stage that cannot be built costs each of its scenarios as long as the first: they are told instead.

def _failure(folder, rig):
    """Beside the working folders of the run, and cleared away as they are."""
    return rig.runs / f"{rig.run}-{folder.name}.failed"


def _fail_again(folder, rig):
    try:
        text = (_failure(folder, rig) / "text").read_text()
    except FileNotFoundError:
        return
    raise RuntimeError(f"the stage could not be built before, in this run: {text}")


def _note_failure(folder, rig, error):
    note = _failure(folder, rig)
    note.mkdir(exist_ok=True)
    (note / "text").write_text(f"{type(error).__name__}: {error}")
