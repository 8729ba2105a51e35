# SPDX-License-Identifier: LGPL-2.1-or-later
"""disable while others have devices open, below and above, for a moment or for good: both volumes stay mounted."""

import story

# as udev's rules and who lists disks do, only far more often
LOOKS = "sh -c 'while :; do sleep 1 < {0} || exit; sleep 0.3; done' > /dev/null 2>&1 &"
KEEPS = "sleep 1000 < {0} > /dev/null 2>&1 & echo $!"


def run(rig):
    vm = rig.vm(disks={"looked": "64M", "kept": "64M"})
    vm.boot()
    looked, kept = vm.devices["looked"], vm.devices["kept"]
    uuids = [story.volume(vm, device, target, "ext4", number, fill="4M")
             for number, (device, target) in enumerate(((looked, "/looked"), (kept, "/kept")), 1)]
    mappings = [f"/dev/mapper/vmcrypt-{uuid}" for uuid in uuids]
    story.enable(vm)
    story.wait_state(vm, uuids, "Encrypted")
    story.wait_jobs(vm)

    vm.run(LOOKS.format(mappings[0]))
    # so what was read of it while it was encrypted stays in its page cache
    below = vm.run(f"head -c 4M {looked} > /dev/null; " + KEEPS.format(looked)).strip()
    keeper = vm.run(KEEPS.format(mappings[1])).strip()
    story.disable(vm)
    story.wait_state(vm, uuids, "NotEncrypted")
    reports = story.wait_jobs(vm)
    assert vm.run("findmnt -n -o SOURCE /looked").strip() == looked
    assert vm.run("findmnt -n -o SOURCE /kept").strip() == mappings[1]
    said = [(fault["code"], fault["volume"]) for report in reports for fault in report["faults"]]
    assert said == [("still-in-use", uuids[1])], said
    for target in ("/looked", "/kept"):
        vm.verify(target)

    vm.run(f"kill {below} {keeper}; umount /kept")
    vm.wait_for(f"[ ! -e {mappings[1]} ]", timeout=20)
    vm.run("mount /kept")
    assert vm.run("findmnt -n -o SOURCE /kept").strip() == kept
    vm.verify("/kept")
