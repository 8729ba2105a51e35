# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rig's stages: built once, begun at as often as one likes, with the cloud as it was; one that fails says so at once."""

import shutil
import time

import image

NAME = "rig-stage"
CUT = "rig-stage-fails"
LIMIT = 900


def build(rig):
    vm = rig.vm(disks={"data": "64M"}, boot_disk="128M", memory="512M")
    vm.boot()
    vm.run(f"mkfs.ext4 -q {vm.devices['data']} && mount {vm.devices['data']} /mnt && echo kept > /mnt/file; "
           "echo kept > /root/file; echo kept > /boot/file")
    if rig.cloud:
        rig.cloud.set_secret("kv1", "staged", "kept")
    return vm


def fails(_):
    raise KeyError("no such thing")


def look(vm):
    """It is as build() left it, and goes on by itself afterwards."""
    vm.boot()
    vm.run(f"mount {vm.devices['data']} /mnt")
    for path in ("/root/file", "/boot/file", "/mnt/file"):
        assert vm.get(path) == "kept\n", path
        vm.put(path, "changed\n")
    assert vm.failed_units() == [], vm.failed_units()


def run(rig):
    for name in (NAME, CUT):
        for old in image.cache_directory().glob(f"stage-{name}-????????????*"):
            shutil.rmtree(old)
    for expected in ("no such thing", "could not be built before, in this run: KeyError: 'no such thing'"):
        try:
            rig.stage(CUT, fails)
        except Exception as error:
            assert expected in str(error), error
        else:
            raise AssertionError("a stage that cannot be built was built")

    vm = rig.stage(NAME, build)
    look(vm)
    if rig.cloud:
        vm.wait_for("curl -sSf https://kv1.vault.azure.net/healthstatus", timeout=20)
        rig.cloud.set_secret("kv1", "later", "lost")
    vm.power_cut()

    began = time.monotonic()
    other = rig.stage(NAME, fails, disks={"more": "8M"})
    seconds = time.monotonic() - began
    print(f"a further machine of the stage took {seconds:.1f} s")
    look(other)
    assert other.run(f"blockdev --getsize64 {other.devices['more']}").strip() == str(8 << 20)
    if rig.cloud:
        secrets = rig.cloud.state()["vaults"]["kv1.vault.azure.net"]["secrets"]
        assert "staged" in secrets and "later" not in secrets, secrets.keys()
