#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the scripts of the network in an initramfs, in namespaces of their own.

Arguments: SOURCE [NAME...]. Those of initramfs-tools have busybox's shell and tools and klibc's ipconfig as in an image, and
ask dnsmasq; for those of dracut, systemctl and udevadm are played. The clock and the kernel's arguments are files of this
test. Needs root and says so when it is not.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

SKIPPED = 77
INSIDE = "VMCRYPT_TEST_INSIDE"
SOURCE = pathlib.Path(sys.argv[1]).resolve()
SCRIPT = SOURCE / "hooks/initramfs-network"
DRACUT = SOURCE / "dracut/90vmcrypt"
IPCONFIG = "/usr/lib/klibc/bin/ipconfig"
GENERATOR = "/usr/lib/systemd/systemd-network-generator"
PATIENCE_S = 12
LEASE_S = 120  # dnsmasq gives none that is shorter
TURN_S = 30    # as in the script
DNS = "nameserver 10.0.0.53"
OPTIONS = "options timeout:2 attempts:2"

_MACHINE = """set -e
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc
for name in cmdline uptime; do mount --bind "$1/$name" /proc/$name; done
mount --bind "$1/kmsg" /dev/kmsg
echo ready
exec sleep 1000
"""


def same(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def wait_until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("not in time")
        time.sleep(0.1)


class Machine:
    """An initramfs with its network devices: eth0, eth1, each with a cable to wan0, wan1 of this side.

    tools: folder of what an image of initramfs-tools has
    """
    tools = ""

    def __init__(self, cmdline="quiet", settings="", devices=1):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.devices = range(devices)
        self.servers = []
        self.script = None
        self.seconds = 1000
        for name, text in (("cmdline", cmdline + "\n"), ("uptime", f"{self.seconds}.00 1.00\n"), ("kmsg", "")):
            (self.folder / name).write_text(text)
        self.holder = subprocess.Popen(["unshare", "--mount", "--net", "sh", "-c", _MACHINE, "sh", self.folder],
                                       stdout=subprocess.PIPE, text=True)
        same(self.holder.stdout.readline(), "ready\n")
        self.root = pathlib.Path(f"/proc/{self.holder.pid}/root")
        for path in "run/udev/data", "run/initramfs/vmcrypt", "etc/vmcrypt":
            (self.root / path).mkdir(parents=True)
        if settings:
            (self.root / "etc/vmcrypt/vmcrypt.conf").write_text(settings)
        for i in self.devices:
            host_ip("link", "add", f"wan{i}", "type", "veth", "peer", "name", f"eth{i}", "netns", str(self.holder.pid))
            host_ip("address", "add", f"10.0.{i}.1/24", "dev", f"wan{i}")
            host_ip("link", "set", f"wan{i}", "up")
            (self.root / f"run/udev/data/n{self.link(i)['ifindex']}").touch()
        self.before = self.state()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.script:
            self.script.kill()
            self.script.wait()
        for server in self.servers:
            server.kill()
            server.wait()
        for i in self.devices:
            host_ip("link", "delete", f"wan{i}")
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()
        shutil.rmtree(self.folder)

    def popen(self, *argv, **kw):
        return subprocess.Popen(["nsenter", f"--target={self.holder.pid}", "--mount", "--net", *argv],
                                stdin=subprocess.DEVNULL, **kw)

    def run(self, *argv, **kw):
        with self.popen(*argv, **kw) as process:
            same(process.wait(PATIENCE_S), 0)

    def ip(self, *arguments):
        return json.loads(subprocess.run(
            ["nsenter", f"--target={self.holder.pid}", "--net", "ip", "-json", "-4", *arguments], check=True,
            stdout=subprocess.PIPE, text=True).stdout or "[]")

    def set(self, *arguments):
        subprocess.run(["nsenter", f"--target={self.holder.pid}", "--net", "ip", *arguments], check=True)

    def link(self, i):
        return self.ip("link", "show", f"eth{i}")[0]

    def loopback(self):
        addresses = [address["local"] for device in self.ip("address", "show", "lo")
                     for address in device.get("addr_info", [])]
        return "UP" in self.ip("link", "show", "lo")[0]["flags"], addresses

    def is_up(self, i):
        return "UP" in self.link(i)["flags"]

    def addresses(self, i):
        return [address["local"] for device in self.ip("address", "show", f"eth{i}")
                for address in device.get("addr_info", [])]

    def routes(self, *selector):
        """Destination, gateway, device and metric."""
        return [(route["dst"], route.get("gateway"), route["dev"], route.get("metric", 0))
                for route in self.ip("route", "show", *selector) if route.get("protocol") != "kernel"]

    def resolver(self):
        path = self.root / "etc/resolv.conf"
        return path.read_text().splitlines() if path.exists() else []

    def state(self):
        """What an initramfs must not change for the booted system."""
        return {"loopback": self.loopback(),
                "links": [(self.is_up(i), self.link(i)["mtu"]) for i in self.devices],
                "addresses": [self.addresses(i) for i in self.devices],
                "routes": self.ip("route", "show"),
                "files": sorted(path.name for path in (self.root / "run").glob("net-*"))}

    def pass_by(self, seconds):
        """Time for the script; of the same length, so that no reader sees half of it."""
        self.seconds += seconds
        fd = os.open(self.folder / "uptime", os.O_WRONLY)
        os.pwrite(fd, str(self.seconds).encode(), 0)
        os.close(fd)

    def serve(self, i, *options):
        """DHCP behind a device."""
        self.servers.append(subprocess.Popen(
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file", "--port=0",
             "--bind-interfaces", f"--interface=wan{i}", f"--dhcp-range=10.0.{i}.10,10.0.{i}.19,255.255.255.0,{LEASE_S}",
             "--leasefile-ro", "--dhcp-authoritative", "--no-ping", f"--log-facility={self.folder}/dhcp{i}",
             "--dhcp-option=option:dns-server,10.0.0.53", *(f"--dhcp-option={option}" for option in options)]))

    def asked(self, i):
        """How often DHCP was asked for a lease."""
        path = self.folder / f"dhcp{i}"
        return path.read_text().count("DHCPREQUEST") if path.exists() else 0

    def up(self):
        self.script = self.popen("sh", SCRIPT, "up", env={"PATH": self.tools})

    def down(self):
        """As local-bottom does; nothing is left then."""
        self.script.terminate()
        same(self.script.wait(PATIENCE_S), -signal.SIGTERM)
        self.run("sh", SCRIPT, "down", env={"PATH": self.tools})
        same(self.state(), self.before)


