# SPDX-License-Identifier: LGPL-2.1-or-later
"""No vault: --key-provider file keeps root-only key files on another device; a recovery key opens it too."""

import re

import story


def run(rig):
    vm = rig.vm(disks={"data": "256M"})
    vm.boot()
    device = vm.devices["data"]
    uuid = story.volume(vm, device, "/data", "ext4")
    said = story.enable(vm, "--recovery-key", keys=("--key-provider", "file"))
    recovery = re.search(r"\b[0-9A-Z]{4,}(-[0-9A-Z]{4,}){5,}\b", said).group(0)
    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    assert vm.run("stat -c '%U %a' /etc/vmcrypt/keys /etc/vmcrypt/keys/*").split() == \
        ["root", "700", "root", "600"]
    assert vm.run(f"grep -rl {recovery} /etc /var/lib/vmcrypt /run/vmcrypt /var/log || true") == "", \
        "the recovery key was stored"
    assert vm.run(f"journalctl | grep -c {recovery} || true").strip() == "0"
    vm.put("/run/typed", recovery)
    vm.run(f"cryptsetup open --test-passphrase --key-file /run/typed {device}")
    refused = vm.run(f"printf wrong | cryptsetup open --test-passphrase --key-file - {device}", check=False)
    assert refused.code != 0
    rig.cloud.stop("vault")
    rig.cloud.stop("imds")
    vm.reboot()
    story.assert_encrypted(vm, uuid, "/data")
    vm.verify("/data")
    assert not rig.cloud.log(service="vault"), "a vault was asked"
