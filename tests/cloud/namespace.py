# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network namespace with the cloud in it: vaults, identity, DNS, DHCP.

    with Namespace("/tmp/work", tap="tap0") as ns:
        ns.cloud.fault("throttled", service="vault", count=3)
        ns.run(["curl", "--cacert", ns.ca_pem, "https://kv1.vault.azure.net/healthstatus"])

Nothing outside it is touched, so many can exist side by side, each with the same real addresses.
A warden process ends everything in the namespace when the test lets go of it, whether the `with`
block ends or the test is killed.
"""
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Optional

_HERE = os.path.dirname(os.path.abspath(__file__))
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

import control  # noqa: E402

PYTHON = "/usr/bin/python3"  # the one that sees the distribution's packages
GATEWAY = "10.0.0.1"         # our end of the tap: the guest's gateway
GUEST = "10.0.0.4"           # the address that DHCP gives to the guest
METADATA = "169.254.169.254"
PLATFORM = "168.63.129.16"   # DNS and wire server of the real platform
VAULT = "198.51.100.4"       # where all vaults are (TEST-NET-2)
LOGIN = "198.51.100.5"       # where login, resource manager and a redirect's target are
STATE, AUTHORITY = "state.json", "authority.pem"  # in a folder of save()
START_SECONDS = 30           # key generation on a busy machine takes a while
LOGIN_NAMES = ("login.microsoftonline.com", "login.windows.net", "login.microsoftonline.us",
               "login.chinacloudapi.cn", "management.azure.com", "management.usgovcloudapi.net",
               "management.chinacloudapi.cn", "elsewhere.example.net")


class _Cloud(control.Client):
    """The control client, plus what the namespace itself provides: DNS and DHCP."""

    def __init__(self, namespace: "Namespace") -> None:
        super().__init__(namespace.workdir)
        self._namespace = namespace
        self.absent: set[str] = set()  # names that DNS denies although they exist

    def stop(self, what: str, silently: bool = False) -> None:
        """`vault`, `imds`, `login`: connections are refused, or with `silently` never answered
        (a client runs into its timeout); `dns`, `dhcp`: nobody listens.
        """
        if what in ("dns", "dhcp"):
            self._namespace._end(what)
        else:
            super().stop(what, silently)

    def start(self, what: str) -> None:
        if what == "dns":
            self._namespace._start_dns()
        elif what == "dhcp":
            self._namespace._start_dhcp()
        else:
            super().start(what)

    def vault(self, name: str, **settings: Any) -> dict:
        answer = super().vault(name, **settings)
        self._namespace._name_hosts()
        return answer

    def remove_vault(self, name: str) -> None:
        super().remove_vault(name)
        self._namespace._name_hosts()

    def load(self, path: str) -> None:
        super().load(path)
        self._namespace._name_hosts()

    def unname(self, *hosts: str) -> None:
        """From now on DNS answers NXDOMAIN for exactly these host names; none: for nothing."""
        self.absent = {h if "." in h else f"{h}.vault.azure.net" for h in hosts}
        self._namespace._name_hosts()


class Namespace:
    """A network namespace with the cloud in it: vault, identity, DNS, DHCP; nothing beyond."""

    def __init__(self, workdir: str, tap: Optional[str] = None,
                 saved: Optional[str] = None) -> None:
        """
        workdir: folder for ca.pem, logs and the control socket; made if missing, and left in place
        tap:     name of a tap device to create in the namespace for a VM (UML, QEMU), or None
        saved:   folder that `save()` filled, to begin with: the same vaults and the same authority
        """
        self.workdir = os.path.abspath(workdir)
        self.tap = tap
        self.name = f"vmcrypt-{os.getpid()}-{random.SystemRandom().getrandbits(32):08x}"
        self.ca_pem = os.path.join(self.workdir, "ca.pem")
        self.cloud = _Cloud(self)
        self._saved = saved
        self._warden: Optional[subprocess.Popen] = None
        self._daemons: dict[str, subprocess.Popen] = {}

    def save(self, folder: str) -> None:
        """Keep the vaults with all that is in them and the authority, for `saved` of another one."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.cloud.save(os.path.join(folder, STATE))
        shutil.copy(os.path.join(self.workdir, AUTHORITY), folder)

    def popen(self, argv: list[str], **kw: Any) -> subprocess.Popen:
        """A process inside the namespace; its pid is the program's own. Ends with the namespace."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *argv], **kw)

    def run(self, argv: list[str], **kw: Any) -> subprocess.CompletedProcess:
        """subprocess.run() inside the namespace."""
        return subprocess.run(["ip", "netns", "exec", self.name, *argv], **kw)

    def __enter__(self) -> "Namespace":
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End every process in the namespace, then the namespace; harmless when repeated."""
        if self._warden:
            self._warden.stdin.close()
            self._warden.wait()
            self._warden = None
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()

    # making it

    def _make(self) -> None:
        os.makedirs(self.workdir, exist_ok=True)
        for name in (control.SOCKET, "dns.pid", "dhcp.pid"):
            _unlink(os.path.join(self.workdir, name))
        # first the one who cleans up: from here on nothing can be left behind
        self._warden = subprocess.Popen(
            [PYTHON, os.path.abspath(__file__), "--warden", self.name], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, start_new_session=True)
        self._warden.stdout.readline()
        self._warden.stdout.close()
        own = f"/etc/netns/{self.name}"
        while not os.path.isdir(own):  # another warden may remove an empty /etc/netns just now
            try:
                os.makedirs(own)
            except FileNotFoundError:
                pass
        with open(f"{own}/resolv.conf", "w") as f:
            f.write(f"nameserver {PLATFORM}\noptions timeout:1 attempts:2\n")
        _ip("netns", "add", self.name)
        self._ip("link", "set", "lo", "up")
        for address in (METADATA, PLATFORM, VAULT, LOGIN):
            self._ip("address", "add", f"{address}/32", "dev", "lo")
        if self.tap:
            self._ip("tuntap", "add", "dev", self.tap, "mode", "tap")
            self._ip("address", "add", f"{GATEWAY}/24", "dev", self.tap)
            self._ip("link", "set", self.tap, "up")
        self._start_cloud()
        self._name_hosts()
        self._start_dns()
        if self.tap:
            self._start_dhcp()

    def _ip(self, *arguments: str) -> None:
        _ip("-n", self.name, *arguments)

    def _daemon(self, what: str, argv: list[str]) -> subprocess.Popen:
        with open(os.path.join(self.workdir, f"{what}.log"), "ab") as log:
            daemon = self.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._daemons[what] = daemon
        return daemon

    def _end(self, what: str) -> None:
        daemon = self._daemons.pop(what, None)
        if daemon:
            daemon.kill()
            daemon.wait()

    def _start_cloud(self) -> None:
        argv = [PYTHON, os.path.join(_HERE, "cloud.py"), self.workdir]
        if self._saved:
            argv += ["--state", os.path.join(os.path.abspath(self._saved), STATE),
                     "--authority", os.path.join(os.path.abspath(self._saved), AUTHORITY)]
        daemon = self._daemon("cloud", argv)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.cloud("ping")
                return
            except OSError:
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"The cloud did not start; see {self.workdir}/cloud.log")
                time.sleep(0.02)

    def _name_hosts(self) -> None:
        """What DNS knows: the vaults that exist, and the fixed names. Unknown ones are NXDOMAIN."""
        hosts = {h: VAULT for h in self.cloud.state()["vaults"]}
        hosts.update({h: LOGIN for h in LOGIN_NAMES})
        path = os.path.join(self.workdir, "hosts")
        with open(path + ".new", "w") as f:
            for host, address in hosts.items():
                if host not in self.cloud.absent:
                    f.write(f"{address} {host}\n")
        os.rename(path + ".new", path)
        if "dns" in self._daemons:
            self._end("dns")
            self._start_dns()

    def _dnsmasq(self, what: str, *options: str) -> None:
        if what in self._daemons:
            return
        self._daemon(what, ["/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
                            "--log-facility=-", "--user=root", "--bind-interfaces", "--pid-file",
                            "--no-resolv", "--no-hosts", *options])

    def _start_dns(self) -> None:
        self._dnsmasq("dns", f"--listen-address={PLATFORM}", "--local=/#/", "--local-ttl=0",
                      f"--addn-hosts={self.workdir}/hosts")
        self._wait_for_dns()

    def _wait_for_dns(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.run(["ss", "-Hnul", f"src {PLATFORM}:53"], stdout=subprocess.PIPE,
                       check=True).stdout == b"":
            if self._daemons["dns"].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"DNS did not start; see {self.workdir}/dns.log")
            time.sleep(0.02)

    def _start_dhcp(self) -> None:
        self._dnsmasq("dhcp", "--port=0", f"--interface={self.tap}", "--leasefile-ro",
                      "--dhcp-authoritative", "--no-ping", "--dhcp-sequential-ip",
                      "--dhcp-ignore-clid",  # initramfs and system are one machine: one address
                      f"--dhcp-range={GUEST},10.0.0.20,255.255.255.0,12h",
                      f"--dhcp-option=option:router,{GATEWAY}",
                      f"--dhcp-option=option:dns-server,{PLATFORM}")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _warden(name: str) -> None:
    """Wait until the test lets go (end of file), then remove the namespace and all in it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print("ready", flush=True)
    os.close(1)
    sys.stdin.read()
    # only processes inside this namespace, which only the test can have started
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pids = subprocess.run(["ip", "netns", "pids", name], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True).stdout.split()
        if not pids:
            break
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
    shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)
    try:
        os.rmdir("/etc/netns")  # only if it is empty: then it was ours
    except OSError:
        pass


if __name__ == "__main__" and sys.argv[1:2] == ["--warden"]:
    _warden(sys.argv[2])
