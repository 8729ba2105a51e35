# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the scenarios of the network in an initramfs have in common.

No disk is changed: initramfs.conf is written by hand, and the key service is asked from inside the initramfs, after the root
was found to be plain and before it is mounted.
"""

import image
import loader
import story

LIMIT = 900
PASSPHRASE = "PATTERN-initramfs-5be1"
ANSWER = "/run/vmtest-answer"
STATE = "/run/vmtest-network"

CONF = f"""ROOT_UUID={image.ROOT_UUID}
MAPPING=vmcrypt-{image.ROOT_UUID}
BOOT_UUID={loader.UUID}
BOOT_TYPE=ext4
FILESYSTEM=ext4
"""

# curl speaks to any socket as to a terminal
LOOK = f"""
curl --silent --max-time 60 --unix-socket /run/vmcrypt/keyfetch.sock telnet://service < /etc/vmtest-request > {ANSWER}
{{ ip addr show vec0; ip route; cat /etc/resolv.conf; }} > {STATE}
"""

ASK = """
import json, socket, struct, sys
def frame(operation, secret=b""):
    text = json.dumps({"version": 1, "timeout_ms": 30000, "operations": [operation]}).encode()
    return struct.pack("<I", len(text)) + text + secret
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/vmcrypt/keyfetch.sock")
secret = %r
connection.sendall(frame({"operation": "store", "vault": %r, "name": "initramfs", "kek": %r, "machine": "vm",
                          "volume": "3d4f6a0e-0000-4000-8000-000000000001",
                          "passphrase_bytes": len(secret)}, secret))
answer = b""
while more := connection.recv(65536):
    answer += more
reference = json.loads(answer[4:])["results"][0]["reference"]
open("/etc/vmtest-request", "wb").write(frame({"operation": "fetch", "reference": reference}))
"""


def prepare(rig):
    vm = rig.vm(boot_disk="384M")
    vm.boot()
    vm.run("python3 -", input=ASK % (PASSPHRASE.encode(), story.VAULT, story.KEK))
    vm.put("/etc/vmcrypt/initramfs.conf", CONF)
    return vm


def check(vm):
    """After a reboot through the new image."""
    state = vm.get(STATE)
    assert "inet 10.0.0.4/" in state, state
    assert "default via 10.0.0.1 dev vec0" in state, state
    assert "nameserver 168.63.129.16" in state, state
    answer = vm.get(ANSWER)
    assert answer.endswith(PASSPHRASE), answer

    # nothing of it is left
    assert vm.run("findmnt -no SOURCE /").strip() == "/dev/ubda"
    vm.wait_for("ip -4 -o addr show dev vec0 | grep -q dynamic")
    addresses = vm.run("ip -4 -o addr show dev vec0").splitlines()
    assert len(addresses) == 1, addresses
    routes = vm.run("ip route show default").splitlines()
    assert len(routes) == 1 and "proto dhcp" in routes[0], routes
    assert vm.run("networkctl --json=short status vec0 | jq -r .AdministrativeState,.NetworkFile").split() == \
        ["configured", "/etc/systemd/network/10-vec0.network"]
    processes = vm.run("for pid in /proc/[0-9]*; do readlink $pid/exe; done | grep -E 'vmcrypt-|busybox|ipconfig' "
                       "| grep -v vmcryptd || true")
    assert processes == "", processes
    assert vm.run("ls -d /run/net-* /run/initramfs/vmcrypt /run/systemd/network 2>/dev/null || true") == ""
    assert vm.run("findmnt -no SOURCE /boot").strip() == vm.devices["boot"]
    vm.run("systemctl is-active vmcrypt-keyfetch.socket")
    assert vm.failed_units() == [], vm.failed_units()
