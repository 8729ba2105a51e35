# SPDX-License-Identifier: LGPL-2.1-or-later
"""The main job, to watch: data and OS volumes are encrypted while a program writes to them; reboots; all is there.

Called by tests/demo. What stands after a "# " is typed in the machine; what follows is what it prints.
"""

import os
import pathlib
import signal
import sys
import tempfile
import time

import host
import image
import product
from machine import MachineError
from rig import Rig

VAULT = "https://kv1.vault.azure.net"
KEK = f"{VAULT}/keys/kek1"
DISK_SIZE = "256M"
BOOT_SIZE = "384M"
FILES_SIZE = "60M"
SENTENCE = "nobody shall read this on a lost disk"
OUTPUT, STATUS = "/run/demo.out", "/run/demo.status"
POLL_S = 0.3
PREPARE_LIMIT_S = 900   # two minutes on a quiet machine: an initramfs is made, of some 700 processes
ENCRYPT_LIMIT_S = 1200  # two minutes on a quiet machine
SHOW_EVERY_S = 10


class Wrong(Exception):
    """Something is not as it must be."""


def say(text):
    print(f"\n== {text}", flush=True)


def show(text):
    if text.strip():
        print("   " + text.rstrip().replace("\n", "\n   "), flush=True)


def typed(vm, command, timeout=60):
    """A command as a person types it, with what it prints; must succeed."""
    print(f"# {command}", flush=True)
    result = vm.run(f"exec 2>&1; {command}", check=False, timeout=timeout)
    show(result.out)
    if result.code:
        raise Wrong(f"the command ended with {result.code}")
    return result.out


def watched(vm, command, limit):
    """The same for a command that takes long: its lines as they come."""
    print(f"# {command}", flush=True)
    vm.run(f"rm -f {OUTPUT} {STATUS}; touch {OUTPUT}")
    vm.spawn(f"({command}) >{OUTPUT} 2>&1; echo $? >{STATUS}")
    seen, end = 0, time.monotonic() + limit
    while True:
        # the status first: what it printed before is then all there is
        status = vm.run(f"cat {STATUS} 2>/dev/null || true").strip()
        new = vm.run(f"tail -c +{seen + 1} {OUTPUT}")
        whole = new if status else new[:new.rfind("\n") + 1]
        show(whole)
        seen += len(whole.encode())
        if status:
            break
        if time.monotonic() > end:
            raise Wrong(f"the command did not end in {limit} s")
        time.sleep(POLL_S)
    if status != "0":
        raise Wrong(f"the command ended with {status}")


def on_the_disk(vm, device):
    """How often the sentence can be read on the bare device."""
    return int(vm.run(f"sync; echo 1 >/proc/sys/vm/drop_caches; grep -a -c '{SENTENCE}' {device} || true",
                      timeout=120))


def prepare(vm):
    say("A machine with a data disk: ext4, mounted by /etc/fstab, with files on it.")
    device = vm.devices["data"]
    typed(vm, f"mkfs.ext4 -q -L data {device}")
    typed(vm, "mkdir /data")
    typed(vm, "echo 'LABEL=data /data ext4 defaults 0 2' >>/etc/fstab")
    typed(vm, "systemctl daemon-reload && mount /data")
    typed(vm, f"echo '{SENTENCE}' >/data/secret.txt")
    vm.fill("/data", FILES_SIZE)
    typed(vm, "find /data -type f | wc -l; df -h /data")
    typed(vm, "vmcryptctl show")
    if on_the_disk(vm, device) == 0:
        raise Wrong("the sentence is not on the plain disk")
    print(f"The disk itself shows the sentence \"{SENTENCE}\" to anybody who has it.")


