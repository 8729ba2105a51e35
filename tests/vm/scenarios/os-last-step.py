# SPDX-License-Identifier: LGPL-2.1-or-later
"""The last step of a conversion of the root, and its recovery, are cut as well: it boots by itself, there and back.

The library alone cannot go on from either: it wipes what it needs before its header says that the step is done.
"""

import subprocess
import time

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True
STAGE = "os-pending"
HEAD_BYTES = 16 << 20
KEYSLOT_KIB = (32, 252)  # offset and size of the first keyslot's area, that of all our headers

# Let the process that moves the data go on for a moment, until a step that has the first segment is on; a shorter one
# the smaller that segment is.
FREEZE = """
import json, os, signal, subprocess, sys, time
header = sys.argv[1]
MOMENTS = ((32 << 20, 0.002), (256 << 20, 0.02), (1 << 60, 0.4))

def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]

def first_segment():
    text = subprocess.run(["cryptsetup", "luksDump", "--disable-locks", "--dump-json-metadata", header],
                          stdout=subprocess.PIPE, check=True).stdout
    return json.loads(text)["segments"]["0"]

workers = subprocess.run(["pgrep", "-x", "vmcrypt-worker"], stdout=subprocess.PIPE, text=True).stdout.split()
movers = [child for worker in workers for child in children(int(worker))]
mover, = [pid for pid in movers if open(f"/proc/{pid}/comm").read().strip() == "vmcrypt-worker"]
seen = []
while True:
    os.kill(mover, signal.SIGSTOP)
    time.sleep(0.01)
    segment = first_segment()
    if "in-reencryption" in segment.get("flags", []):
        break
    seen.append((round(time.monotonic(), 3), segment["type"], segment["size"]))
    try:
        os.kill(mover, signal.SIGCONT)
    except ProcessLookupError:
        sys.exit(f"it is over: {seen[-12:]}")
    size = 0 if segment["size"] == "dynamic" else int(segment["size"])
    time.sleep(next(moment for limit, moment in MOMENTS if size < limit))
print("frozen")
"""


def run(rig):
    vm = os_story.pending(rig)
    vm.flatten_root()
    vm.boot()
    freeze(vm, "/dev/ubda", "EncryptionInProgress")
    vm.power_cut()
    cut_recovery(vm)
    vm.boot()
    assert "its last step, cut twice, is ended" in vm.console_since_power_on()
    story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=300)
    story.wait_jobs(vm)
    os_story.assert_root_encrypted(vm)
    vm.verify("/srv")

    vm.run("vmcryptctl disable --volume-type OS", timeout=os_story.PREPARED_S)
    header = vm.run("ls /boot/vmcrypt/headers/*.luks").strip()
    freeze(vm, header, "DecryptionInProgress")
    offset_kib, size_kib = KEYSLOT_KIB
    vm.run(f"dd if=/dev/urandom of={header} bs=1K seek={offset_kib} count={size_kib} conv=notrunc,fsync status=none")
    vm.power_cut()
    vm.boot()
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda"
    story.wait_jobs(vm, timeout=os_story.PREPARED_S)
    vm.verify("/srv")
    vm.reboot()
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda"
    assert story.show(vm)["os"] == "NotEncrypted"
    assert vm.run("ls /boot/vmcrypt/headers").strip() == ""
    vm.verify("/srv")


def freeze(vm, header, state):
    """Stop the conversion in the middle of its last step. Nothing that the root has to be read for works then."""
    end = time.monotonic() + 900
    while True:
        row = story.state(vm, os_story.ROOT)
        if row["state"] == state and 0 < row["percent"] < 100:
            break
        assert time.monotonic() < end, row
        time.sleep(vm.LOOK_S)
    vm.put("/run/freeze", FREEZE)
    vm.run(f"dd if=/dev/urandom of=/dev/null count=1 status=none; python3 /run/freeze {header}", timeout=600)


def cut_recovery(vm):
    """As after a recovery that was cut before it wrote the header: all is done, but the header says that it is not."""
    with open(vm.flat_root, "r+b") as disk:
        head = disk.read(HEAD_BYTES)
        subprocess.run(["cryptsetup", "repair", "-q", vm.flat_root], input=vm.notes["recovery key"].encode(), check=True)
        disk.seek(0)
        disk.write(head)
