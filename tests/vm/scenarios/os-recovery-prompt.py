# SPDX-License-Identifier: LGPL-2.1-or-later
"""No key, but a person at the console: a key press brings the prompt, a recovery key the root."""

import os_story

LIMIT = os_story.LIMIT
STAGE = "os-encrypted"


def run(rig):
    vm = os_story.encrypted(rig)
    key = vm.notes["recovery key"]
    rig.cloud.stop("vault")
    vm.boot(wait=None)
    vm.wait_console(r"attempt 1: ", 180)
    vm.type("\n")
    vm.wait_console(r"[Rr]ecovery key", 60)
    typo = key[:-1] + ("0" if key[-1] != "0" else "1")
    vm.type(typo + "\n")
    vm.wait_console(r"group 8|typo", 60)
    vm.type(key + "\n")
    vm.wait_agent(240)
    vm.wait_up()
    os_story.assert_root_encrypted(vm)
    assert key not in vm.console(), "the key was echoed"
    vm.verify("/srv")
