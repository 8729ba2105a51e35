# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the benches one after the other; called by `run`, which says how it is used.

A bench is a module of this folder with a sentence, RUNS (how often each thing is measured unless told) and
run(host, runs), which yields its figures.
"""

import argparse
import ast
import contextlib
import importlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "bench"), str(TESTS / "vm")]

import host  # noqa: E402
import image  # noqa: E402
import product  # noqa: E402
from rig import Rig  # noqa: E402

BENCHES = {"boot-unlock": "boot_unlock", "os-downtime": "os_downtime"}
GROUPS = ("build", "cloud", "vm", "bench")  # of tests/packages


def say(text):
    print(f"-- {text}", file=sys.stderr, flush=True)


class Bench:
    """What a bench's rigs are made of."""

    def __init__(self, product_tar):
        self.product_tar = product_tar
        self.cpu = max(os.sched_getaffinity(0))  # every machine on the same one
        self.say = say

    @contextlib.contextmanager
    def rig(self, name):
        """A network with a cloud in it, and room for machines that begin at one stage."""
        workdir = pathlib.Path(tempfile.mkdtemp(dir=_runs_directory(), prefix=f"{os.getpid()}-{name}-"))
        try:
            with Rig(name, workdir, self.product_tar, self.cpu) as rig:
                try:
                    yield rig
                except Exception:
                    print(rig.report(), file=sys.stderr)
                    raise
        finally:
            shutil.rmtree(workdir, ignore_errors=True)


def _runs_directory():
    path = image.cache_directory() / "runs"
    path.mkdir(exist_ok=True)
    return path


def stripped(tar):
    """The product as a package has it: without debugging information, which would count in an initramfs."""
    with tempfile.TemporaryDirectory(dir=image.cache_directory(), prefix="bench.") as folder:
        subprocess.run(["tar", "-C", folder, "-xf", tar], check=True)
        for path in pathlib.Path(folder).rglob("*"):
            if path.is_file() and not path.is_symlink() and path.open("rb").read(4) == b"\x7fELF":
                subprocess.run(["strip", "--strip-unneeded", path], check=True)
        subprocess.run(["tar", "-C", folder, "--owner=0", "--group=0", "-cf", tar, "."], check=True)


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="Measure, against what else there is.")
    parser.add_argument("--list", action="store_true", help="name the benches")
    parser.add_argument("--runs", type=int, metavar="N", help="how often each thing is measured")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHES]
    if unknown:
        parser.error("no such bench: " + " ".join(unknown))
    if options.runs is not None and options.runs < 1:
        parser.error("--runs: at least 1")
    return options


def main():
    options = arguments()
    if options.list:
        for name, module in BENCHES.items():
            text = ast.get_docstring(ast.parse((TESTS / "bench" / f"{module}.py").read_text()))
            print(f"{name:14} {text.splitlines()[0]}")
        return
    if os.geteuid() != 0:
        sys.exit("must be root: network namespaces and image building need it")
    figures, sys.stdout = sys.stdout, sys.stderr  # whatever the rig says is not a figure
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if subprocess.run([TESTS / "need", *GROUPS], stdout=sys.stderr).returncode:
        sys.exit(1)
    host.clear_leftovers(_runs_directory())
    host.preload_library()
    image.base_image()
    tar = product.build()
    try:
        stripped(tar)
        for name in dict.fromkeys(options.names) or BENCHES:
            bench = importlib.import_module(BENCHES[name])
            for figure in bench.run(Bench(tar), options.runs or bench.RUNS):
                print(json.dumps({"bench": name, **figure}), file=figures, flush=True)
    finally:
        tar.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
