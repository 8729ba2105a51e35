# SPDX-License-Identifier: LGPL-2.1-or-later
"""What unlocking the root adds to a boot and to the initramfs, against Debian's clevis with tang.

The same machine four times: plain, ours (KEK in the vault, a recovery keyslot), clevis as one has it after Debian's
installer (a person's passphrase in keyslot 0, which cryptsetup tries first), clevis alone. They boot in turn, so what
disturbs one disturbs all; a boot is compared with the plain one of its own turn.
"""

import contextlib

import clevis
import machines
import os_story
from figures import figure, median, spread

RUNS = 5
PEERS = {"clevis": "clevis and tang", "alone": "clevis and tang, without a passphrase's keyslot"}
POINTS = {
    "initramfs": "added to the boot until systemd runs",
    "services": "added to the boot until multi-user.target",
    "wall": "added from the boot loader until all is up, from outside",
}


def run(bench, runs):
    with contextlib.ExitStack() as stack:
        plain, ours, other = (stack.enter_context(bench.rig(name)) for name in ("plain", "ours", "clevis"))
        kinds = {"plain": machines.plain(plain), "ours": os_story.encrypted(ours), "clevis": clevis.machine(other),
                 "alone": clevis.machine(other)}
        stack.enter_context(clevis.tang(other, clevis.keys(kinds["clevis"])))
        checks = {"plain": assert_plain, "ours": os_story.assert_root_encrypted, "clevis": clevis.assert_unlocked,
                  "alone": clevis.assert_unlocked}
        for name, vm in kinds.items():
            bench.say(f"{name}: a first boot, not counted")
            vm.boot()
            checks[name](vm)
            if name == "alone":
                clevis.remove_passphrase(vm)
            vm.shutdown()
        times = {name: [] for name in kinds}
        for turn in range(runs):
            names = list(kinds)
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                kinds[name].boot()
                times[name].append(machines.boot_times(kinds[name]))
                bench.say(f"{name}: {times[name][-1]}")
                kinds[name].shutdown()
        # what the loader gave to the kernel
        sizes = {name: (vm.workdir / "initrd").stat().st_size for name, vm in kinds.items()}
    for point, title in POINTS.items():
        for peer, against in PEERS.items():
            yield added(point, title, times, peer, against)
    yield figure("added to the initramfs", "bytes", sizes["ours"] - sizes["plain"], sizes["clevis"] - sizes["plain"],
                 PEERS["clevis"], plain=sizes["plain"])


def assert_plain(vm):
    source = vm.run("findmnt -no SOURCE /").strip()
    assert source == "/dev/ubda", source


def added(point, title, times, peer, against):
    plain = [turn[point] for turn in times["plain"]]
    more = {name: [turn[point] - one for turn, one in zip(times[name], plain)] for name in ("ours", peer)}
    return figure(title, "s", median(more["ours"]), median(more[peer]), against, ours_spread=spread(more["ours"]),
                  peer_spread=spread(more[peer]), plain=median(plain), plain_spread=spread(plain), runs=len(plain))
