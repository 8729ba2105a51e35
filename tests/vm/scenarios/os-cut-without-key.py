# SPDX-License-Identifier: LGPL-2.1-or-later
"""The power fails while the initramfs makes room and writes the header, and afterwards there is no key: what was begun is ended.

Where the header is not there yet, the machine boots as it was; where it is, it waits for its key. Disks lose what was
not flushed. VMCRYPT_CUTS says how many cuts (4), VMCRYPT_SEED repeats a run.
"""

import os
import random
import time

import os_story
import story

CUTS = int(os.environ.get("VMCRYPT_CUTS", "4"))
LIMIT = 600 + 300 * CUTS
STAGE = "os-pending"
ONLY_BY_NAME = True
WORK_S = 6  # about so long both take
READY = "systemctl is-active vmcryptd"
PLAIN = "is not encrypted"
ASKS = "[Rr]ecovery key"


def cut(rig, vm, seconds):
    """Cut it off so long after it was given its key."""
    given = len(rig.cloud.log(service="vault"))
    vm.boot(wait=None)
    end = time.monotonic() + 60
    while len(rig.cloud.log(service="vault")) == given:
        assert time.monotonic() < end, "no vault was asked"
        time.sleep(0.02)
    time.sleep(seconds)
    vm.power_cut()


def run(rig):
    seed = int(os.environ.get("VMCRYPT_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    print(f"note: seed {seed}, {CUTS} cuts")
    for number in range(CUTS):
        vm = os_story.pending(rig, lossy=seed + number)
        moment = chance.uniform(0, WORK_S)
        cut(rig, vm, moment)
        rig.cloud.stop("vault")
        vm.boot(wait=None)
        is_plain = PLAIN in vm.wait_console(f"{PLAIN}|{ASKS}", 260).group(0)
        print(f"note: cut {moment:.1f} s after the key: {'as it was' if is_plain else 'waits for its key'}")
        if not is_plain:
            rig.cloud.start("vault")
        vm.wait_agent(timeout=200)
        vm.verify("/srv")
        vm.wait_for(READY, timeout=120)
        assert is_plain == (not vm.run("findmnt -n -o SOURCE /").startswith("/dev/mapper/"))
        if is_plain:
            os_story.assert_pending(vm)
            vm.shutdown()
            rig.cloud.start("vault")
            vm.boot(timeout=200)
        story.wait_state(vm, [os_story.ROOT], "Encrypted", timeout=900)
        story.wait_jobs(vm)
        os_story.assert_root_encrypted(vm)
        vm.verify("/srv")
        vm.power_cut()
