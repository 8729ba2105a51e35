# SPDX-License-Identifier: LGPL-2.1-or-later
"""A volume that cannot be unmounted is named with its processes; --next-boot does it early at the next boot."""

import story


def run(rig):
    vm = rig.vm(disks={"data": "256M"})
    vm.boot()
    uuid = story.volume(vm, vm.devices["data"], "/data", "ext4")
    vm.spawn("cd /data && exec -a database sleep 1000")
    vm.wait_for("pgrep -f database")
    refused = story.enable(vm, check=False)
    said = refused.out + refused.err
    assert refused.code == 4 and "volume-busy" in said and "sleep" in said, (refused.code, said)
    vm.verify("/data")
    assert vm.run("lsblk -n -o FSTYPE " + vm.devices["data"]).strip() == "ext4"

    # whose start waits for the volume
    vm.put("/etc/systemd/system/database.service", "[Unit]\nRequiresMountsFor=/data\n[Service]\nType=oneshot\n"
           "RemainAfterExit=yes\nExecStart=/bin/ls /data\n[Install]\nWantedBy=multi-user.target\n")
    vm.run("systemctl enable -q database")
    story.enable(vm, "--next-boot")
    assert story.state(vm, uuid)["state"] == "VMRestartPending"
    assert story.show(vm)["data"] == "VMRestartPending"
    vm.reboot()
    assert vm.run("systemctl is-active database", check=False).out.strip() == "active"
    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    story.assert_encrypted(vm, uuid, "/data")
    vm.verify("/data")
    vm.reboot()
    story.assert_encrypted(vm, uuid, "/data")
    vm.verify("/data")
