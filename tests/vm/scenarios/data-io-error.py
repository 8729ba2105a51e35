# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk that cannot read a sector in the middle of a step: said at once with what to do; show does not hang."""

import json
import time

import story


def run(rig):
    vm = rig.vm(memory="1024M")
    vm.boot()
    # 200 MiB; sectors 200000 to 200007 cannot be read once opts says so: neither head nor tail
    vm.run("modprobe scsi_debug dev_size_mb=200 removable=0 medium_error_start=200000 medium_error_count=8 opts=0"
           " && udevadm settle")
    device = vm.run("lsblk -n -d -o PATH,MODEL | awk '/scsi_debug/ {print $1}'").strip()
    uuid = story.volume(vm, device, "/data", "ext4", fill="2M")
    vm.run("echo 2 > /sys/bus/pseudo/drivers/scsi_debug/opts")
    story.enable(vm, check=False)

    end = time.monotonic() + 240
    while True:
        answer = json.loads(vm.run("vmcryptctl show --json=short", timeout=100))
        faults = [fault for report in answer["reports"] for fault in report["faults"] if fault["level"] == "error"]
        if faults:
            break
        assert time.monotonic() < end, answer
        time.sleep(vm.LOOK_S)
    assert [fault["code"] for fault in faults] == ["step-failed"], faults
    assert faults[0]["volume"] == uuid and "Reboot" in faults[0]["remedy"], faults
    row = story.state(vm, uuid)
    assert row["state"] == "EncryptionInProgress" and 0 < row["percent"] < 100, row
    assert vm.run("systemctl is-active vmcryptd").strip() == "active"
    assert "step-failed" in vm.run("journalctl -u 'vmcrypt-worker@*'")
    vm.power_cut()
