# SPDX-License-Identifier: LGPL-2.1-or-later
"""The key service's protocol (agent/key/protocol.h) from a test, one service process a request.

    service = KeyService(namespace, "/tmp/build/agent/program/vmcrypt-keyfetch")
    results = service.ask([{"operation": "fetch", "reference": {...}}])
"""
import json
import socket
import struct
import subprocess
import threading
from typing import Any, Optional

# the service trusts what the system trusts; in its own mount namespace that is the cloud's authority
_START = ('mount --bind "$1" /etc/ssl/certs/ca-certificates.crt; shift; exec "$@"')


class KeyService:
    def __init__(self, namespace: Any, program: str, environment: Optional[dict] = None) -> None:
        self.namespace, self.program = namespace, program
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "VMCRYPT_LOG": "debug",
                            **(environment or {})}
        self.errors = b""  # standard error of the last request
        self.status: Optional[int] = None

    def start(self) -> tuple[subprocess.Popen, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        process = self.namespace.popen(
            ["sh", "-c", _START, "sh", self.namespace.ca_pem, self.program], stdin=theirs,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment)
        theirs.close()
        return process, ours

    def exchange(self, message: bytes, patience: float = 120) -> bytes:
        """Raw bytes there and back; what the service says at the end is in `errors`, `status`."""
        process, connection = self.start()
        errors: list[bytes] = []
        reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
        reader.start()
        answer = b""
        with connection:
            connection.settimeout(patience)
            try:
                connection.sendall(message)
                while True:
                    more = connection.recv(65536)
                    if not more:
                        break
                    answer += more
            except (BrokenPipeError, ConnectionResetError):
                pass
        self.status = process.wait(patience)
        reader.join()
        self.errors = errors[0]
        process.stderr.close()
        return answer

    @staticmethod
    def frame(operations: list[dict], timeout_ms: int = 20_000,
              passphrases: tuple[bytes, ...] = (), **more: Any) -> bytes:
        text = json.dumps({"version": 1, "timeout_ms": timeout_ms, "operations": operations,
                           **more}).encode()
        return struct.pack("<I", len(text)) + text + b"".join(passphrases)

    def ask(self, operations: list[dict], timeout_ms: int = 20_000,
            passphrases: tuple[bytes, ...] = (), **more: Any) -> list[dict]:
        """The results, each with its "passphrase" as bytes where there is one."""
        answer = self.exchange(self.frame(operations, timeout_ms, passphrases, **more))
        if len(answer) < 4 or self.status:
            raise AssertionError(f"no answer, status {self.status}: {self.errors.decode()}")
        size, = struct.unpack("<I", answer[:4])
        results, rest = json.loads(answer[4:4 + size])["results"], answer[4 + size:]
        for result in results:
            n = result.get("passphrase_bytes", 0)
            if n:
                result["passphrase"], rest = rest[:n], rest[n:]
        if rest:
            raise AssertionError("bytes behind the reply")
        return results

    def store(self, name: str, passphrase: bytes, kek: Any = True, timeout_ms: int = 20_000,
              **more: Any) -> dict:
        """`kek`: True for the vault's own, an address, or False for none."""
        operation = {"operation": "store", "vault": "https://kv1.vault.azure.net", "name": name,
                     "volume": "3d4f6a0e-0000-4000-8000-000000000001", "machine": "vm1",
                     "passphrase_bytes": len(passphrase), **more}
        if kek:
            operation["kek"] = ("https://kv1.vault.azure.net/keys/kek1" if kek is True else kek)
        return self.ask([operation], timeout_ms, (passphrase,))[0]

    def fetch(self, *references: dict, timeout_ms: int = 20_000, **more: Any) -> list[dict]:
        return self.ask([{"operation": "fetch", "reference": r} for r in references], timeout_ms,
                        **more)
