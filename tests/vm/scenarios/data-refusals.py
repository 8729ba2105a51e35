# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that cannot be done is refused at once, with all reasons, and nothing is changed."""

import story

# name, flags after `enable --volume-type Data`, keys, words that must be said
ARGUMENTS = [
    ("http", [], ["--disk-encryption-keyvault", "http://kv1.vault.azure.net"], "https"),
    ("foreign host", [], ["--disk-encryption-keyvault", "https://kv1.example.com"], "vault"),
    ("host that ends alike", [], ["--disk-encryption-keyvault", "https://kv1.vault.azure.net.example.com"], "vault"),
    ("a path", [], ["--disk-encryption-keyvault", "https://kv1.vault.azure.net/../x"], "vault"),
    ("blanks", [], ["--disk-encryption-keyvault", "'https://kv 1.vault.azure.net'"], "vault"),
    ("a newline", [], ["--disk-encryption-keyvault", "$'https://kv1.vault.azure.net\\nx'"], "vault"),
    ("64 KiB", [], ["--disk-encryption-keyvault", "https://$(head -c 65536 /dev/zero | tr '\\0' a).vault.azure.net"],
     ""),
    ("no key's URL", ["--key-encryption-key", "https://kv1.vault.azure.net/secrets/x"],
     ["--disk-encryption-keyvault", story.VAULT], "key"),
    ("unknown algorithm", ["--key-encryption-key", story.KEK, "--key-encryption-algorithm", "ROT13"],
     ["--disk-encryption-keyvault", story.VAULT], "algorithm"),
    ("vault and file", ["--key-provider", "file"], ["--disk-encryption-keyvault", story.VAULT], "file"),
    ("no vault", [], [], "vault"),
    ("relative key directory", ["--key-directory", "../keys"], ["--key-provider", "file"], "absolute"),
    ("unknown volume", ["--volume", "'../../x'"], ["--disk-encryption-keyvault", story.VAULT], ""),
    ("unknown flag", ["--encrypt-everything"], ["--disk-encryption-keyvault", story.VAULT], ""),
]

MESSAGES = r"""
import socket
messages = [b'{"method":"io.vmcrypt.Agent.Show"', b'\0', b'{}\0', b'[]\0', b'null\0', b'{"method":7}\0',
            b'{"method":"io.vmcrypt.Agent.Enable","parameters":{"request":[]}}\0',
            b'{"method":"io.vmcrypt.Agent.Enable","parameters":{"request":{"volume_type":5}}}\0',
            b'[' * 100000 + b'\0', b'a' * 10000000, bytes(range(256)) * 64,
            b'{"method":"io.vmcrypt.Agent.Nothing"}\0', b'{"method":"' + b'x' * 70000 + b'"}\0']
for message in messages:
    s = socket.socket(socket.AF_UNIX); s.settimeout(15); s.connect('/run/vmcrypt/vmcrypt.sock')
    try:
        s.sendall(message); s.shutdown(socket.SHUT_WR); s.recv(65536)
    except OSError:
        pass
    s.close()
slow = socket.socket(socket.AF_UNIX); slow.connect('/run/vmcrypt/vmcrypt.sock'); slow.sendall(b'{"meth')
"""

# name, what to do before, what is asked of the cloud before, the code that must be said
REASONS = [
    ("a vault in another region", ("--disk-encryption-keyvault", "https://kv-far.vault.azure.net"), "other-region"),
    ("a vault that may only be read", ("--disk-encryption-keyvault", "https://kv-readonly.vault.azure.net"),
     "vault-denied"),
    ("a vault that is not there", ("--disk-encryption-keyvault", "https://kv-none.vault.azure.net"),
     "vault-unreachable"),
]


def untouched(vm, device, daemon):
    assert vm.run(f"blkid -p -o value -s TYPE {device}").strip() == "ext4"
    assert vm.run("cat /etc/crypttab 2>/dev/null || true").count("vmcrypt") == 0
    assert "nofail" not in vm.run("grep /data /etc/fstab")
    assert vm.run("systemctl show -P MainPID vmcryptd").strip() == daemon, "the daemon died"
    vm.verify("/data")


