#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut's hook "cleanup": the root is mounted; nothing of the initramfs's network is left to the booted system.
# NetworkManager and dracut's own scripts clean up by themselves; a root over the network needs what there is.

systemctl stop vmcrypt-keyfetch.socket
if [ -z "${netroot:-}" ] && systemctl -q is-active systemd-networkd.service; then
	# the socket would start it again
	systemctl stop vmcrypt-resolver.service systemd-networkd.socket systemd-networkd.service
	for path in /sys/class/net/*; do
		name=${path##*/}
		[ "$name" != lo ] || continue
		ip route flush dev "$name"
		ip addr flush dev "$name"
		ip link set "$name" down
	done
	# leases, by interface
	rm -rf /run/systemd/netif
fi
