#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut's hook "initqueue/settled": the root is not missing while it waits for its key. dracut's count begins anew, and its
# emergency shell does not come.
if [ "$(systemctl is-active vmcrypt-initrd.service)" = activating ]; then
	# shellcheck disable=SC2034
	main_loop=0
fi