def run(rig):
    vm = rig.vm(disks={"data": "256M"})
    vm.boot()
    device = vm.devices["data"]
    story.volume(vm, device, "/data", "ext4", fill="8M")
    story.show(vm)
    daemon = vm.run("systemctl show -P MainPID vmcryptd").strip()

    for name, flags, keys, words in ARGUMENTS:
        refused = story.enable(vm, *flags, keys=keys, check=False)
        said = refused.out + refused.err
        assert refused.code not in (0, -1) and words in said and said.strip(), (name, refused.code, said)
    for kind in ("OS", "All", "Swap", "''"):
        refused = vm.run(f"vmcryptctl enable --volume-type {kind} --disk-encryption-keyvault {story.VAULT}",
                         check=False)
        assert refused.code != 0 and refused.err + refused.out, kind
    untouched(vm, device, daemon)

    vm.put("/root/messages.py", MESSAGES)
    vm.run("/usr/bin/python3 /root/messages.py", timeout=240)
    vm.run("vmcryptctl show")
    untouched(vm, device, daemon)

    for name, keys, code in REASONS:
        refused = story.enable(vm, keys=keys, check=False, timeout=180)
        said = refused.out + refused.err
        assert refused.code == 4 and code in said, (name, refused.code, said)
    untouched(vm, device, daemon)

    # only root may change anything; everyone may look
    vm.run("su -s /bin/sh nobody -c 'vmcryptctl show'")
    refused = vm.run(f"su -s /bin/sh nobody -c 'vmcryptctl enable --volume-type Data "
                     f"--disk-encryption-keyvault {story.VAULT}'", check=False)
    assert refused.code == 2, refused

    # all reasons at once: a full disk for our state, swap and another mount on the volume
    vm.run("""set -e
        fallocate -l 16M /data/swap; mkswap -q /data/swap; chmod 600 /data/swap; swapon /data/swap
        mkdir -p /data/inner; mount -t tmpfs none /data/inner
        mkdir -p /var/lib/vmcrypt; mount -t tmpfs -o size=8m none /var/lib/vmcrypt""")
    refused = story.enable(vm, check=False)
    said = refused.out + refused.err
    for code in ("swap-on-volume", "nested-mounts", "snapshot-space"):
        assert code in said, (code, said)
    vm.run("umount /var/lib/vmcrypt /data/inner; swapoff /data/swap; rm /data/swap; rmdir /data/inner")
    untouched(vm, device, daemon)

    # /etc that cannot be written
    vm.run("mount --bind /etc /etc && mount -o remount,ro,bind /etc")
    refused = story.enable(vm, check=False)
    assert refused.code == 4 and "etc-read-only" in refused.out + refused.err, refused
    vm.run("umount /etc")
    untouched(vm, device, daemon)

    # a journal and a token that nobody can read
    vm.run("mkdir -p /var/lib/vmcrypt/jobs/20260101T000000Z-0bad && "
           "echo '{\"kind\":' > /var/lib/vmcrypt/jobs/20260101T000000Z-0bad/request.json && "
           "systemctl restart vmcryptd && vmcryptctl show")
    daemon = vm.run("systemctl show -P MainPID vmcryptd").strip()
    vm.run("systemctl is-active vmcryptd && rm -r /var/lib/vmcrypt/jobs/20260101T000000Z-0bad")
    vm.run("""set -e
        truncate -s 64M /root/luks; mkdir -p /run/cryptsetup
        echo secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /root/luks --key-file=-
        echo '{"type":"vmcrypt","keyslots":[],"provider":7,"secret":["x"]}' | cryptsetup token import /root/luks
        losetup -f /root/luks; udevadm settle; vmcryptctl show; vmcryptctl volumes
        losetup -D""")
    untouched(vm, device, daemon)
