# SPDX-License-Identifier: LGPL-2.1-or-later
"""Root and data volume together, there and back, with the vault away at each step: nothing is lost, and one batch of keys at boot."""

import time

import os_story
import story

LIMIT = 2 * os_story.LIMIT
ONLY_BY_NAME = True
ENABLE = f"vmcryptctl enable --volume-type All --disk-encryption-keyvault {story.VAULT} --key-encryption-key {story.KEK}"

IS = "vmcryptctl show --json=short | jq -e '[.os, .data] == [\"{0}\", \"{0}\"]'"


def wait_for_vault(vm, timeout=400):
    """Wait until the newest job has said that it has no vault. Return: its report."""
    end = time.monotonic() + timeout
    while True:
        reports = story.newest(story.show(vm))
        codes = [fault["code"] for report in reports for fault in report["faults"]]
        if "key-unreachable" in codes or "vault-unreachable" in codes:
            return reports[0]
        assert time.monotonic() < end, reports
        time.sleep(vm.LOOK_S)


def wait_for_state(vm, wanted):
    """That there was no vault is still told while it goes on."""
    vm.wait_for(IS.format(wanted), timeout=900, interval=3)


def edit_fstab(vm):
    """An administrator who knows nothing of it. Return: what it is now."""
    vm.run("mkdir -p /scratch; echo 'tmpfs /scratch tmpfs size=1m 0 0' >> /etc/fstab; "
           "sed -i 's|^\\(UUID=[^ ]* / ext4 \\)defaults|\\1noatime|' /etc/fstab")
    edited = vm.get("/etc/fstab")
    assert " / ext4 noatime" in edited
    return edited


def assert_only_edited(fstab, plain):
    """What the agent wrote is gone, what the administrator wrote is not: `plain` is from before both."""
    wanted = plain.replace(" / ext4 defaults", " / ext4 noatime") + "tmpfs /scratch tmpfs size=1m 0 0\n"
    assert fstab == wanted, (fstab, wanted)


def prepare_without_vault(rig, vm):
    """It goes away when the request has been taken: what has not begun to change is as it was, or waits."""
    fstab = vm.get("/etc/fstab")
    vm.run(f"{ENABLE} --no-wait", timeout=120)
    rig.cloud.stop("vault")
    report = wait_for_vault(vm)
    vm.verify("/srv")
    vm.verify("/data")
    assert story.show(vm)["os"] == "NotEncrypted", story.show(vm)
    if report["state"] == "failed":
        assert vm.get("/etc/fstab") == fstab
        assert vm.run("ls /boot/vmcrypt/next-boot /boot/vmcrypt/jobs 2>/dev/null || true").split() in \
            ([], ["/boot/vmcrypt/jobs:", "/boot/vmcrypt/next-boot:"])
    print(f"note: enable without a vault: {report['state']}")
    rig.cloud.start("vault")
    if report["state"] == "failed":
        vm.run(ENABLE, timeout=os_story.PREPARED_S)


def run(rig):
    vm = os_story.prepare(rig, disks={"data": "128M"})
    data = story.volume(vm, vm.devices["data"], "/data", "ext4")
    plain = vm.get("/etc/fstab")
    prepare_without_vault(rig, vm)
    vm.wait_for("vmcryptctl show --json=short | jq -e '.os == \"VMRestartPending\"'", timeout=os_story.PREPARED_S,
                interval=3)
    vm.reboot()

    # the data moves without the vault; what looks at the end whether it can be unlocked waits for it
    vm.wait_for(f"vmcryptctl show --json=short | jq -e '.volumes[] | select(.uuid == \"{os_story.ROOT}\") | .percent > 0'",
                timeout=120)
    rig.cloud.stop("vault")
    edited = edit_fstab(vm)
    assert story.state(vm, os_story.ROOT)["state"] == "EncryptionInProgress"
    wait_for_vault(vm)
    vm.verify("/srv")
    rig.cloud.start("vault")
    wait_for_state(vm, "Encrypted")
    story.wait_jobs(vm)
    assert vm.get("/etc/fstab") == edited

    rig.cloud.clear_log()
    vm.reboot()
    os_story.assert_root_encrypted(vm)
    story.assert_encrypted(vm, data, "/data")
    tokens = [entry for entry in rig.cloud.log(service="imds") if "oauth2/token" in entry["path"]]
    unwrapped = [entry for entry in rig.cloud.log(service="vault") if "/unwrapkey" in entry["path"]]
    assert len(tokens) == 1 and len(unwrapped) == 2, (len(tokens), len(unwrapped))
    assert "noatime" in vm.run("findmnt -n -o OPTIONS /") and vm.run("findmnt -n -o FSTYPE /scratch").strip() == "tmpfs"
    answer = story.show(vm)
    assert (answer["os"], answer["data"]) == ("Encrypted", "Encrypted"), answer
    vm.run("vmcryptctl check", timeout=240)
    for folder in ("/srv", "/data"):
        vm.verify(folder)

    rig.cloud.stop("vault")
    vm.spawn("vmcryptctl disable --volume-type All")
    wait_for_vault(vm)
    rig.cloud.start("vault")
    # what had not begun is asked for again
    vm.wait_for(f"{IS.format('NotEncrypted')} || {{ vmcryptctl disable --volume-type All --no-wait; false; }}",
                timeout=900, interval=5)
    vm.wait_for("vmcryptctl show --json=short | jq -e '.reports[-1].restart'", timeout=300)
    vm.reboot()
    story.wait_jobs(vm, timeout=300)
    assert vm.run("findmnt -n -o SOURCE /").strip() == "/dev/ubda"
    assert vm.run("findmnt -n -o SOURCE /data").strip() == vm.devices["data"]
    assert_only_edited(vm.get("/etc/fstab"), plain)
    for folder in ("/srv", "/data"):
        vm.verify(folder)
