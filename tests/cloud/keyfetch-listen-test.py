#!/usr/bin/python3 -B
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Is vmcrypt-keyfetch --listen a stand-in for its units: the same service, as little power?

  keyfetch-listen-test.py BUILD [NAME...]     as root; BUILD is a build folder

Runs in a namespace with the emulated cloud; the user that it becomes exists only there.
"""
import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Iterator

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from keyclient import KeyService  # noqa: E402
from namespace import Namespace  # noqa: E402

PASSPHRASE = b"PATTERN-71d2ce-correct-horse-battery-staple"
USER_ID = 61234
CHILDREN_MAX = 16
CAP_SYS_RESOURCE = 24
PATIENCE_S = 30
_START = ('mount --bind "$1" /etc/ssl/certs/ca-certificates.crt; mount --bind "$2" /etc/passwd; '
          'shift 2; exec "$@"')


def same(got, want) -> None:
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def wait_until(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("not in time")
        time.sleep(0.05)


class Tests:
    def __init__(self, ns: Namespace, build: str, folder: str) -> None:
        self.ns, self.cloud, self.folder = ns, ns.cloud, folder
        self.program = os.path.join(build, "agent/program/vmcrypt-keyfetch")
        service = KeyService(ns, self.program)
        self.reference = service.store("common", PASSPHRASE, kek=False)["reference"]
        self.path = os.path.join(folder, "run/keyfetch.sock")
        self.environment = dict(os.environ)
        with open("/proc/self/status", encoding="ascii") as file:
            self.can_lock = int(re.search(r"CapEff:\s*(\w+)", file.read())[1], 16) >> CAP_SYS_RESOURCE & 1
        if not self.can_lock:
            print("  root cannot raise limits here: that memory is locked is not tried")
            self.environment["LD_PRELOAD"] = os.path.join(build, "tests/cloud/memlock.so")

    def start(self, users: str = f"vmcrypt-keyfetch:x:{USER_ID}:{USER_ID}::/:/bin/false\n") -> subprocess.Popen:
        passwd = os.path.join(self.folder, "passwd")
        with open(passwd, "w", encoding="utf-8") as file:
            file.write("root:x:0:0::/:/bin/false\n" + users)
        return self.ns.popen(["sh", "-c", _START, "sh", self.ns.ca_pem, passwd, self.program,
                              f"--listen={self.path}"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             env=self.environment, extra_groups=[4])

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE_S)
        connection.connect(self.path)
        return connection

    @contextlib.contextmanager
    def listening(self) -> Iterator[subprocess.Popen]:
        process = self.start()
        try:
            wait_until(lambda: os.path.exists(self.path) or process.poll() is not None)
            time.sleep(0.1)  # from bind() to listen()
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            process.stderr.close()

    @staticmethod
    def children(process: subprocess.Popen) -> list[int]:
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def ask(self, connection: socket.socket) -> None:
        connection.sendall(KeyService.frame([{"operation": "fetch", "reference": self.reference}]))

    @staticmethod
    def answer(connection: socket.socket) -> bytes:
        data = b""
        while True:
            more = connection.recv(65536)
            if not more:
                return data
            data += more

    def test_serves(self) -> None:
        """One process a connection; one client's nonsense is not the next one's trouble."""
        with self.listening() as process:
            with self.connect() as bad:
                bad.sendall(struct.pack("<I", 4) + b"null")
                same(self.answer(bad), b"")
            first, second = self.connect(), self.connect()
            with first, second:
                self.ask(second)
                self.ask(first)
                for connection in (first, second):
                    assert self.answer(connection).endswith(PASSPHRASE)
            wait_until(lambda: self.children(process) == [])
            same(process.poll(), None)

    def test_socket(self) -> None:
        """Only root's, its folder open to be looked into; an old socket does not stand in the way."""
        with self.listening() as process:
            process.kill()
        same(os.stat(os.path.dirname(self.path)).st_mode & 0o777, 0o755)
        os.chmod(self.path, 0o644)
        process = self.start()
        try:
            wait_until(lambda: os.stat(self.path).st_mode & 0o777 == 0o600)
            with self.connect() as connection:
                self.ask(connection)
                assert self.answer(connection).endswith(PASSPHRASE)
        finally:
            process.terminate()
            same(process.wait(PATIENCE_S), 0)
            process.stderr.close()
        assert not os.path.exists(self.path)

    def test_has_no_power(self) -> None:
        """While it serves: another user, no group, no capability, no way back, locked, nothing open."""
        self.cloud.fault("delay", service="vault", count=None, seconds=3)
        with self.listening() as process, self.connect() as connection:
            self.ask(connection)
            child = self.serving(process)
            with open(f"/proc/{child}/status", encoding="ascii") as file:
                status = dict(re.findall(r"(\w+):[ \t]*(.*)", file.read()))
            same(status["Uid"].split(), [str(USER_ID)] * 4)
            same(status["Gid"].split(), [str(USER_ID)] * 4)
            same(status["Groups"].strip(), "")
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                same((kind, int(status[kind], 16)), (kind, 0))
            same((status["NoNewPrivs"], status["Umask"], status["SigBlk"]), ("1", "0077", "0" * 16))
            with open(f"/proc/{child}/limits", encoding="ascii") as file:
                limits = file.read()
            assert re.search(r"Max core file size +0 +0 ", limits), limits
            assert re.search(r"Max stack size +1048576 +1048576 ", limits), limits
            if self.can_lock:
                assert re.search(r"Max locked memory +unlimited +unlimited ", limits), limits
                assert int(status["VmLck"].split()[0]) > 0, status
            with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                assert "CapEff:\t0000000000000000" not in file.read()  # the listener stays root
            targets = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in ("0", "1", "2")]
            assert targets[0].startswith("socket:") and targets[1] == targets[2], targets
            listener = {os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")}
            mine = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
            same([target for target in mine[3:] if target in listener - {targets[2]}
                  and "anon_inode" not in target], [])
            assert self.answer(connection).endswith(PASSPHRASE)

    def serving(self, process: subprocess.Popen) -> int:
        """The one child, once it has become the service."""
        def is_service() -> bool:
            return bool(self.children(process)) and command(self.children(process)[0]) == b"vmcrypt-keyfetch\0"

        def command(child: int) -> bytes:
            with open(f"/proc/{child}/cmdline", "rb") as file:
                return file.read()

        wait_until(is_service)
        child, = self.children(process)
        return child

    def test_children_are_bounded(self) -> None:
        """The seventeenth waits until one of the sixteen has ended."""
        with self.listening() as process:
            idle = [self.connect() for _ in range(CHILDREN_MAX)]
            try:
                wait_until(lambda: len(self.children(process)) == CHILDREN_MAX)
                with self.connect() as late:
                    self.ask(late)
                    late.settimeout(1)
                    try:
                        same(late.recv(1), "nothing")
                    except socket.timeout:
                        pass
                    same(len(self.children(process)), CHILDREN_MAX)
                    idle.pop().close()
                    late.settimeout(PATIENCE_S)
                    assert self.answer(late).endswith(PASSPHRASE)
            finally:
                for connection in idle:
                    connection.close()

    def test_ends(self) -> None:
        """With SIGTERM it goes, and those that it has started with it; also when it is killed."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            with self.listening() as process, self.connect() as connection:
                child = self.serving(process)
                begin = time.monotonic()
                process.send_signal(how)
                same(process.wait(PATIENCE_S), 0 if how == signal.SIGTERM else -signal.SIGKILL)
                same(self.answer(connection), b"")
                wait_until(lambda: not os.path.exists(f"/proc/{child}"))
                # not because the client has said nothing for too long
                assert time.monotonic() - begin < 5
        same(os.path.exists(self.path), True)  # of the killed one
        os.unlink(self.path)

    def test_user_is_needed(self) -> None:
        """Never as root for want of somebody else."""
        for users in ("", "vmcrypt-keyfetch:x:0:0::/:/bin/false\n"):
            process = self.start(users)
            same(process.wait(PATIENCE_S), 1)
            assert b"as user vmcrypt-keyfetch" in process.stderr.read()
            process.stderr.close()


def main() -> int:
    build, names = os.path.abspath(sys.argv[1]), sys.argv[2:]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="vmcrypt-listen-") as folder, Namespace(folder) as ns:
        tests = Tests(ns, build, folder)
        for name, test in vars(Tests).items():
            title = name.removeprefix("test_").replace("_", "-")
            if not name.startswith("test_") or (names and title not in names):
                continue
            ns.cloud.clear()
            begin = time.monotonic()
            try:
                test(tests)
                result, passed = "PASS", passed + 1
            except Exception:
                traceback.print_exc()
                result, failed = "FAIL", failed + 1
            print(f"{result} listen-{title} {time.monotonic() - begin:.1f}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
