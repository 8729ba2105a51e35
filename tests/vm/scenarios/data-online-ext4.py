# SPDX-License-Identifier: LGPL-2.1-or-later
"""A mounted, busy ext4 volume is encrypted online, its key is in the vault, a reboot unlocks it."""

import story


def run(rig):
    vm = rig.vm(disks={"data": "256M"})
    vm.boot()
    device = vm.devices["data"]
    vm.run(f"printf 'label: gpt\\n,,L\\n' | sfdisk -q {device} && udevadm settle")
    uuid = story.online(vm, "ext4", f"{device}1")

    secrets = [entry for entry in rig.cloud.log(service="vault", method="PUT")
               if "/secrets/vmcrypt-" in entry["path"] and entry["status"] == 200]
    assert secrets, "no key was stored"
    row = story.state(vm, uuid)
    assert row["provider"] == "keyvault" and row["key"].startswith(story.VAULT), row
    size = vm.run(f"dumpe2fs -h /dev/mapper/vmcrypt-{uuid} 2>/dev/null "
                  "| awk '/^Block count/ {n = $3} /^Block size/ {print n * $3}'")
    whole = vm.run(f"blockdev --getsize64 /dev/mapper/vmcrypt-{uuid}")
    assert int(whole) - int(size) < 1 << 20, f"the filesystem did not take its room back: {size} of {whole}"
