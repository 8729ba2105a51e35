# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk is detached in the middle of its conversion: nothing of it is undone, also with another disk in its place."""

import hashlib
import os
import subprocess
import time

import story

LIMIT = 1200
ONLY_BY_NAME = True


def wait_missing(vm):
    end = time.monotonic() + 180
    while True:
        report = story.newest(story.show(vm))[0]
        if "volume-away" in [fault["code"] for fault in report["faults"]] and report["state"] == "waiting":
            return report
        assert report["state"] in ("running", "waiting") and time.monotonic() < end, report
        time.sleep(vm.LOOK_S)


def begin(vm, flags=()):
    """A conversion that is not over when the machine goes off."""
    story.enable(vm, "--key-encryption-key", story.KEK, *flags)
    end = time.monotonic() + 120
    while not (story.state(vm, story.uuid_of(1)).get("percent") or 0.0) > 0.0:
        assert time.monotonic() < end
        time.sleep(0.3)
    vm.run("systemctl poweroff", check=False)
    vm.wait_off(120)


def fill(path, kind):
    """What is on the disk that has come to the place of ours. Return: its bytes' hash."""
    if kind == "partitions":
        subprocess.run(["sfdisk", "-q", path], check=True, text=True, input="label: gpt\n,200M\n,\n")
    elif kind == "filesystem":
        subprocess.run(["mkfs.ext4", "-q", path], check=True)
    else:
        with path.open("r+b") as disk:
            disk.write(os.urandom(4 << 20))
    return hash_of(path)


def hash_of(path):
    with path.open("rb") as disk:
        return hashlib.file_digest(disk, "sha256").hexdigest()


def wait_moving(vm, uuid):
    vm.wait_for(f"vmcryptctl show --json=short | jq -e '.volumes[] | select(.uuid == \"{uuid}\") | "
                ".percent < 100 and .percent > 0'", timeout=120, interval=0.3)


def boot_with(vm, kind):
    """Another disk is where ours was: it is not touched, and what ours needs stays."""
    vm.make_disks({kind: "1G"})
    before = fill(vm.disks[kind], kind)
    vm.boot(wait="agent")
    vm.wait_for("systemctl is-active multi-user.target && systemctl is-active vmcryptd", timeout=150)
    wait_missing(vm)
    # it is looked for every half a minute
    time.sleep(35)
    wait_missing(vm)
    vm.run("systemctl poweroff", check=False)
    vm.wait_off(120)
    assert hash_of(vm.disks[kind]) == before, kind
    vm.disks.pop(kind)
    vm.devices.pop(kind)


def go_back_elsewhere(vm, uuid):
    """On its way back the header is in a file, which would open any disk of that size: none but its own is written to."""
    vm.run("umount /data && vmcryptctl disable --volume-type Data --no-wait")
    wait_moving(vm, uuid)
    vm.run("systemctl poweroff", check=False)
    vm.wait_off(120)
    own = vm.disks.pop("data")
    vm.devices.pop("data")
    boot_with(vm, "nothing")

    # the next is cut in the middle of a step, which is recovered when it is opened
    vm.add_disk("data", own)
    vm.boot(wait="agent")
    wait_moving(vm, uuid)
    vm.power_cut()
    vm.disks.pop("data")
    vm.devices.pop("data")
    for kind in ("filesystem", "partitions"):
        boot_with(vm, kind)
    vm.add_disk("data", own)
    vm.boot()
    story.wait_state(vm, [uuid], "NotEncrypted")
    story.wait_jobs(vm)
    vm.run("findmnt /data || mount /data")
    vm.verify("/data")


def run(rig):
    vm = rig.vm(disks={"data": "1G"})
    vm.boot()
    uuid = story.volume(vm, vm.devices["data"], "/data", "ext4", make="mkfs.ext4 -q -F -U {uuid} {device}")
    begin(vm)

    # another disk has come to its place
    path = vm.disks.pop("data")
    vm.devices.pop("data")
    vm.make_disks({"other": "64M"})
    subprocess.run(["mkfs.ext4", "-q", vm.disks["other"]], check=True)
    before = vm.disks["other"].read_bytes()
    vm.boot(wait="agent")
    vm.wait_for("systemctl is-active multi-user.target && systemctl is-active vmcryptd", timeout=150)
    wait_missing(vm)
    assert uuid in vm.run("cat /etc/crypttab") and uuid in vm.run("cat /etc/fstab")
    assert "nofail" in vm.run("grep /data /etc/fstab")
    vm.run("systemctl poweroff", check=False)
    vm.wait_off(120)

    assert vm.disks["other"].read_bytes() == before
    vm.add_disk("data", path)
    vm.boot()
    vm.verify("/data")
    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    story.assert_encrypted(vm, uuid, "/data")
    vm.verify("/data")

    go_back_elsewhere(vm, uuid)

    # gone for good: the job ends when a person says so, and other volumes can be asked for
    begin(vm)
    vm.disks.pop("data")
    vm.devices.pop("data")
    vm.boot(wait="agent")
    vm.wait_for("systemctl is-active multi-user.target && systemctl is-active vmcryptd", timeout=150)
    wait_missing(vm)
    vm.wait_for(f"vmcryptctl disable --volume {uuid} || vmcryptctl show --json=short | "
                "jq -e '.reports[-1].state == \"failed\"'", timeout=120)
    story.wait_jobs(vm)
