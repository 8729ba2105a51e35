# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon restarts, a person pauses, the machine reboots: the conversion stops between two steps and goes on."""

import time

import story


def progress(vm, uuid):
    row = story.state(vm, uuid)
    return row["state"], row.get("percent") or 0.0


def wait_beyond(vm, uuid, percent, timeout=120):
    """Wait until the conversion has passed a point; it must not be over by then."""
    end = time.monotonic() + timeout
    while True:
        state, now = progress(vm, uuid)
        assert state == "EncryptionInProgress", (state, now)
        if now > percent:
            return now
        assert time.monotonic() < end, f"no progress beyond {now} percent"
        time.sleep(0.3)


def run(rig):
    vm = rig.vm(disks={"data": "1G"})
    vm.boot()
    uuid = story.volume(vm, vm.devices["data"], "/data", "ext4", make="mkfs.ext4 -q -F -U {uuid} {device}")
    story.enable(vm, "--key-encryption-key", story.KEK)

    # the worker outlives the daemon
    worker = vm.run("pgrep -o vmcrypt-worker").strip()
    first = wait_beyond(vm, uuid, 0.0)
    vm.run("systemctl restart vmcryptd")
    assert vm.run("pgrep -o vmcrypt-worker").strip() == worker
    wait_beyond(vm, uuid, first)

    # a pause ends between two steps; what is said is still true
    vm.run("vmcryptctl pause", timeout=60)
    vm.wait_for("! pgrep vmcrypt-worker", timeout=60)
    paused = progress(vm, uuid)
    assert paused[0] == "EncryptionInProgress", paused
    vm.verify("/data")
    vm.run("vmcryptctl resume", timeout=60)
    wait_beyond(vm, uuid, paused[1])

    # a reboot in the middle: unlocked half-way, it goes on by itself
    vm.reboot()
    assert vm.run("findmnt -n -o FSTYPE /data").strip() == "ext4"
    vm.verify("/data")
    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    story.assert_encrypted(vm, uuid, "/data")
    vm.verify("/data")
    assert not [fault for report in story.show(vm)["reports"] for fault in report["faults"]
                if fault["level"] == "error"]
