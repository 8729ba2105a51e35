# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk is detached in the middle of its conversion: nothing of it is undone, also with another disk in its place."""

import subprocess
import time

import story

LIMIT = 900
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

    # gone for good: the job ends when a person says so, and other volumes can be asked for
    vm.run("vmcryptctl disable --volume-type Data", timeout=story.PREPARED_S)
    story.wait_state(vm, [uuid], "NotEncrypted")
    story.wait_jobs(vm)
    begin(vm)
    vm.disks.pop("data")
    vm.devices.pop("data")
    vm.boot(wait="agent")
    vm.wait_for("systemctl is-active multi-user.target && systemctl is-active vmcryptd", timeout=150)
    wait_missing(vm)
    vm.wait_for(f"vmcryptctl disable --volume {uuid} || vmcryptctl show --json=short | "
                "jq -e '.reports[-1].state == \"failed\"'", timeout=120)
    story.wait_jobs(vm)
