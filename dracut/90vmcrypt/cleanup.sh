#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut's hook "cleanup": the root is mounted; nothing of the initramfs's network is left to the booted system, whoever has
# brought it up. NetworkManager would go on with the profile that was made for it here, before any of the machine's own;
# dracut's own scripts leave addresses, and files that initscripts take over. A root over the network needs what there is.

systemctl stop vmcrypt-keyfetch.socket
if [ -z "${netroot:-}" ]; then
	# patterns stand for the units that there are; among them networkd's sockets, which would start it again
	systemctl stop vmcrypt-resolver.service 'systemd-networkd*' 'nm-*initrd.service' 'NetworkManager-*initrd.service'
	for path in /sys/class/net/*; do
		name=${path##*/}
		[ "$name" != lo ] || continue
		ip route flush dev "$name"
		ip addr flush dev "$name"
		# as udev has found it
		mtu=$(udevadm info --query=property --path="$path" | sed -n 's/^VMCRYPT_MTU=//p')
		[ -z "$mtu" ] || ip link set "$name" mtu "$mtu"
		ip link set "$name" down
	done
	# leases, by interface; profiles; what initscripts would copy
	rm -rf /run/systemd/netif /run/NetworkManager \
		/run/initramfs/state/etc/sysconfig/network-scripts /run/initramfs/state/etc/resolv.conf
fi
