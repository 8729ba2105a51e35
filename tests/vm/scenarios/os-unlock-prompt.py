# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmcrypt-unlock --initramfs at a console: keys, refusals, a recovery key that is typed, and nobody there."""

ROOT = "0f8a1c52-6d3e-4b7a-9c61-2e5d7f3b9a10"

# in the guest: the person before the console is this script
SCRIPT = r'''
import os, pathlib, pty, re, select, subprocess, sys, termios, time

ROOT = "%s"
DEVICE, MAPPING = "/dev/ubdb", f"vmcrypt-{ROOT}"
KEY, CONF = pathlib.Path("/etc/vmcrypt/keys/root"), pathlib.Path("/etc/vmcrypt/initramfs.conf")
HEADER = pathlib.Path(f"/boot/vmcrypt/headers/{ROOT}.luks")
FILE = f'"provider":"file","path":"{KEY}"'
VAULT = '"provider":"keyvault","secret":"https://kv1.vault.azure.net/secrets/a/0123456789abcdef0123456789abcdef"'
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def recovery_key(data):
    """As key/recovery.c makes it from 32 bytes."""
    groups = []
    for group in range(8):
        bits = group << 32 | int.from_bytes(data[4 * group:4 * group + 4], "big")
        fives = [bits >> 5 * (6 - i) & 31 for i in range(7)]
        remainder = 0
        for five in [*fives, 0]:
            remainder = remainder << 1
            remainder = (remainder ^ (0x25 if remainder & 32 else 0)) ^ five
        groups.append("".join(LETTERS[five] for five in [*fives, remainder]))
    return "-".join(groups)


RIGHT, WRONG = recovery_key(bytes(range(32))), recovery_key(bytes(range(1, 33)))
TYPO = RIGHT[:20] + ("7" if RIGHT[20] != "7" else "8") + RIGHT[21:]


def sh(command, check=True, **more):
    return subprocess.run(command, shell=True, check=check, stdout=subprocess.PIPE, text=True, **more).stdout


def is_open():
    return pathlib.Path("/dev/mapper", MAPPING).exists()


def make(device, reference, header=""):
    """A volume as the worker would leave it."""
    KEY.parent.mkdir(parents=True, exist_ok=True)
    KEY.parent.chmod(0o700)
    KEY.write_text("fixture-passphrase")
    KEY.chmod(0o600)
    more = f"--header {header}" if header else ""
    sh(f"cryptsetup luksFormat -q {more} --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {device} {KEY}")
    sh(f"cryptsetup luksAddKey -q {more} --key-file {KEY} --pbkdf argon2id --pbkdf-memory 65536"
       f" --pbkdf-force-iterations 4 {device} -", input=RIGHT)
    refer(device, reference, header)


def refer(device, reference, header=""):
    more = f"--header {header}" if header else ""
    sh(f"cryptsetup token remove {more} --token-id 0 {device} 2>/dev/null", check=False)
    sh(f"cryptsetup token import {more} --token-id 0 {device}", input=
       f'{{"type":"vmcrypt","keyslots":["0"],"version":1,"filesystem":"{ROOT}","mapping":"{MAPPING}",{reference}}}')


def configure(*lines):
    CONF.write_text("\n".join([f"ROOT_UUID={ROOT}", f"MAPPING={MAPPING}", *lines, ""]))


class Console:
    """with Console() as console: console.sees("..."); console.types("...")"""

    def __init__(self):
        self.person, self.ours = pty.openpty()
        self.text, self.seen = "", 0
        self.before = termios.tcgetattr(self.ours)
        self.began = time.monotonic()
        self.process = subprocess.Popen(["/usr/lib/vmcrypt/vmcrypt-unlock", "--initramfs"], stdin=self.ours,
                                        stdout=self.ours, stderr=self.ours)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.read(0.2)
        print(f"-- console, {time.monotonic() - self.began:.1f} s\n{self.text}", flush=True)
        if not kind:
            assert termios.tcgetattr(self.ours) == self.before, "the terminal is not as it was"
            for secret in (RIGHT, "fixture-passphrase"):
                assert secret not in self.text, "a secret was shown"
        os.close(self.person)
        os.close(self.ours)

    def read(self, seconds):
        if select.select([self.person], [], [], seconds)[0]:
            self.text += os.read(self.person, 65536).decode(errors="replace")

    def sees(self, pattern, seconds=20):
        end = time.monotonic() + seconds
        while not (match := re.compile(pattern).search(self.text, self.seen)):
            assert time.monotonic() < end, f"no {pattern!r} in {self.text[self.seen:]!r}"
            self.read(0.2)
        self.seen = match.end()

    def sees_no(self, pattern, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(0.2)
            assert not re.search(pattern, self.text[self.seen:]), self.text[self.seen:]

    def types(self, text):
        time.sleep(0.7)  # what comes before the prompt has set its mode is dropped
        os.write(self.person, text.encode())

    def ends(self, seconds=20):
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"still there: {self.text!r}"
            self.read(0.2)
        assert self.process.returncode == 0, self.process.returncode
        assert is_open() or "not encrypted" in self.text, self.text
        sh(f"! [ -e /dev/mapper/{MAPPING} ] || cryptsetup close {MAPPING}")


def key_is_there():
    with Console() as console:
        console.ends(10)
        assert "Recovery" not in console.text


def refused_then_typed():
    KEY.rename("/root/kept")
    with Console() as console:
        console.sees("attempt 1: .*next try in 30 seconds")
        console.sees("Recovery key of volume")
        console.types(TYPO + "\n")
        console.sees("group 3 has a typing mistake")
        console.sees("Recovery key of volume")
        console.types("letmein\n")
        console.sees("8 groups of 8 letters")
        console.sees("Recovery key of volume")
        console.types(WRONG + "\n")
        console.sees("does not open this volume")
        console.sees("Recovery key of volume")
        console.types(RIGHT.lower().replace("-", " ") + "\n")
        console.sees("unlocked")
        console.ends()


def refused_then_corrected():
    with Console() as console:
        console.sees("Recovery key of volume")
        os.rename("/root/kept", KEY)
        console.sees("unlocked", 40)
        console.ends()


def unreachable():
    refer(DEVICE, VAULT)
    with Console() as console:
        console.sees("attempt 1: .*trying again")
        console.sees("attempt 2: .*trying again")
        assert "Recovery" not in console.text
        console.types("x")
        console.sees("Recovery key of volume")
        console.sees_no("attempt", 5)  # nothing new to say while somebody types
        console.types("\n")
        console.sees("press a key to type a recovery key")
        console.sees("attempt")
        console.types(" ")
        console.sees("Recovery key of volume")
        console.types(RIGHT + "\n")
        console.ends()


def after_a_while():
    pathlib.Path("/etc/vmcrypt/vmcrypt.conf").write_text("PROMPT_AFTER=4\n")
    with Console() as console:
        console.sees_no("Recovery", 2)
        console.sees("Recovery key of volume", 10)
        console.types(RIGHT + "\n")
        console.ends()
    os.remove("/etc/vmcrypt/vmcrypt.conf")


def nobody_there():
    """No terminal; a key that comes back is found."""
    refer(DEVICE, FILE)
    KEY.rename("/root/kept")
    process = subprocess.Popen(["/usr/lib/vmcrypt/vmcrypt-unlock", "--initramfs"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    os.rename("/root/kept", KEY)
    said = process.communicate(timeout=60)[1]
    print(said)
    assert process.returncode == 0 and is_open() and "unlocked" in said
    sh(f"cryptsetup close {MAPPING}")


def no_disk():
    CONF.write_text(CONF.read_text().replace(ROOT[:8], "ffffffff"))
    with Console() as console:
        console.sees("no device with its header is there; waiting for 1 s", 5)
        console.sees("waiting for 10 s", 15)
        console.process.terminate()
        console.process.wait()


def damaged_conf():
    CONF.write_text("ROOT_UUID=$(reboot)\n")
    with Console() as console:
        console.sees("its content is damaged")
        console.ends()


def plain():
    configure()
    sh(f"wipefs -qa {DEVICE}; mkfs.ext4 -q -F -U {ROOT} {DEVICE}; udevadm trigger -w {DEVICE}; udevadm settle")
    with Console() as console:
        console.sees("not encrypted", 5)
        console.ends()


def header_in_a_file():
    """The device looks plain, and is not."""
    HEADER.parent.mkdir(parents=True, exist_ok=True)
    make(DEVICE, FILE, HEADER)
    configure(f"HEADER={HEADER}", f"DEVICE={DEVICE}")
    with Console() as console:
        console.ends(10)
        assert "unlocked" in console.text
    HEADER.rename("/root/header")
    with Console() as console:
        console.sees("its header /boot/.* is not there; put it", 5)
        os.rename("/root/header", HEADER)
        console.ends()


sh("mount -t devpts devpts /dev/pts")  # the bare guest has none
make(DEVICE, FILE)
sh(f"cryptsetup open --key-file {KEY} {DEVICE} make && mkfs.ext4 -q -U {ROOT} /dev/mapper/make && cryptsetup close make")
configure()
for row in (key_is_there, refused_then_typed, refused_then_corrected, unreachable, after_a_while, nobody_there,
            no_disk, damaged_conf, plain, header_in_a_file):
    print(f"==== {row.__name__}", flush=True)
    row()
''' % ROOT


def run(rig):
    bare = rig.bare(disks={"data": "64M"})
    result = bare.run(f"cat > /tmp/person.py <<'EOF'\n{SCRIPT}\nEOF\npython3 /tmp/person.py", timeout=400)
    print(result.out)
