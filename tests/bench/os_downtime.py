# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long the converting reboot takes against an ordinary one, and how long writes stall while data moves.

The machine reboots as it is, its root is prepared, it reboots again: both are timed from the request for the reboot
until multi-user.target. Stalls are those of a program that appends 4 KiB and syncs them every 10 ms: on data volumes
of one size, converted in use by us and by `cryptsetup reencrypt` in turn, both as they are by default; and on the root.
"""

import json
import pathlib
import time

import machines
import os_story
import story
from figures import figure, median, percentile, spread

RUNS = 3
SIZE_MIB, ROOM_MIB = 512, 32
FILES = "24M"
IDLE_S = 10
MOVED_S = 900
TARGETS = {"ours": "/data", "peer": "/peer"}
NAME, KEY = "peer", "/run/bench-key"
PROGRAM, RESULT = "/usr/local/bin/stall", "/run/stall.json"
AGAINST = "cryptsetup reencrypt"
POINTS = {"median": 0.5, "99th percentile": 0.99, "worst": 1}


def run(bench, runs):
    with bench.rig("downtime") as rig:
        yield from downtime(bench, rig, runs)
    with bench.rig("stall") as rig:
        yield from stall(bench, rig, runs)


# -- reboots

def downtime(bench, rig, runs):
    ordinary, converting = [], []
    for turn in range(runs):
        vm = machines.plain(rig)
        vm.boot()
        ordinary.append(reboot(vm))
        bench.say(f"ordinary reboot: {ordinary[-1]:.1f} s")
        os_story.enable(vm, "--key-encryption-key", story.KEK)
        os_story.assert_pending(vm)
        converting.append(reboot(vm))
        bench.say(f"converting reboot: {converting[-1]:.1f} s")
        source = vm.run("findmnt -n -o SOURCE /").strip()
        assert source == f"/dev/mapper/{os_story.root_mapping()}", source
        if turn == runs - 1:
            start_stall(vm, "/stall", os_story.root_mapping())
            root = stall_result(vm)
        vm.power_cut()
    more = [slow - one for slow, one in zip(converting, ordinary)]
    yield figure("from reboot until multi-user.target", "s", median(converting), median(ordinary),
                 "an ordinary reboot of the same machine", ours_spread=spread(converting),
                 peer_spread=spread(ordinary), more=median(more), more_spread=spread(more), runs=runs)
    for name, part in POINTS.items():
        yield figure(f"stall of a write to the root, {name}", "ms", percentile(root["milliseconds"], part), None, None,
                     samples=len(root["milliseconds"]), moved_s=root["seconds"])


def reboot(vm):
    """Seconds from the request until the services are up again."""
    began = time.time()
    vm.reboot(timeout=180)
    return machines.services_up_at(vm) - began


# -- stalls

def stall(bench, rig, runs):
    rounds = []
    for turn in range(runs):
        vm = machines.plain(rig, disks={name: f"{SIZE_MIB}M" for name in TARGETS})
        vm.boot()
        uuid = story.volume(vm, vm.devices["ours"], TARGETS["ours"], "ext4", fill=FILES)
        make_peer(vm)
        start_stall(vm, f"{TARGETS['ours']}/idle", IDLE_S)
        found = {"idle": stall_result(vm)}
        for name in list(TARGETS)[::-1 if turn % 2 else 1]:
            found[name] = ours(vm, uuid) if name == "ours" else peer(vm)
            bench.say(f"{name}: moved in {found[name]['seconds']:.1f} s")
        rounds.append(found)
        vm.power_cut()
    every = {name: [took for found in rounds for took in found[name]["milliseconds"]] for name in rounds[0]}
    for title, part in POINTS.items():
        yield figure(f"stall of a write to a data volume, {title}", "ms", percentile(every["ours"], part),
                     percentile(every["peer"], part), AGAINST, idle=percentile(every["idle"], part),
                     **{f"{name}_spread": spread([percentile(found[name]["milliseconds"], part) for found in rounds])
                        for name in TARGETS},
                     samples=[len(every[name]) for name in TARGETS], runs=runs)
    seconds = {name: [found[name]["seconds"] for found in rounds] for name in TARGETS}
    yield figure(f"data of {SIZE_MIB} MiB moved, while written to", "s", *(median(seconds[name]) for name in TARGETS),
                 AGAINST, **{f"{name}_spread": spread(seconds[name]) for name in TARGETS}, runs=runs)


def make_peer(vm):
    """A volume as ours, with the room for a header left free."""
    vm.run(f"mkfs.ext4 -q -F {vm.devices['peer']} {SIZE_MIB - ROOM_MIB}M; mkdir {TARGETS['peer']};"
           f"mount {vm.devices['peer']} {TARGETS['peer']}")
    vm.fill(TARGETS["peer"], FILES)
    vm.run(f"umount {TARGETS['peer']}")


def ours(vm, uuid):
    start_stall(vm, f"{TARGETS['ours']}/stall", f"vmcrypt-{uuid}")
    story.enable(vm, "--volume", uuid, "--key-encryption-key", story.KEK)
    result = stall_result(vm)
    story.wait_jobs(vm)
    story.assert_encrypted(vm, uuid, TARGETS["ours"])
    return result


def peer(vm):
    device, target = vm.devices["peer"], TARGETS["peer"]
    vm.run(f"printf secret > {KEY}; cryptsetup reencrypt --encrypt --init-only --reduce-device-size {ROOM_MIB}M -q "
           f"--key-file {KEY} {device} {NAME} && mount /dev/mapper/{NAME} {target}", timeout=120)
    start_stall(vm, f"{target}/stall", NAME)
    vm.run(f"cryptsetup reencrypt --resume-only -q --key-file {KEY} --active-name {NAME}", timeout=MOVED_S)
    vm.run(f"dmsetup table {NAME} | grep -c . | grep -qx 1; cryptsetup status {NAME} | grep -q 'type: *LUKS2'")
    return stall_result(vm)


def start_stall(vm, path, until):
    vm.put(PROGRAM, (pathlib.Path(__file__).parent / "stall").read_text(), mode=0o755)
    vm.run(f"rm -f {RESULT}")
    vm.spawn(f"exec {PROGRAM} {path} {RESULT} {until}")


def stall_result(vm):
    vm.wait_for(f"test -e {RESULT}", timeout=MOVED_S, interval=5)
    return json.loads(vm.get(RESULT))
