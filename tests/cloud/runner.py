# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the tests of the emulated cloud; called by `run`, which installs what is missing first."""
import fcntl
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Callable

import test_namespace
import test_protocol
from namespace import PYTHON, Namespace
from testlib import Caller

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get("VMCRYPT_CACHE", "/var/cache/vmcrypt-tests"), "cloud-npm")
CLIENT_SECONDS = 300  # they take some 10 s; more on a busy machine


class Skip(Exception):
    """This test cannot run here, and why."""


def npm_modules() -> str:
    """The folder node_modules with the pinned packages; filled once for each lock file."""
    os.makedirs(CACHE, exist_ok=True)
    source = os.path.join(HERE, "clients-js")
    lock = os.path.join(source, "package-lock.json")
    done = os.path.join(CACHE, "installed.json")
    with open(os.path.join(CACHE, ".lock"), "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # until it is closed: another run may be filling it
        if not os.path.exists(done) or not filecmp.cmp(lock, done, shallow=False):
            for name in ("package.json", "package-lock.json"):
                shutil.copy(os.path.join(source, name), CACHE)
            print("Fetching the clients with npm ci", flush=True)
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts",
                            "--loglevel=error"], cwd=CACHE, check=True, stdout=subprocess.DEVNULL)
            shutil.copy(lock, done)
    return os.path.join(CACHE, "node_modules")


def clients_js(ns: Namespace) -> None:
    program = os.path.join(ns.workdir, "clients.mjs")
    shutil.copy(os.path.join(HERE, "clients-js", "clients.mjs"), program)
    # node looks for modules beside the program, and nowhere else
    os.symlink(npm_modules(), os.path.join(ns.workdir, "node_modules"))
    ns.run(["node", program], check=True, timeout=CLIENT_SECONDS, env=_environment(ns))


def clients_python(ns: Namespace) -> None:
    ns.run([PYTHON, "-B", os.path.join(HERE, "clients-python", "clients.py")], check=True,
           timeout=CLIENT_SECONDS, env=_environment(ns))


def _environment(ns: Namespace) -> dict[str, str]:
    """Only the trust in our authority; no client option, no proxy, no address."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")
            and not k.startswith(("AZURE_", "IDENTITY_", "MSI_"))}
    return {**kept, "NODE_EXTRA_CA_CERTS": ns.ca_pem, "REQUESTS_CA_BUNDLE": ns.ca_pem}


def tests() -> dict[str, Callable]:
    """All tests by name: those of the namespace, of the protocol, and the vendor's clients."""
    found: dict[str, Callable] = {}
    for module in (test_namespace, test_protocol):
        for name, function in vars(module).items():
            if name.startswith("test_"):
                title = module.__name__.removeprefix("test_")
                found[f"{title}-{name[5:].replace('_', '-')}"] = function
    return {**found, "clients-js": clients_js, "clients-python": clients_python}


def main() -> int:
    names = [n for n in tests() if not sys.argv[1:] or sys.argv[1] == "--list"
             or any(n.startswith(a) for a in sys.argv[1:])]
    if sys.argv[1:2] == ["--list"]:
        print("\n".join(names))
        return 0
    count = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    with tempfile.TemporaryDirectory(prefix="vmcrypt-cloud-") as folder:
        for name in names:
            begin = time.monotonic()
            try:
                one(name, folder)
                result = "PASS"
            except Skip as why:
                result, name = "SKIP", f"{name} ({why})"
            except Exception:
                traceback.print_exc()
                result = "FAIL"
            count[result] += 1
            print(f"{result} {name} {time.monotonic() - begin:.1f}", flush=True)
    print(f"{count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped")
    return 0 if names and not count["FAIL"] else 1


_shared: dict[str, object] = {}


def one(name: str, folder: str) -> None:
    """One test; the protocol tests share a cloud, the others have their own."""
    test = tests()[name]
    if name.startswith("namespace-"):
        test(os.path.join(folder, name))
    elif name.startswith("clients-"):
        with Namespace(os.path.join(folder, name)) as ns:
            test(ns)
    else:
        if not _shared:
            ns = Namespace(os.path.join(folder, "protocol"))
            ns.__enter__()
            _shared.update(ns=ns, ask=Caller(ns))
        ns = _shared["ns"]
        ns.cloud.clear()
        test(ns, _shared["ask"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        if _shared:
            _shared["ns"].close()
