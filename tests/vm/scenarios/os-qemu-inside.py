# SPDX-License-Identifier: LGPL-2.1-or-later
"""/boot in the root behind Debian's GRUB on an emulated machine with BIOS: split off, followed, encrypted."""

import qemu_inside

LIMIT = qemu_inside.LIMIT
ONLY_BY_NAME = True  # an emulated processor takes its time


def run(rig):
    qemu_inside.run(rig, "bios")
