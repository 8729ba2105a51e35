# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rig itself: a Debian boots, reboots, loses power, reaches the cloud, has dm-crypt, LVM, xfs, btrfs."""


def commands(vm):
    assert vm.run("echo hello") == "hello\n"
    result = vm.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.code, result.out, result.err) == (3, "out\n", "err\n")
    assert vm.run("sleep 30", check=False, timeout=1).code == -1
    big = bytes(range(256)) * 8192
    vm.put("/root/folder/big", big)
    assert vm.get("/root/folder/big", text=False) == big
    vm.spawn("sleep 0.5; touch /run/spawned")
    vm.wait_for("test -e /run/spawned", timeout=10)


def storage(vm):
    data, more = vm.devices["data"], vm.devices["more"]
    vm.run(f"""set -e
        echo secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {data} --key-file=-
        echo secret | cryptsetup open {data} inner --key-file=-
        mkfs.xfs -q /dev/mapper/inner; mkdir -p /data; mount /dev/mapper/inner /data
        pvcreate -q {more}; vgcreate -q vg {more}; lvcreate -q -L 400M -n lv vg
        mkfs.btrfs -q /dev/vg/lv; mkdir -p /more; mount /dev/vg/lv /more""")
    assert vm.run(f"blkid -p -o value -s TYPE {data}").strip() == "crypto_LUKS"
    vm.wait_for("test -b /dev/disk/azure/scsi1/lun0 && test -b /dev/disk/azure/root")


def mount_again(vm):
    vm.run(f"""set -e
        echo secret | cryptsetup open {vm.devices['data']} inner --key-file=-
        mount /dev/mapper/inner /data
        vgchange -q -ay vg; mount /dev/vg/lv /more""")


def run(rig):
    vm = rig.vm(disks={"data": "512M", "more": "512M"})
    vm.boot()
    assert vm.failed_units() == [], vm.failed_units()
    commands(vm)
    if rig.cloud:
        vm.wait_for("curl -sSf -H Metadata:true "
                    "'http://169.254.169.254/metadata/instance?api-version=2021-02-01'", timeout=20)
        vm.wait_for("curl -sSf https://kv1.vault.azure.net/healthstatus", timeout=20)

    storage(vm)
    vm.fill("/data", "20M")
    vm.fill("/more", "5M")
    writer = vm.writer("/data")
    first_boot = vm.boot_id
    vm.wait_for("test -e /var/tmp/vmtest/data.written")
    # the writer has a file open most of the time
    vm.run("sleep 2; until umount /data 2>/dev/null; do sleep 0.05; done; sleep 1; ls -A /data | grep . && exit 1; "
           "mount /dev/mapper/inner /data; sleep 1")
    before = writer.count()
    assert before > 3, before
    vm.power_cut()

    vm.boot()
    assert vm.boot_id != first_boot
    mount_again(vm)
    vm.verify("/data")
    vm.verify("/more")
    assert writer.stop() >= before
    writer.verify()

    vm.run("echo kept > /root/kept")
    vm.reboot()
    assert vm.get("/root/kept") == "kept\n"
    mount_again(vm)
    vm.verify("/data")
    vm.run("head -c 1 /data/fill/1/00001; printf x | dd of=/data/fill/1/00001 conv=notrunc 2>&1")
    try:
        vm.verify("/data")
    except Exception as error:
        assert "content changed" in str(error), error
    else:
        raise AssertionError("a changed file was not noticed")
    vm.shutdown()
    assert "Reached target" in vm.journal()
