#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drives the real vmcryptd and vmcryptctl in a mount namespace of their own.

Arguments: VMCRYPTD VMCRYPTCTL MANAGER. The service manager, the worker and the helper that inspects are
small ones of this test; the bus is dbus-daemon. Needs root and says so when it is not.
"""
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

AGENT = "io.vmcrypt.Agent."
SERVICE = "org.varlink.service."
SOCKET = "/run/vmcrypt/vmcrypt.sock"
JOBS = "/var/lib/vmcrypt/jobs"
REQUEST = {"volume_type": "Data", "vault": "https://kv1.vault.azure.net"}
LUKS_UUID = "aaaaaaaa-0000-4000-8000-000000000001"
SKIPPED = 77
HERE = os.path.dirname(os.path.abspath(__file__))
NOBODY = 65534


class Client:
    """One connection."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(15)
        self.socket.connect(SOCKET)
        self.rest = b""

    def send(self, method, parameters=None, **flags):
        message = {"method": method, **flags}
        if parameters is not None:
            message["parameters"] = parameters
        self.socket.sendall(json.dumps(message).encode() + b"\0")

    def receive(self):
        while b"\0" not in self.rest:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, parameters=None, **flags):
        self.send(method, parameters, **flags)
        return self.receive()

    def is_closed(self):
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