def host_ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def test_dhcp():
    with Machine() as machine:
        machine.serve(0)
        machine.up()
        wait_until(machine.resolver)
        same(machine.resolver(), [DNS, OPTIONS])
        same(machine.routes(), [("default", "10.0.0.1", "eth0", 101)])
        address, = machine.addresses(0)
        same((machine.folder / "kmsg").read_text(), f"<5>vmcrypt: interface eth0 has the address {address}.\n")
        machine.down()


def test_no_resolver():
    """Who asks for a name before there is a name server is told so at once: by this machine, not by nobody out there."""
    with Machine("ip=10.0.0.5::10.0.0.1:255.255.255.0::eth0:off") as machine:
        machine.up()
        wait_until(lambda: machine.routes("default"))
        began = time.monotonic()
        machine.run("python3", "-c", """if True:
            import socket
            asked = socket.socket(type=socket.SOCK_DGRAM)
            asked.settimeout(5)
            asked.connect(("127.0.0.1", 53))
            asked.send(b"a name?")
            try:
                asked.recv(512)
            except ConnectionRefusedError:
                pass""")
        assert time.monotonic() - began < 4
        same(machine.loopback(), (True, ["127.0.0.1"]))
        machine.down()


def test_late_link():
    """A cable that comes late; and a link that was up stays so."""
    with Machine() as machine:
        host_ip("link", "set", "wan0", "down")
        machine.set("link", "set", "eth0", "up")
        machine.before = machine.state()
        machine.serve(0)
        machine.up()
        time.sleep(2.5)
        same(machine.asked(0), 0)
        host_ip("link", "set", "wan0", "up")
        wait_until(machine.resolver)
        machine.down()


def test_static():
    with Machine("ip=10.0.0.5::10.0.0.1:255.255.255.0:name:eth0:off:10.0.0.53:10.0.0.54") as machine:
        machine.up()
        wait_until(machine.resolver)
        same(machine.addresses(0), ["10.0.0.5"])
        same(machine.routes(), [("default", "10.0.0.1", "eth0", 101)])
        same(machine.resolver(), [DNS, "nameserver 10.0.0.54", OPTIONS])
        machine.down()


