#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut's hook "initqueue/settled": the root is not missing while it waits for its key, or gives way for a /boot partition.
# dracut's count begins anew, and its emergency shell does not come.
finished=${hookdir:-/lib/dracut/hooks}/initqueue/finished
for unit in vmcrypt-initrd.service vmcrypt-split.service; do
	if [ "$(systemctl is-active "$unit")" = activating ]; then
		# shellcheck disable=SC2034
		main_loop=0
	fi
done
# and once there is no key to wait for, the root needs no network
if [ "$(systemctl is-active vmcrypt-initrd.service)" = active ] && [ -z "${netroot:-}" ]; then
	rm -f "$finished"/wait-*.sh
fi
