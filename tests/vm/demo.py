# SPDX-License-Identifier: LGPL-2.1-or-later
"""The main job, to watch: a data volume is encrypted while a program writes to it; a reboot; all is there.

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
DISK_SIZE = "512M"
FILES_SIZE = "120M"
SENTENCE = "nobody shall read this on a lost disk"
OUTPUT, STATUS = "/run/demo.out", "/run/demo.status"
POLL_S = 0.3
ENCRYPT_LIMIT_S = 600  # takes half a minute on a quiet machine


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

    request = f"--volume-type Data --disk-encryption-keyvault {VAULT} --key-encryption-key {KEK}"
    say("What would be done, and does anything stand in the way?")
    typed(vm, f"vmcryptctl enable {request} --plan", timeout=240)

    say("Encrypt it in place.")
    before = writer.count()
    began = time.monotonic()
    watched(vm, f"vmcryptctl enable {request} --watch", ENCRYPT_LIMIT_S)
    written = writer.count() - before
    print(f"It took {time.monotonic() - began:.0f} s, in which the program wrote {written} files.")
    if written == 0:
        raise Wrong("the program could not write meanwhile")

    say("The state is read from the disks.")
    typed(vm, "vmcryptctl show")
    typed(vm, "lsblk -o NAME,TYPE,FSTYPE,MOUNTPOINT " + vm.devices["data"])
    typed(vm, "grep data /etc/fstab; cat /etc/crypttab")
    expect_encrypted(vm)
    return writer


def expect_encrypted(vm):
    vm.run("vmcryptctl show --json short | jq -e '.data == \"Encrypted\"'")
    vm.run("findmnt -n -o SOURCE /data | grep -q '^/dev/mapper/'")


def restart(vm):
    say("Reboot: the machine fetches the key from the vault by itself.")
    print("# reboot", flush=True)
    vm.reboot()
    print(f"   (up again after {vm.boot_seconds:.0f} s)", flush=True)
    vm.wait_for("mountpoint -q /data", timeout=60)
    typed(vm, "findmnt /data")
    typed(vm, "vmcryptctl show")
    expect_encrypted(vm)


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
    vm = rig.vm(disks={"data": DISK_SIZE})
    vm.boot()
    print(f"   (up after {vm.boot_seconds:.0f} s)", flush=True)
    vm.wait_for(f"curl -sSf {VAULT}/healthstatus", timeout=30)
    prepare(vm)
    writer = encrypt(vm)
    restart(vm)
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
    print(f"\nThe data volume was encrypted while it was in use, and after a reboot every file on it is as it "
          f"was ({time.monotonic() - began:.0f} s).")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
