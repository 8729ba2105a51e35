# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's kernel and GRUB on an emulated machine with BIOS: the root is encrypted, then the kernel updated."""

import qemu_story

LIMIT = qemu_story.LIMIT


def run(rig):
    qemu_story.run(rig, "bios")
