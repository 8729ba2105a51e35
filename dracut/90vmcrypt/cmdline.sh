#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut's hook "cmdline": NETWORK= of vmcrypt.conf stands for ip=, when the kernel has none.

NETWORK=
# shellcheck source=/dev/null
. /usr/lib/vmcrypt/initramfs-settings.sh
load_settings /etc/vmcrypt/vmcrypt.conf NETWORK
if [ -n "$NETWORK" ] && [ "$NETWORK" != dhcp ] && ! getarg ip= > /dev/null; then
	# for NetworkManager and dracut's own scripts
	echo "ip=$NETWORK" > /etc/cmdline.d/91vmcrypt.conf
	# for systemd-networkd; in /run it would be there for the booted system, too
	if [ -x /usr/lib/systemd/systemd-network-generator ]; then
		/usr/lib/systemd/systemd-network-generator --root=/tmp/vmcrypt -- "ip=$NETWORK" &&
			mkdir -p /etc/systemd/network &&
			mv /tmp/vmcrypt/run/systemd/network/* /etc/systemd/network/
	fi
fi
