# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a namespace promises: apart from everything else, and gone without a trace."""
import os
import signal
import subprocess
import time

from namespace import GATEWAY, GUEST, PLATFORM, PYTHON, Namespace

HERE = os.path.dirname(os.path.abspath(__file__))


def _names() -> str:
    return subprocess.run(["ip", "netns", "list"], stdout=subprocess.PIPE, text=True).stdout


def _gone(ns: str, workdir: str) -> None:
    assert ns not in _names()
    assert not os.path.exists(f"/etc/netns/{ns}")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                assert workdir not in f.read(), pid
        except OSError:
            pass


def test_side_by_side(workdir: str) -> None:
    """Two with the same addresses do not see each other; the host sees none of it."""
    with Namespace(workdir + "/a" * 60) as a, Namespace(workdir + "/b") as b:
        a.cloud.set_secret("kv1", "own", "a")
        assert "own" not in b.cloud.state()["vaults"]["kv1.vault.azure.net"]["secrets"]
        addresses = subprocess.run(["ip", "-o", "address"], stdout=subprocess.PIPE,
                                   text=True).stdout
        assert "169.254.169.254" not in addresses
    _gone(a.name, a.workdir)
    _gone(b.name, b.workdir)


def test_save(workdir: str) -> None:
    """Another one with the same vaults, which clients of the first trust."""
    with Namespace(workdir + "/a") as a:
        a.cloud.set_secret("kv1", "own", "a")
        state = a.cloud.state()
        a.save(workdir + "/saved")
    for saved, expected in ((workdir + "/saved", "200"), (None, "000")):
        with Namespace(workdir + "/b", saved=saved) as b:
            code = b.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", a.ca_pem,
                          "https://kv1.vault.azure.net/healthstatus"], stdout=subprocess.PIPE, text=True).stdout
            assert code == expected, (saved, code)
            assert (b.cloud.state() == state) == bool(saved)


def test_ends_with_a_failing_test(workdir: str) -> None:
    try:
        with Namespace(workdir, tap="tap0") as ns:
            ns.popen(["sleep", "1000"])
            raise KeyError
    except KeyError:
        pass
    _gone(ns.name, ns.workdir)


def test_ends_with_a_killed_test(workdir: str) -> None:
    program = (f"import sys, time; sys.path.insert(0, {HERE!r})\n"
               "from namespace import Namespace\n"
               f"with Namespace({workdir!r}, tap='tap0') as ns:\n"
               "    ns.popen(['sleep', '1000'])\n"
               "    print(ns.name, flush=True); time.sleep(1000)\n")
    test = subprocess.Popen([PYTHON, "-B", "-c", program], stdout=subprocess.PIPE, text=True)
    name = test.stdout.readline().strip()
    assert name in _names()
    test.send_signal(signal.SIGKILL)
    test.wait()
    test.stdout.close()
    deadline = time.monotonic() + 10
    while name in _names() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    _gone(name, "sleep\x001000\x00" + name)


def test_guest(workdir: str) -> None:
    """The other end of the tap gets an address, a gateway and a name server by DHCP."""
    with Namespace(workdir, tap="tap0") as ns:
        found = ns.run([PYTHON, "-B", os.path.join(HERE, "guest.py"), "tap0"], timeout=30,
                       stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        assert found == [GUEST, GATEWAY, PLATFORM], found
