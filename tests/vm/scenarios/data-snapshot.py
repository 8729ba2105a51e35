# SPDX-License-Identifier: LGPL-2.1-or-later
"""The snapshot holds what was before, with checksums; restoring is refused once data has moved, with the reason."""

import json

import story


def run(rig):
    vm = rig.vm(disks={"data": "256M"})
    vm.boot()
    uuid = story.volume(vm, vm.devices["data"], "/data", "ext4", fill="8M")
    fstab = vm.run("cat /etc/fstab")
    plan = vm.run(f"vmcryptctl enable --volume-type Data --disk-encryption-keyvault {story.VAULT} --plan")
    assert uuid in plan and vm.run("ls /var/lib/vmcrypt/snapshots 2>/dev/null || true") == "", plan
    story.enable(vm)
    names = vm.run("ls /var/lib/vmcrypt/snapshots").split()
    assert len(names) == 1 and names[0] in vm.run("vmcryptctl snapshot list"), names
    folder = f"/var/lib/vmcrypt/snapshots/{names[0]}"
    manifest = json.loads(vm.run(f"cat {folder}/manifest.json"))
    assert [volume["uuid"] for volume in manifest["volumes"]] == [uuid]
    paths = {entry["path"] for entry in manifest["files"]}
    assert {"files/etc/fstab", "mounts", f"volumes/{uuid}/volume.json"} <= paths, paths
    assert vm.run(f"cat {folder}/files/etc/fstab") == fstab
    assert vm.run(f"stat -c %a {folder}").strip() == "700"
    assert uuid in vm.run(f"vmcryptctl snapshot show {names[0]}")

    story.wait_state(vm, [uuid], "Encrypted")
    story.wait_jobs(vm)
    left = vm.run(f"ls {folder}/volumes/{uuid}").split()
    assert "head" not in left and "tail" not in left, "plain sectors lie beside the encrypted volume"
    manifest = json.loads(vm.run(f"cat {folder}/manifest.json"))
    for entry in manifest["files"]:
        vm.run(f"echo '{entry['sha256']}  {folder}/{entry['path']}' | sha256sum --quiet -c")
    refused = vm.run(f"vmcryptctl snapshot restore {names[0]} --yes", check=False)
    said = refused.out + refused.err
    assert refused.code != 0 and "data-moved" in said and "disable" in said, (refused.code, said)
    assert vm.run("vmcryptctl snapshot restore ../../etc --yes", check=False).code != 0
    vm.verify("/data")
    assert story.state(vm, uuid)["state"] == "Encrypted"
