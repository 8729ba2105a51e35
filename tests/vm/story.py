# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the data scenarios have in common: volumes with content, the product's verbs, what must hold."""

import json
import time

VAULT = "https://kv1.vault.azure.net"
KEK = f"{VAULT}/keys/kek1"
MAKE = {
    "ext4": "mkfs.ext4 -q -F -U {uuid} {device}",
    "xfs": "mkfs.xfs -q -f -m uuid={uuid} {device}",
    "btrfs": "mkfs.btrfs -q -f -U {uuid} {device}",
}
PREPARED_S = 240
CONVERTED_S = 480


def uuid_of(number):
    """A filesystem's UUID that is easy to see in a log."""
    return f"{number:08d}-1111-4222-8333-444444444444"


def volume(vm, device, target, filesystem, number=1, options="defaults", make=None, fill="24M"):
    """Make a filesystem, enter it in fstab, mount it and put content on it. Return: its UUID."""
    uuid = uuid_of(number)
    make = (make or MAKE[filesystem]).format(uuid=uuid, device=device)
    vm.run(f"""set -e
        {make}
        mkdir -p {target}
        printf '%s\\t%s  %s %s 0\\t2\\n' UUID={uuid} {target} {filesystem} {options} >> /etc/fstab
        udevadm settle
        systemctl daemon-reload
        mount {target}""", timeout=120)
    if fill:
        vm.fill(target, fill)
    return uuid


def show(vm):
    return json.loads(vm.run("vmcryptctl show --json=short", timeout=100))


def state(vm, uuid):
    """The row of `vmcryptctl show` for a volume."""
    for row in show(vm)["volumes"]:
        if row.get("uuid") == uuid:
            return row
    raise AssertionError(f"volume {uuid} is not shown")


def enable(vm, *flags, check=True, keys=("--disk-encryption-keyvault", VAULT), timeout=PREPARED_S):
    """Type enable; back when every volume is past the point of no return, or with the refusal."""
    words = ["vmcryptctl", "enable", "--volume-type", "Data", *keys, *flags]
    return vm.run(" ".join(words), check=check, timeout=timeout)


def disable(vm, *flags, check=True, timeout=PREPARED_S):
    return vm.run(" ".join(["vmcryptctl", "disable", "--volume-type", "Data", *flags]), check=check,
                  timeout=timeout)


def newest(answer):
    """The report of the job that was started last: ids begin with the time."""
    return sorted(answer["reports"], key=lambda report: report["job"])[-1:]


def wait_state(vm, uuids, wanted, timeout=CONVERTED_S):
    """Wait until `show` says so of every volume; a job that has failed ends the wait."""
    end = time.monotonic() + timeout
    while True:
        answer = show(vm)
        states = {row.get("uuid"): row["state"] for row in answer["volumes"]}
        if all(states.get(uuid) == wanted for uuid in uuids):
            return answer
        faults = [fault for report in newest(answer) for fault in report["faults"]
                  if fault["level"] == "error"]
        assert not faults, faults
        assert time.monotonic() < end, f"not {wanted} after {timeout} s: {answer}"
        time.sleep(vm.LOOK_S)


def wait_jobs(vm, timeout=180):
    """Wait until no job is open any more (verify and tidy come after the last byte)."""
    end = time.monotonic() + timeout
    while True:
        reports = show(vm)["reports"]
        if all(report["state"] in ("done", "failed") for report in reports):
            return reports
        assert time.monotonic() < end, reports
        time.sleep(vm.LOOK_S)


def assert_encrypted(vm, uuid, target):
    """Mounted through a mapping over LUKS2, whatever our own programs say."""
    source = vm.run(f"findmnt -n -o SOURCE {target}").strip().split("[")[0]
    mapping = f"/dev/mapper/vmcrypt-{uuid}"
    # btrfs may name it /dev/dm-0
    assert vm.run(f"readlink -f {source} {mapping} | uniq | wc -l").strip() == "1", source
    table = vm.run(f"dmsetup table {mapping}")
    assert " crypt aes-xts-plain64 " in table and len(table.splitlines()) == 1, table


def online(vm, filesystem, device, target="/data", number=1, **options):
    """The main job, whole: a busy volume is encrypted in use, and unlocks itself after a reboot."""
    uuid = volume(vm, device, target, filesystem, number, **options)
    writer = vm.writer(target)
    before = vm.run("cat /etc/fstab")
    enable(vm, "--key-encryption-key", KEK)
    wait_state(vm, [uuid], "Encrypted")
    wait_jobs(vm)
    assert_encrypted(vm, uuid, target)
    time.sleep(2)
    assert writer.stop() > 5
    writer.verify()
    vm.verify(target)
    assert vm.run("cat /etc/fstab").replace(",nofail ", " ") == before, vm.run("cat /etc/fstab")
    vm.reboot()
    assert_encrypted(vm, uuid, target)
    assert state(vm, uuid)["state"] == "Encrypted"
    vm.verify(target)
    writer.verify()
    return uuid