def test_static_without_device():
    """The first device has no cable."""
    with Machine("ip=10.0.1.5::10.0.1.1:255.255.255.0:::off:10.0.0.53", devices=2) as machine:
        host_ip("link", "set", "wan0", "down")
        machine.up()
        wait_until(machine.resolver)
        same([machine.addresses(i) for i in machine.devices], [[], ["10.0.1.5"]])
        host_ip("link", "set", "wan0", "up")
        time.sleep(2.5)
        same(machine.addresses(0), [])
        machine.down()


def test_renewal():
    """At half of the lease the one device asks anew, and the other one is left alone."""
    with Machine("ip=eth0:dhcp", settings="NETWORK=eth1:dhcp\n", devices=2) as machine:
        for i in machine.devices:
            machine.serve(i)
        machine.up()
        wait_until(machine.resolver)
        same(machine.asked(0), 1)
        machine.pass_by(LEASE_S // 2)
        wait_until(lambda: machine.asked(0) == 2)
        wait_until(lambda: machine.routes() == [("default", "10.0.0.1", "eth0", 102)])
        time.sleep(1)
        same(machine.is_up(1), False)
        same(machine.asked(1), 0)
        machine.down()


def test_classless_routes():
    """Option 121: the default route among others has its turn, and the others stay."""
    with Machine(devices=2) as machine:
        for i in machine.devices:
            machine.serve(i, f"121,192.0.{i + 2}.0/24,10.0.{i}.9,0.0.0.0/0,10.0.{i}.1")
        machine.up()
        defaults = [("default", "10.0.0.1", "eth0"), ("default", "10.0.1.1", "eth1")]
        wait_until(lambda: sorted(route[:3] for route in machine.routes("default") if route[3] > 100) == defaults)
        first = machine.routes("default")[0]
        machine.pass_by(TURN_S)
        wait_until(lambda: machine.routes("default")[0][3] == 1)
        preferred = machine.routes("default")[0]
        assert preferred[:3] != first[:3], preferred

        # one whose lease is not renewed keeps nothing from the other
        machine.servers[int(preferred[2].removeprefix("eth"))].kill()
        machine.pass_by(LEASE_S // 2)
        wait_until(lambda: first[:3] + (103,) in machine.routes("default"))
        machine.pass_by(TURN_S)
        wait_until(lambda: machine.routes("default")[0] == first[:3] + (1,))
        same(sorted(route for route in machine.routes() if route[0] != "default"),
             [(f"192.0.{i + 2}.0/24", f"10.0.{i}.9", f"eth{i}", 0) for i in machine.devices])
        machine.down()


def test_mtu():
    with Machine() as machine:
        machine.serve(0, "option:mtu,1400")
        machine.up()
        wait_until(machine.resolver)
        same(machine.link(0)["mtu"], 1400)
        machine.down()


def test_settings():
    """What is no setting does not matter, nor does an end of the last line."""
    with Machine(settings="PROMPT_AFTER=\"1\nPROXY=$NOWHERE\nno setting=1\n"
                          "NETWORK='10.0.0.5::10.0.0.1:255.255.255.0::eth0:off:10.0.0.53'") as machine:
        machine.up()
        wait_until(machine.resolver)
        same(machine.addresses(0), ["10.0.0.5"])
        machine.down()


def run_tests(names):
    failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (names and name.removeprefix("test_") not in names):
            continue
        start = time.monotonic()
        try:
            test()
            print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        except Exception:
            traceback.print_exc()
            failed += 1
    return failed


def test_environment():
    """What the key service gets is what its unit would give it."""
    path = pathlib.Path(Machine.tools, "environment")
    path.write_text("# A=1\nB = 2\nno setting\nC='a b'\nD=\"$HOME `id`\nhttps_proxy=http://10.0.0.9:3128")
    found = subprocess.run(["sh", "-c", '. "$0"; load_settings "$1"; env', SOURCE / "hooks/initramfs-settings.sh", path],
                           env={"PATH": Machine.tools}, stdout=subprocess.PIPE, text=True, check=True).stdout
    same([line for line in sorted(found.splitlines()) if line[:2] in ("A=", "B=", "C=", "D=", "ht")],
         ["C=a b", 'D="$HOME `id`', "https_proxy=http://10.0.0.9:3128"])


# in a PID namespace systemd takes the arguments of the first process for the kernel's
_PLAYED = {"systemctl": f"""#!/bin/sh
[ "$*" = "start systemd-network-generator.service" ] || exit 0
SYSTEMD_PROC_CMDLINE=$(cat /proc/cmdline) exec {GENERATOR}
""", "udevadm": "#!/bin/sh\necho SUBSYSTEM=net\necho VMCRYPT_MTU=1500\n"}
_HOOK = 'getarg() { grep -o "$1.*" /proc/cmdline; }; . "$0"'


def run_hook(machine, name, **environment):
    """One of dracut's, which sources it."""
    for program, text in _PLAYED.items():
        (machine.folder / program).write_text(text)
        (machine.folder / program).chmod(0o755)
    hook = machine.folder / name
    hook.write_text((DRACUT / name).read_text().replace("/usr/lib/vmcrypt", str(SCRIPT.parent)))
    machine.run("sh", "-c", _HOOK, hook, env={"PATH": f"{machine.folder}:{os.environ['PATH']}", **environment})


def test_dracut_cmdline():
    """The kernel's ip= or that of the settings comes first, and nothing is left in /run."""
    if not os.path.exists(GENERATOR):
        print(f"{GENERATOR} is not installed: dracut_cmdline is not tried")
        return
    for cmdline, settings, expected in (
            ("quiet", "NETWORK=10.0.0.5::10.0.0.1:255.255.255.0::eth0:off", "Address=10.0.0.5/24"),
            ("ip=10.0.0.6::10.0.0.1:255.255.255.0::eth0:off", "", "Address=10.0.0.6/24"),
            ("ip=10.0.0.6::10.0.0.1:255.255.255.0::eth0:off", "NETWORK=10.0.0.5::10.0.0.1:255.255.255.0::eth0:off",
             "Address=10.0.0.6/24")):
        with Machine(cmdline, settings) as machine:
            (machine.root / "etc/cmdline.d").mkdir()
            own = machine.root / "etc/systemd/network/10-eth0.network"
            own.parent.mkdir(parents=True)
            own.touch()
            run_hook(machine, "cmdline.sh")
            files = sorted(own.parent.iterdir())
            same(files[1:], [own])
            assert expected in files[0].read_text(), files[0].read_text()
            same(list((machine.root / "run/systemd/network").iterdir()), [])
            same((machine.root / "etc/cmdline.d/91vmcrypt.conf").exists(), cmdline == "quiet")
    with Machine("quiet", "NETWORK=dhcp\n") as machine:
        run_hook(machine, "cmdline.sh")
        same(list((machine.root / "etc/systemd/network").iterdir()), [])


def test_dracut_resolver():
    """Each lease is seen."""
    with Machine() as machine:
        state = machine.root / "run/systemd/netif/state"
        state.parent.mkdir(parents=True)
        machine.script = machine.popen("sh", DRACUT / "initramfs-resolver")
        time.sleep(0.5)
        same(machine.resolver(), [])
        for servers, expected in (("10.0.0.53%eth0#dns.example.net", [DNS]),
                                  ("10.0.0.53 fe80::1%eth0", [DNS, "nameserver fe80::1"]), ("", [])):
            new = state.with_suffix(".new")
            new.write_text(f"# This is private data.\nOPER_STATE=routable\nDNS={servers}\n")
            new.rename(state)
            wait_until(lambda: machine.resolver() == [*expected, OPTIONS])


def test_dracut_cleanup():
    with Machine(devices=2) as machine:
        for path in "NetworkManager/system-connections", "systemd/netif/leases":
            (machine.root / "run" / path).mkdir(parents=True)
        machine.set("link", "set", "eth0", "up", "mtu", "1400")
        machine.set("address", "add", "10.0.0.5/24", "dev", "eth0")
        machine.set("route", "add", "default", "via", "10.0.0.1")
        busy = machine.state()
        run_hook(machine, "cleanup.sh", netroot="nfs:10.0.0.1:/root")
        same(machine.state(), busy)
        run_hook(machine, "cleanup.sh")
        same(machine.state(), machine.before)
        same([(machine.root / "run" / path).exists() for path in ("NetworkManager", "systemd/netif")], [False, False])


def main():
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(SKIPPED)
    for program in IPCONFIG, "busybox", "dnsmasq", "ip":
        if not shutil.which(program):
            print(f"{program} is not installed")
            sys.exit(SKIPPED)
    if INSIDE not in os.environ:
        # whatever becomes of this process, the kernel ends all that it has started
        os.execvpe("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                               sys.executable, "-B", *sys.argv], {**os.environ, INSIDE: "1"})
    with tempfile.TemporaryDirectory() as Machine.tools:
        subprocess.run(["busybox", "--install", "-s", Machine.tools], check=True)
        os.symlink(IPCONFIG, f"{Machine.tools}/ipconfig")
        sys.exit(1 if run_tests(sys.argv[2:]) else 0)


main()
