# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rig's bare guest: a script runs, disks persist, power cuts keep completed writes."""


def run(rig):
    bare = rig.bare(disks={"data": "64M"})
    result = bare.run("uname -r; mkfs.ext4 -q /dev/ubdb; ls -l /dev/disk/by-uuid/; false", check=False)
    assert result.code == 1, result
    print(result.out)

    bare.start("mount /dev/ubdb /mnt; echo kept > /mnt/file; sync /mnt/file; echo READY; sleep 100")
    bare.power_cut_at("READY")
    assert bare.wait().code is None
    assert bare.run("mount /dev/ubdb /mnt; cat /mnt/file").out.strip() == "kept"
