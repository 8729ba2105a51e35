# SPDX-License-Identifier: LGPL-2.1-or-later
"""Six volumes at once, each with its own key, converted side by side; one batch of keys at boot."""

import story


def run(rig):
    names = [f"disk{number}" for number in range(6)]
    vm = rig.vm(disks={name: "320M" if name == "disk2" else "112M" for name in names}, memory="1024M")
    vm.boot()
    uuids = [story.volume(vm, vm.devices[name], f"/{name}", "btrfs" if name == "disk2" else "ext4", number,
                          fill="4M") for number, name in enumerate(names, start=1)]
    story.enable(vm, "--key-encryption-key", story.KEK, timeout=240)
    answer = story.wait_state(vm, uuids, "Encrypted")
    assert answer["data"] in ("Encrypted", "EncryptionInProgress"), answer["data"]
    story.wait_jobs(vm)
    keys = {row["key"] for row in story.show(vm)["volumes"] if row.get("uuid") in uuids}
    assert len(keys) == len(names), keys
    rig.cloud.clear_log()
    vm.reboot()
    for name, uuid in zip(names, uuids):
        story.assert_encrypted(vm, uuid, f"/{name}")
        vm.verify(f"/{name}")
    tokens = [entry for entry in rig.cloud.log(service="imds") if "oauth2/token" in entry["path"]]
    assert len(tokens) == 1, f"{len(tokens)} identity tokens for one boot"