class House:
    """The daemon and what it talks to."""

    def __init__(self, daemon, ctl, manager):
        self.paths = daemon, ctl, manager
        self.questions = []
        self.daemon = None
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x00020000) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        self.folder = tempfile.mkdtemp()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/var/lib"], check=True)
        for path in "/run/vmcrypt", "/run/dbus", "/var/lib/vmcrypt":
            os.mkdir(path)
        os.chdir(self.folder)
        self.start_bus()
        self.start_inspector()
        self.start()

    def start_bus(self):
        with open("bus.conf", "w", encoding="utf-8") as file:
            file.write("""<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true"/><allow receive_type="method_call"/>
<allow receive_type="signal"/><allow receive_type="method_return"/><allow receive_type="error"/>
</policy></busconfig>""")
        self.bus = subprocess.Popen(["dbus-daemon", "--config-file=bus.conf", "--nofork"])
        wait_until(lambda: os.path.exists("/run/dbus/system_bus_socket"))
        self.manager = subprocess.Popen([self.paths[2], os.path.join(HERE, "worker.py")])
        time.sleep(0.3)

    def start_inspector(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("/run/vmcrypt/inspect.sock")
        listener.listen(16)
        volume = {"uuid": "AAAA-BBBB", "kind": "partition", "role": "data", "device": "/dev/sdc1",
                  "size_bytes": 1 << 30, "mounts": ["/data"], "state": "EncryptionInProgress",
                  "filesystem": "ext4", "percent": 50.0, "selected": True, "label": "\x1b[2J"}
        root = {"uuid": "RRRR-0000", "header_uuid": LUKS_UUID, "header": "attached", "kind": "partition",
                "mapping": "vmcrypt-RRRR-0000", "device": "/dev/sda1", "filesystem": "ext4", "mounts": ["/"],
                "state": "Encrypted", "provider": "keyvault", "key": "https://kv1.vault.azure.net/secrets/a/1"}

        def serve():
            while True:
                connection, _ = listener.accept()
                data = b""
                while not data.endswith(b"\0"):
                    data += connection.recv(65536)
                question = json.loads(data[:-1])
                self.questions.append(question)
                time.sleep(0.1)
                answer = {"volumes": [volume, root], "os": "NotEncrypted", "data": "EncryptionInProgress"}
                if question["method"] == "check":
                    answer = {"faults": [], "plan": []}
                connection.sendall(json.dumps(answer).encode() + b"\0")
                connection.close()

        threading.Thread(target=serve, daemon=True).start()

    def start(self):
        listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(SOCKET):
            os.unlink(SOCKET)
        listener.bind(SOCKET)
        os.chmod(SOCKET, 0o666)
        listener.listen(128)
        self.daemon = os.fork()
        if self.daemon == 0:
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)
            os.execve(self.paths[0], [self.paths[0]],
                      {"PATH": "/usr/bin", "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})
        listener.close()
        Client().call(SERVICE + "GetInfo")

    def stop(self):
        os.kill(self.daemon, signal.SIGTERM)
        _, status = os.waitpid(self.daemon, 0)
        self.daemon = None
        assert status == 0, f"the daemon ended with {status}"

    def close(self):
        if self.daemon:
            self.stop()
        self.manager.kill()
        self.bus.kill()
        os.chdir("/")
        shutil.rmtree(self.folder)

    def mode(self, mode):
        with open("mode", "w", encoding="utf-8") as file:
            file.write(mode)

    def ctl(self, *arguments, stdin=subprocess.DEVNULL):
        return subprocess.run([self.paths[1], *arguments], stdin=stdin, capture_output=True, text=True,
                              timeout=30, check=False)


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def error_of(reply):
    return reply.get("error", "").rsplit(".", 1)[-1]


def jobs():
    return sorted(os.listdir(JOBS)) if os.path.isdir(JOBS) else []


def test_introspection(_):
    client = Client()
    info = client.call(SERVICE + "GetInfo")["parameters"]
    assert info["interfaces"] == ["org.varlink.service", "io.vmcrypt.Agent"], info
    for name in info["interfaces"]:
        text = client.call(SERVICE + "GetInterfaceDescription", {"interface": name})
        assert f"interface {name}\n" in text["parameters"]["description"]
    assert error_of(client.call(AGENT + "No")) == "MethodNotFound"
    assert error_of(client.call("io.other.No")) == "InterfaceNotFound"
    assert error_of(client.call(AGENT + "Volumes", {"volume_type": 1})) == "InvalidParameter"
    assert error_of(client.call(AGENT + "Show", {"more": 1})) == "InvalidParameter"


def test_malformed(_):
    """Whatever arrives: that connection ends, another one still works, and nothing has been started."""
    enable = json.dumps({"method": AGENT + "Enable", "parameters": {"request": REQUEST}}).encode()
    deep = b'{"method":"' + AGENT.encode() + b'Enable","parameters":{"request":' + b'{"a":' * 5000
    for data in (b"\0", b"{}\0", b"[]\0", b"null\0", b"{\0", b"\xff\xfe\0", os.urandom(4096) + b"\0",
                 b'{"method":1}\0', b'{"method":"Show"}\0', b'{"method":"io.vmcrypt.Agent."}\0',
                 b'{"method":"io.vmcrypt.Agent.Show","more":1}\0', enable + b"x\0",
                 b'{"method":"io.vmcrypt.Agent.Show","parameters":[]}\0', deep + b"\0",
                 b'{"method":"io.vmcrypt.Agent.Show","more":true,"oneway":true}\0',
                 b"A" * (10 << 20) + b"\0", b" " * (256 << 10) + enable + b"\0"):
        client = Client()
        try:
            client.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert client.is_closed(), data[:60]
    client = Client()
    client.socket.sendall(enable)  # no NUL, then gone
    client.socket.close()
    client = Client()
    client.socket.sendall(enable)  # no NUL, and silent
    start = time.monotonic()
    assert client.is_closed()
    assert 9 < time.monotonic() - start < 13
    assert jobs() == []
    assert "parameters" in Client().call(AGENT + "Show")


def test_wrong_requests(_):
    client = Client()
    reply = client.call(AGENT + "Enable", {"request": {"volume_type": "Some", "x": 1, "volumes": [1]}})
    assert error_of(reply) == "InvalidRequest"
    codes = {fault["code"] for fault in reply["parameters"]["faults"]}
    assert codes == {"request-volume_type", "request-unknown", "request-vault", "request-volumes"}
    for request in (None, [], "x", {"a": "b" * (200 << 10)}, {"kind": "decrypt", **REQUEST}):
        reply = client.call(AGENT + "Enable", {"request": request})
        assert error_of(reply) == "InvalidParameter", request
    reply = client.call(AGENT + "Enable", {"request": {**REQUEST, "kind": 1}})
    assert error_of(reply) == "InvalidRequest"
    assert error_of(client.call(AGENT + "SnapshotShow", {"name": "../../etc"})) == "NoSuchSnapshot"
    assert error_of(client.call(AGENT + "SnapshotRestore", {"name": "no"})) == "NoSuchSnapshot"
    assert jobs() == []


def look_around():
    """As a user who is not root: fill the door up, and wait for standard input to end."""
    client = Client()
    for method in "Enable", "Disable", "Grow", "Check", "Pause", "Resume", "SnapshotList":
        assert error_of(client.call(AGENT + method)) == "PermissionDenied", method
    for method in "Show", "Volumes":
        assert "volumes" in client.call(AGENT + method)["parameters"], method
    return [Client() for _ in range(100)]


def test_users(_):
    """Anybody may look, only root may change, and nobody can keep root out."""
    ready, told = os.pipe()
    user = os.fork()
    if user == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        clients = look_around()
        os.write(told, b"%d" % len(clients))
        signal.pause()
    os.close(told)
    try:
        assert os.read(ready, 10) == b"100"
        assert "parameters" in Client().call(AGENT + "Show")
    finally:
        os.close(ready)
        os.kill(user, signal.SIGKILL)
        os.waitpid(user, 0)


def test_shared_look(house):
    house.questions.clear()
    time.sleep(0.6)
    clients = [Client() for _ in range(20)]
    for client in clients:
        client.send(AGENT + "Show")
    for client in clients:
        assert client.receive()["parameters"]["os"] == "NotEncrypted"
    assert len(house.questions) == 1, house.questions


def test_job(house):
    house.mode("done")
    client = Client()
    client.send(AGENT + "Enable", {"request": REQUEST}, more=True)
    replies = [client.receive()]
    assert len(jobs()) == 1
    assert error_of(Client().call(AGENT + "Enable", {"request": REQUEST})) == "JobRunning"
    check = Client().call(AGENT + "Check", {"request": REQUEST})["parameters"]
    assert [fault["code"] for fault in check["faults"]] == ["job-running"]
    while replies[-1].get("continues"):
        replies.append(client.receive())
    states = [reply["parameters"]["report"]["state"] for reply in replies]
    assert states[-1] == "done" and "running" in states, states
    reply = Client().call(AGENT + "Enable", {"request": REQUEST})["parameters"]["report"]
    assert reply["prepared"] and reply["state"] == "running", reply
    volume = Client().call(AGENT + "Show")["parameters"]["volumes"][0]
    assert volume["rate_bytes"] == 100 and volume["left_s"] == 5
    wait_until(lambda: not open_jobs())
    house.mode("fail")
    reply = Client().call(AGENT + "Disable", {"request": {}}, more=False)["parameters"]["report"]
    wait_until(lambda: not open_jobs())
    with open(f"{JOBS}/{jobs()[-1]}/request.json", encoding="utf-8") as file:
        assert json.load(file) == {"kind": "decrypt", "volume_type": "Data"}


def test_grow(house):
    """Its worker is told to grow everything; vmcryptctl stays until that has been done."""
    house.mode("done")
    result = house.ctl("grow")
    assert result.returncode == 0 and result.stdout.endswith("Done.\n") and "Prepared." not in result.stdout, result
    assert not open_jobs()
    with open(f"{JOBS}/{jobs()[-1]}/request.json", encoding="utf-8") as file:
        assert json.load(file) == {"kind": "grow", "volume_type": "All"}
    house.questions.clear()
    assert house.ctl("grow", "--plan", "--volume", "aaaa-bbbb").returncode == 0
    assert [question["request"]["kind"] for question in house.questions] == ["grow"], house.questions
    for arguments in (["--next-boot"], ["--disk-encryption-keyvault", REQUEST["vault"]], ["x"]):
        assert house.ctl("grow", *arguments).returncode == 1, arguments
    assert error_of(Client().call(AGENT + "Grow", {"request": {"kind": "encrypt"}})) == "InvalidParameter"


def open_jobs():
    return [job for job in jobs() if not os.path.exists(f"{JOBS}/{job}/report.json")]


def report_of(job):
    reports = Client().call(AGENT + "Show")["parameters"]["reports"]
    return next(report for report in reports if report["job"] == job)


def test_dead_worker(house):
    house.mode("die")
    report = Client().call(AGENT + "Enable", {"request": REQUEST})["parameters"]["report"]
    assert report["state"] == "failed"
    assert report["faults"][0]["code"] == "worker-died", report
    assert "vmcryptctl resume" in report["faults"][0]["remedy"]
    assert open_jobs() == [report["job"]]
    house.mode("done")
    Client().call(AGENT + "Resume")
    assert report_of(report["job"])["faults"] == []
    wait_until(lambda: not open_jobs())


def test_refused_start(house):
    with open("refuse", "w", encoding="utf-8"):
        pass
    report = Client().call(AGENT + "Enable", {"request": REQUEST})["parameters"]["report"]
    os.unlink("refuse")
    assert report["state"] == "failed"
    assert report["faults"][0]["code"] == "worker-not-started"
    assert open_jobs() == []


def test_pause(house):
    house.mode("hang")
    client = Client()
    client.send(AGENT + "Enable", {"request": REQUEST}, more=True)
    while not client.receive()["parameters"]["report"]["prepared"]:
        pass
    Client().call(AGENT + "Pause")
    while (reply := client.receive()).get("continues"):
        pass
    assert reply["parameters"]["report"]["state"] == "waiting"
    job = open_jobs()[0]
    house.stop()
    runs = count_runs(job)
    house.start()
    assert report_of(job)["state"] == "waiting"
    time.sleep(0.3)
    assert count_runs(job) == runs, "a paused job was started"
    Client().call(AGENT + "Resume")
    wait_until(lambda: count_runs(job) == runs + 1)
    Client().call(AGENT + "Pause")
    house.mode("done")
    Client().call(AGENT + "Resume")
    wait_until(lambda: not open_jobs())


def count_runs(job):
    with open("runs", encoding="utf-8") as file:
        return sum(line.startswith(job) for line in file)


def test_restart(house):
    """The worker outlives the daemon, is found again, and a job that was cut off is started again."""
    house.mode("hang")
    client = Client()
    client.send(AGENT + "Enable", {"request": REQUEST}, more=True)
    while not client.receive()["parameters"]["report"]["prepared"]:
        pass
    job = open_jobs()[0]
    os.kill(house.daemon, signal.SIGKILL)
    os.waitpid(house.daemon, 0)
    house.start()
    assert report_of(job)["state"] == "running"
    time.sleep(0.3)
    assert count_runs(job) == 1
    Client().call(AGENT + "Pause")
    wait_until(lambda: report_of(job)["state"] == "waiting")
    house.stop()
    os.unlink(f"{JOBS}/{job}/paused")
    house.mode("done")
    house.start()
    wait_until(lambda: not open_jobs())
    assert count_runs(job) == 2


def test_next_boot(house):
    house.mode("boot")
    report = Client().call(AGENT + "Enable", {"request": REQUEST}, more=False)["parameters"]["report"]
    assert report["state"] == "waiting" and report["faults"] == [], report
    assert f"Job {report['job']} waits for a reboot.\n" in house.ctl("show").stdout
    house.mode("done")
    Client().call(AGENT + "Resume")
    wait_until(lambda: not open_jobs())


def test_damaged(house):
    house.stop()
    job = "20991231T235959Z-beef"
    os.makedirs(f"{JOBS}/{job}")
    with open(f"{JOBS}/{job}/request.json", "w", encoding="utf-8") as file:
        file.write('{"kind":"encr')
    os.makedirs(f"{JOBS}/not-a-job")
    house.start()
    report = report_of(job)
    assert report["state"] == "failed"
    assert report["faults"][0]["code"] == "request-damaged"
    shutil.rmtree(f"{JOBS}/{job}")
    os.rmdir(f"{JOBS}/not-a-job")
    house.stop()
    house.start()


def test_kept(house):
    house.stop()
    for i in range(30):
        job = f"20200101T0000{i:02}Z-0000"
        os.makedirs(f"{JOBS}/{job}")
        with open(f"{JOBS}/{job}/request.json", "w", encoding="utf-8") as file:
            json.dump({"kind": "decrypt"}, file)
        with open(f"{JOBS}/{job}/report.json", "w", encoding="utf-8") as file:
            json.dump({"job": job, "kind": "decrypt", "state": "done", "faults": [], "volumes": []},
                      file)
        if i == 0:
            with open(f"{JOBS}/{job}/header.bin", "w", encoding="utf-8"):
                pass
    house.start()
    Client().call(AGENT + "Show")
    assert len(jobs()) <= 21
    assert "20200101T000000Z-0000" in jobs(), "a folder with something else in it was removed"


def test_snapshots(_):
    folder = "/var/lib/vmcrypt/snapshots/20261122T042233Z-3fa9"
    os.makedirs(folder)
    os.makedirs("/var/lib/vmcrypt/snapshots/damaged")
    manifest = {"name": "x", "time": "2026-11-22T04:22:33Z", "kind": "encrypt",
                "volumes": [{"uuid": "aaaa-bbbb"}], "files": [{"path": "a", "size": 7}, {"size": 5}]}
    with open(f"{folder}/manifest.json", "w", encoding="utf-8") as file:
        json.dump(manifest, file)
    with open("/var/lib/vmcrypt/snapshots/damaged/manifest.json", "w", encoding="utf-8") as file:
        file.write("{")
    client = Client()
    snapshots = client.call(AGENT + "SnapshotList")["parameters"]["snapshots"]
    assert snapshots == [{"name": "20261122T042233Z-3fa9", "time": "2026-11-22T04:22:33Z",
                          "kind": "encrypt", "volumes": ["aaaa-bbbb"], "size_bytes": 12}], snapshots
    shown = client.call(AGENT + "SnapshotShow", {"name": "20261122T042233Z-3fa9"})
    assert shown["parameters"]["snapshot"] == manifest
    assert error_of(client.call(AGENT + "SnapshotShow", {"name": "damaged"})) == "Failed"


def test_ctl(house):
    enable = "enable", "--volume-type", "Data", "--disk-encryption-keyvault", REQUEST["vault"]
    house.mode("done")
    result = house.ctl(*enable)
    assert result.returncode == 0 and "Prepared." in result.stdout, result
    busy = house.ctl(*enable)
    assert busy.returncode == 5 and "has not ended" in busy.stderr, busy
    assert house.ctl("disable", "--plan").returncode == 4
    shown = house.ctl("show")
    assert "50.0 %" in shown.stdout and "100 B/s" in shown.stdout and "\x1b" not in shown.stdout
    wait_until(lambda: not open_jobs())
    result = house.ctl(*enable, "--watch")
    assert result.returncode == 0 and result.stdout.endswith("Done.\n"), result
    house.mode("fail")
    result = house.ctl("disable", "--watch")
    assert result.returncode == 4 and "volume-busy" in result.stderr and "→ Make it idle." in result.stderr
    assert json.loads(house.ctl("show", "--json=short").stdout)["os"] == "NotEncrypted"
    assert house.ctl("check", *enable[1:]).stdout == "Nothing stands in the way.\n"
    for arguments in (("enable", "--volume-type", "All"), ("enabel",), ("show", "--volume", "aaaa"),
                      ("show", "x"), ("enable", "--volume-type"), ("enable", "x" * 65536), ("enable", "--no"),
                      (*enable, "--encrypt-format-all"), (*enable, "--plan", "--watch"), ()):
        result = house.ctl(*arguments)
        assert result.returncode == 1 and result.stderr and not result.stdout, (arguments, result)
    os.chmod(house.folder, 0o755)
    user = subprocess.run([house.paths[1], *enable], user=NOBODY, capture_output=True, check=False)
    assert user.returncode == 2, user
    assert jobs() and not open_jobs()
    house.stop()
    assert house.ctl("show").returncode == 75
    house.start()


def test_recover(house):
    """What the machine knows of its volumes; without the agent, the general way."""
    result = house.ctl("recover")
    assert result.returncode == 0 and f"D=/dev/disk/by-uuid/{LUKS_UUID}\n" in result.stdout, result
    assert "AAAA-BBBB" not in result.stdout and "chroot /mnt\n" in result.stdout
    assert house.ctl("recover", LUKS_UUID).stdout == house.ctl("recover", "rrrr-0000").stdout == result.stdout
    assert house.ctl("recover", "AAAA-BBBB").returncode == 1
    volumes = json.loads(house.ctl("recover", "--json=short").stdout)["volumes"]
    assert [volume["text"] for volume in volumes] == [result.stdout]
    assert "/dev/sdc1" in house.ctl("volumes").stdout
    house.stop()
    result = house.ctl("recover")
    assert result.returncode == 0 and "D=DEVICE\n" in result.stdout, result
    assert house.ctl("recover", "--json=short").returncode == 75
    house.start()


def test_recovery_key(house):
    """It comes once, from the worker to the person, past the daemon."""
    enable = "enable", "--volume-type=Data", f"--disk-encryption-keyvault={REQUEST['vault']}"
    house.mode("recovery")
    result = house.ctl(*enable, "--recovery-key")
    assert result.returncode == 0 and result.stdout.count("\n    abcd-efgh\n") == 1, result
    assert "write it down" in result.stdout
    wait_until(lambda: not open_jobs())
    read_fd, write_fd = os.pipe()
    result = subprocess.run([house.paths[1], *enable, f"--recovery-key-fd={write_fd}", "--watch", "--json=short"],
                            pass_fds=[write_fd], capture_output=True, text=True, timeout=30, check=False)
    os.close(write_fd)
    assert os.read(read_fd, 100) == b"abcd-efgh\n"
    os.close(read_fd)
    assert result.returncode == 0 and "abcd" not in result.stdout + result.stderr, result
    house.mode("done")
    result = house.ctl(*enable, "--recovery-key")
    assert result.returncode == 1 and "no recovery key" in result.stderr, result
    wait_until(lambda: not open_jobs())
    assert house.ctl(*enable, "--recovery-key-fd=77").returncode == 1


def main():
    if os.geteuid() != 0:
        print("skipped: this needs root, for a mount namespace")
        return SKIPPED
    if not shutil.which("dbus-daemon"):
        print("skipped: there is no dbus-daemon")
        return SKIPPED
    house = House(*[os.path.abspath(path) for path in sys.argv[1:4]])
    try:
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                test(house)
                print(f"{name}: passed", flush=True)
    finally:
        house.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
