# SPDX-License-Identifier: LGPL-2.1-or-later
"""An encrypted root is unlocked past an interface that leads nowhere, and with static addresses; then the network is the system's own."""

import os_story

LIMIT = os_story.LIMIT
ONLY_BY_NAME = True
STAGE = "os-encrypted"
# a link with a carrier, and nobody who answers
DEAD = "vec1:transport=tap,ifname=tap1,depth=128,gro=1,mac=00:0d:3a:00:00:05"


def set_network(vm, wanted):
    vm.put("/etc/vmcrypt/vmcrypt.conf", f"NETWORK={wanted}\n")
    vm.run("update-initramfs -u -k all", timeout=os_story.PREPARED_S)
    vm.run("vmcryptctl check", timeout=240)
    vm.shutdown()


def boot_without_dhcp(rig, vm, *arguments):
    """Unlocked all the same; what was set up for that is gone when the system's own network comes."""
    rig.cloud.stop("dhcp")
    vm.boot(wait="agent", arguments=[DEAD, *arguments])
    os_story.assert_root_encrypted(vm)
    assert "interface vec0 has the address 10.0.0.4." in vm.run("dmesg")
    rig.cloud.start("dhcp")
    os_story.wait_own_network(vm)
    vm.wait_up()


def run(rig):
    vm = os_story.encrypted(rig)
    for words in (["tuntap", "add", "dev", "tap1", "mode", "tap"], ["link", "set", "tap1", "up"]):
        rig.namespace.run(["ip", *words], check=True)

    vm.boot(arguments=[DEAD])
    os_story.assert_root_encrypted(vm)
    assert "vec1" in vm.run("ip -o link")
    os_story.wait_own_network(vm)

    set_network(vm, os_story.STATIC)
    boot_without_dhcp(rig, vm)

    # the kernel's argument wins
    set_network(vm, "10.9.9.9::10.9.9.1:255.255.255.0::vec0:off")
    boot_without_dhcp(rig, vm, f"ip={os_story.STATIC}")
    vm.verify("/srv")
