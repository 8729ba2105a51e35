# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power cuts while a root is encrypted, in the initramfs and in use: each time it boots by itself, and every file holds.

The machine's disks have a volatile cache: a cut loses any part of what was not flushed, in any order. Each round
cuts the running system at a random moment, often once more while it boots, and then lets it boot, looks at every
file and at what `show` says. When the root is encrypted, it begins again from the prepared machine. A tenth of
the cuts fall while the machine is prepared. VMCRYPT_CUTS says how many cuts (8), VMCRYPT_SEED repeats a run.
"""

import os
import random
import time

import os_story
import story

CUTS = int(os.environ.get("VMCRYPT_CUTS", "8"))
LIMIT = 900 + 150 * CUTS
STAGE = "os-pending"
ROUNDS_MAX = 60  # of one way, before it is called stuck
BOOT_S = 400
EARLY = 0.6     # so often is the boot after a cut cut off too
IN_USE_S = 45   # a conversion takes about so long
PREPARE_S = 60  # and to prepare it


class Journey:
    """One machine on its way from prepared to encrypted."""

    def __init__(self, vm, chance, cuts_left):
        self.vm, self.chance, self.left = vm, chance, cuts_left
        self.cuts = []
        self.boot_s = 30

    def cut(self, where, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.vm.is_running():
            time.sleep(0.05)
        self.vm.power_cut()
        self.cuts.append(f"{where}+{seconds:.1f}")
        self.left -= 1

    def boot(self):
        """Up by itself, with every file; what show says is so. Return: the word for the OS volume."""
        began = time.monotonic()
        self.vm.boot(wait="agent", timeout=BOOT_S)
        self.boot_s = min(60, time.monotonic() - began)
        where = f"after {self.cuts}"
        self.vm.verify("/srv")
        self.vm.wait_for("systemctl is-active vmcryptd", timeout=120)
        word = story.show(self.vm)["os"]
        is_mapped = "/dev/mapper/" in self.vm.run("findmnt -n -o SOURCE /")
        assert is_mapped == (word in ("EncryptionInProgress", "Encrypted")), (where, word)
        return word

    def round(self):
        """The machine is up: cut it, and have it up again. Return: as boot()."""
        self.cut("use", self.chance.uniform(0, IN_USE_S))
        if self.left > 0 and self.chance.random() < EARLY:
            self.vm.boot(wait=None)
            self.cut("boot", self.chance.uniform(0, self.boot_s))
        return self.boot()

    def go(self):
        if self.left > 0 and self.chance.random() < 0.8:
            self.vm.boot(wait=None)
            self.cut("first boot", self.chance.uniform(0, self.boot_s * 1.3))
        word = self.boot()
        for _ in range(ROUNDS_MAX):
            if word == "Encrypted" or self.left <= 0:
                break
            word = self.round()
        else:
            raise AssertionError(f"stuck: {self.cuts}")
        story.wait_state(self.vm, [os_story.ROOT], "Encrypted", timeout=600)
        story.wait_jobs(self.vm)
        os_story.assert_root_encrypted(self.vm)
        self.vm.verify("/srv")
        self.vm.power_cut()


def prepare_with_cuts(rig, chance, count, seed):
    """From plain to prepared, cut off at random moments: plain at each boot, and it goes on by itself.

    What was prepared so is then booted once, and encrypts. Return: how many cuts there were.
    """
    vm = os_story.prepare(rig)
    vm.shutdown()
    vm.flatten_root()
    vm.lossy = seed
    vm.boot()
    os_story.enable(vm, "--no-wait")
    journey = Journey(vm, chance, count)
    while journey.left > 0:
        moment = chance.uniform(0, PREPARE_S)
        time.sleep(moment)
        if story.show(vm)["os"] == "VMRestartPending":
            break
        journey.cut("prepare", 0)
        journey.cuts[-1] = f"prepare+{moment:.1f}"
        if journey.boot() not in ("NotEncrypted", "VMRestartPending"):
            break  # the cut came when all was prepared, and this boot has begun it
    vm.wait_for("vmcryptctl show --json=short | jq -e '.os != \"NotEncrypted\"'", timeout=600,
                interval=5)  # looking takes a second of the machine's only processor
    if story.show(vm)["os"] == "VMRestartPending":
        vm.power_cut()
        word = journey.boot()
        assert word in ("EncryptionInProgress", "Encrypted"), word
    vm.power_cut()
    print(f"note: prepare: {len(journey.cuts)} cuts: {', '.join(journey.cuts)}")
    return len(journey.cuts)


def run(rig):
    seed = int(os.environ.get("VMCRYPT_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    print(f"note: seed {seed}, {CUTS} cuts")
    done = journeys = 0
    of_prepare = max(1, CUTS // 10)
    vm = os_story.pending(rig, lossy=seed)
    while done < CUTS - of_prepare:
        journeys += 1
        journey = Journey(vm, chance, CUTS - of_prepare - done)
        journey.go()
        done += len(journey.cuts)
        print(f"note: {len(journey.cuts)} cuts: {', '.join(journey.cuts)}")
        if done < CUTS - of_prepare:
            vm = os_story.pending(rig, lossy=seed + journeys)
    while done < CUTS:
        journeys += 1
        done += prepare_with_cuts(rig, chance, CUTS - done, seed + journeys)
    print(f"note: {done} cuts, {journeys} machines, no file changed")
