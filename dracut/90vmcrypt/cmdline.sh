#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut's hook "cmdline": NETWORK= of vmcrypt.conf stands for ip=, when the kernel has none.

NETWORK=
# shellcheck source=/dev/null
. /usr/lib/vmcrypt/initramfs-settings.sh
load_settings /etc/vmcrypt/vmcrypt.conf NETWORK
if [ "$NETWORK" = dhcp ] || getarg ip= > /dev/null; then
	NETWORK=
fi
# for NetworkManager and dracut's own scripts
[ -z "$NETWORK" ] || echo "ip=$NETWORK" > /etc/cmdline.d/91vmcrypt.conf

# for systemd-networkd, which takes the first file that fits: before those of the machine's own that are in the image. In
# /run they would be there for the booted system, too.
generator=/usr/lib/systemd/systemd-network-generator
if [ -x "$generator" ]; then
	# the kernel's; it may not have begun
	systemctl start systemd-network-generator.service
	[ -z "$NETWORK" ] || "$generator" -- "ip=$NETWORK"
	mkdir -p /etc/systemd/network
	for file in /run/systemd/network/*; do
		[ ! -e "$file" ] || mv "$file" "/etc/systemd/network/00-vmcrypt-${file##*/}"
	done
fi