def encrypt(vm):
    say("A program goes on writing files to it, from now to the end.")
    writer = vm.writer("/data")
    vm.wait_for("test -e /var/tmp/vmtest/data.written")

    request = f"--volume-type All --disk-encryption-keyvault {VAULT} --key-encryption-key {KEK}"
    say("What would be done, and does anything stand in the way?")
    typed(vm, f"vmcryptctl enable {request} --plan", timeout=240)

    say("Encrypt all volumes in place: the data volume now, the OS volume from the next boot on.")
    before = writer.count()
    watched(vm, f"vmcryptctl enable {request}", PREPARE_LIMIT_S)
    typed(vm, "vmcryptctl show", timeout=120)
    vm.run("vmcryptctl show --json short | jq -e '.os == \"VMRestartPending\"'", timeout=120)

    restart(vm, "Reboot: before the root is mounted, the key is fetched and the root's header is written.")
    writer.start()
    typed(vm, "findmnt /")
    say("Both are encrypted while the machine works.")
    began = time.monotonic()
    wait_encrypted(vm)
    written = writer.count() - before
    print(f"It took {time.monotonic() - began:.0f} s from then on; the program wrote {written} files.")
    if written == 0:
        raise Wrong("the program could not write meanwhile")

    say("The state is read from the disks.")
    typed(vm, "vmcryptctl show", timeout=120)
    typed(vm, "lsblk -o NAME,TYPE,FSTYPE,MOUNTPOINT")
    typed(vm, "cat /etc/fstab /etc/crypttab")
    expect_encrypted(vm)
    return writer


def wait_encrypted(vm):
    """Show how far it is now and then, until nothing is left to do."""
    end = time.monotonic() + ENCRYPT_LIMIT_S
    while True:
        typed(vm, "vmcryptctl show", timeout=120)
        state = vm.run("vmcryptctl show --json short | jq -r '.os, .data, (.reports[] | .state)'", timeout=120)
        if set(state.split()) == {"Encrypted", "done"}:
            return
        if "failed" in state or time.monotonic() > end:
            raise Wrong(f"it does not come to an end: {state}")
        time.sleep(SHOW_EVERY_S)


def expect_encrypted(vm):
    vm.run("vmcryptctl show --json short | jq -e '.data == \"Encrypted\" and .os == \"Encrypted\"'")
    for target in ("/", "/data"):
        vm.run(f"findmnt -n -o SOURCE {target} | grep -q '^/dev/mapper/'")


def restart(vm, sentence):
    say(sentence)
    print("# reboot", flush=True)
    vm.reboot(timeout=180)
    print(f"   (up again after {vm.boot_seconds:.0f} s)", flush=True)
    vm.wait_for("mountpoint -q /data", timeout=60)


def compare(vm, writer):
    say("Is every file as it was?")
    typed(vm, "cat /data/secret.txt")
    vm.verify("/data")
    print("Every file that was there before has its checksum.", flush=True)
    writer.stop()
    writer.verify()
    print("Every file that was written meanwhile has its checksum.", flush=True)
    if on_the_disk(vm, vm.devices["data"]) != 0:
        raise Wrong("the sentence can still be read on the disk")
    print("The disk itself no longer shows the sentence.", flush=True)
    if vm.failed_units():
        raise Wrong(f"units have failed: {vm.failed_units()}")


def demo(rig):
    say("Booting a Debian 12 in User-Mode Linux, with an emulated key vault on its network.")
    vm = rig.vm(disks={"data": DISK_SIZE}, boot_disk=BOOT_SIZE, memory="1024M")
    vm.boot()
    print(f"   (up after {vm.boot_seconds:.0f} s)", flush=True)
    vm.wait_for(f"curl -sSf {VAULT}/healthstatus", timeout=30)
    prepare(vm)
    writer = encrypt(vm)
    restart(vm, "Reboot: the machine fetches its keys from the vault by itself, the root's in the initramfs.")
    typed(vm, "findmnt / ; findmnt /data")
    typed(vm, "vmcryptctl show", timeout=120)
    expect_encrypted(vm)
    compare(vm, writer)
    vm.shutdown()


def main():
    if os.geteuid() != 0:
        sys.exit("must be root: network namespaces and image building need it")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    host.preload_library()
    image.base_image()
    say("Building what is to be shown.")
    tar = product.build()
    if not tar:
        sys.exit("there is nothing to show")
    try:
        with tempfile.TemporaryDirectory(dir=image.cache_directory(), prefix="demo-") as folder:
            with Rig("demo", pathlib.Path(folder), tar, min(os.sched_getaffinity(0))) as rig:
                try:
                    demo(rig)
                except (Wrong, MachineError) as error:
                    print(f"\n{error}\n\n{rig.report()}\nThe demo failed: {error}", flush=True)
                    return 1
    finally:
        tar.unlink(missing_ok=True)
    print(f"\nThe data volume and the OS volume were encrypted in use, and after the reboots every file is as it "
          f"was ({time.monotonic() - began:.0f} s).")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
