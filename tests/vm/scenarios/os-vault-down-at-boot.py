# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vault is down when an encrypted root is to be unlocked: each attempt is told, and it boots when it is back.

What passes by itself is told apart from what a person has to mend.
"""

import os_story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True
STAGE = "os-encrypted"
NO_IDENTITY = r"The instance metadata service \S+ cannot be reached.*; trying again"


def boot_unanswered(vm, wanted):
    """Power on, and wait until the console has said what is wrong: what has to be mended, at once."""
    vm.boot(wait=None)
    vm.wait_console(rf"attempt {2 if wanted.endswith('trying again') else 1}: .*" + wanted, 180)
    assert "BusyBox" not in vm.printed() and "(initramfs)" not in vm.printed()


def run(rig):
    vm = os_story.encrypted(rig)
    for stop, start, wanted in (
            (lambda: rig.cloud.stop("vault"), lambda: rig.cloud.start("vault"),
             r"Key vault \S+ cannot be reached.*; trying again"),
            (lambda: rig.cloud.stop("imds"), lambda: rig.cloud.start("imds"), NO_IDENTITY),
            (lambda: rig.cloud.stop("dns"), lambda: rig.cloud.start("dns"),
             r"Key vault \S+ cannot be found: its name does not resolve.*; trying again"),
            (lambda: rig.cloud.stop("dhcp"), lambda: rig.cloud.start("dhcp"), NO_IDENTITY),
            (lambda: rig.cloud.fault("forbidden-by-rbac", service="vault", count=None), rig.cloud.clear,
             r"no role that allows it to unwrap.*403 ForbiddenByRbac.*; next try in \d+ seconds"),
            (lambda: rig.cloud.fault("disabled", service="vault", count=None), rig.cloud.clear,
             r"is disabled \(403 KeyDisabled.*; next try in \d+ seconds")):
        stop()
        boot_unanswered(vm, wanted)
        start()
        vm.wait_agent(240)
        vm.wait_up()
        os_story.assert_root_encrypted(vm)
        vm.shutdown()
    vm.boot()
    vm.verify("/srv")
    # what the initramfs had set up for itself is gone: the network is networkd's own
    assert vm.run("ip -4 -o address show dev vec0 | wc -l").strip() == "1"
    assert "dynamic" in vm.run("ip -4 address show dev vec0")
