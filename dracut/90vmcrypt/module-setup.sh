#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut: puts into the image what unlocks the root, when initramfs.conf says that it is wanted.
# shellcheck disable=SC2154 # dracut's variables

conf=$dracutsysrootdir/etc/vmcrypt/initramfs.conf
split=$dracutsysrootdir/etc/vmcrypt/split.conf

check() {
	[[ -e $conf || -e $split ]] || return 1
	require_binaries /usr/lib/vmcrypt/vmcrypt-{keyfetch,unlock,worker} || return 1
	return 0
}

depends() {
	if [[ ! -e $conf ]]; then
		echo systemd dm
		return
	fi
	echo -n "systemd dracut-systemd systemd-ask-password network dm"
	# below the root, when that has become a mapping of ours, too
	[[ " ${host_fs_types[*]} " != *" LVM2_member "* ]] || echo -n " lvm"
	[[ " ${host_fs_types[*]} " != *" linux_raid_member "* ]] || echo -n " mdraid"
	echo
}

installkernel() {
	local BOOT_TYPE='' FILESYSTEM='' more=()

	[[ ! -e $split ]] || hostonly='' instmods dm_mod dm_snapshot
	[[ -e $conf ]] || return 0
	# shellcheck source=/dev/null
	. "$conf"
	[[ $BOOT_TYPE != vfat ]] || more=(nls_cp437 nls_ascii nls_iso8859-1 nls_utf8)
	hostonly='' instmods dm_mod dm_crypt dm_snapshot loop af_alg algif_skcipher af_packet \
		crypto-aes crypto-xts crypto-ecb crypto-cbc crypto-sha256 crypto-hmac \
		hv_netvsc virtio_net "${BOOT_TYPE:-ext4}" "${FILESYSTEM:-ext4}" "${more[@]}"
}

install_user() {
	local table

	for table in passwd group; do
		grep -qs '^vmcrypt-keyfetch:' "$initdir/etc/$table" ||
			grep '^vmcrypt-keyfetch:' "$dracutsysrootdir/etc/$table" >> "$initdir/etc/$table"
	done
	if ! grep -q '^vmcrypt-keyfetch:' "$initdir/etc/passwd"; then
		dfatal "vmcrypt: there is no user vmcrypt-keyfetch (systemd-sysusers)"
		return 1
	fi
}

install_names() {
	inst_libdir_file 'libnss_files.so*' 'libnss_dns.so*'
	[[ -e $initdir/etc/nsswitch.conf ]] ||
		printf 'passwd: files\ngroup: files\nhosts: files dns\n' > "$initdir/etc/nsswitch.conf"
	[[ -e $initdir/etc/hosts ]] ||
		printf '127.0.0.1 localhost\n::1 localhost\n' > "$initdir/etc/hosts"
}

install_certificates() {
	local path

	# where libcurl looks: Debian, Fedora, SUSE
	for path in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
		[[ ! -e $dracutsysrootdir$path ]] || inst_simple "$(readlink -f "$dracutsysrootdir$path")" "$path"
	done
}

# LUKS UUIDs of our volumes. crypttab names the device, and not the header, of one that is decrypted; its header is still
# on it then, and the module for LUKS has seen it.
list_our_uuids() {
	local name source _

	echo "$1"
	while read -r name source _; do
		[[ $name == vmcrypt-* ]] || continue
		case $source in
		UUID=*) echo "${source#UUID=}" ;;
		*) blkid -s UUID -o value "$source" ;;
		esac
	done < <(cat "$dracutsysrootdir/etc/crypttab" 2>/dev/null)
}

# Our volumes are opened by our program. The module for LUKS would ask for them, as if by a passphrase, and wait for their
# mappings, which do not come when a volume is plain again.
keep_others_off() {
	local file uuid

	while read -r uuid; do
		[[ $uuid ]] || continue
		for file in "$initdir"/etc/cmdline.d/*.conf; do
			[[ ! -e $file ]] || sed -i -E "s/rd\.luks\.uuid=(luks-)?$uuid//gI" "$file"
		done
	done < <(list_our_uuids "$1")
	[[ ! -e $initdir/etc/crypttab ]] || sed -i '/^[[:space:]]*vmcrypt-/d' "$initdir/etc/crypttab"
}

# /boot gets a partition of its own, before anything is mounted: split.conf says how
install_split() {
	inst_multiple /usr/lib/vmcrypt/vmcrypt-worker e2fsck resize2fs udevadm
	inst_simple /etc/vmcrypt/split.conf
	inst_rules 61-vmcrypt.rules
	inst_simple "$systemdsystemunitdir/vmcrypt-split.service"
	$SYSTEMCTL -q --root "$initdir" add-wants initrd.target vmcrypt-split.service
	[[ -e $conf ]] || inst_hook initqueue/settled 90 "$moddir/wait.sh"
	mkdir -p "$initdir/$systemdsystemunitdir/systemd-fsck@.service.d"
	printf '[Unit]\nAfter=vmcrypt-split.service\n' \
		> "$initdir/$systemdsystemunitdir/systemd-fsck@.service.d/vmcrypt-split.conf"
}

install() {
	local FILESYSTEM='' HEADER_UUID=''

	[[ ! -e $split ]] || install_split
	[[ -e $conf ]] || return 0
	# shellcheck source=/dev/null
	. "$conf"
	inst_multiple /usr/lib/vmcrypt/vmcrypt-{keyfetch,unlock,worker} /usr/lib/vmcrypt/initramfs-{storage,settings.sh} \
		ip mv rm sed sleep udevadm umount
	case $FILESYSTEM in
	ext[234]) inst_multiple e2fsck resize2fs ;;
	xfs) inst_multiple xfs_growfs ;;
	btrfs) inst_multiple btrfs ;;
	esac
	inst_multiple -o lvs lvextend
	# threads that end load it: Argon2id, for recovery keys
	inst_libdir_file 'libgcc_s.so*'
	inst_multiple -o /etc/vmcrypt/initramfs.conf /etc/vmcrypt/vmcrypt.conf /etc/vmcrypt/environment
	inst_rules 61-vmcrypt.rules "$moddir/90-vmcrypt-mtu.rules"
	if dracut_module_included network-wicked; then
		dfatal "vmcrypt: wicked does not bring up a network by itself; use systemd-networkd or NetworkManager"
		return 1
	fi
	install_user || return 1
	install_names
	install_certificates

	inst_multiple "$systemdsystemunitdir"/vmcrypt-{keyfetch.socket,keyfetch@.service,initrd.service}
	inst_simple "$moddir/vmcrypt-resolver.service" "$systemdsystemunitdir/vmcrypt-resolver.service"
	inst_script "$moddir/initramfs-resolver" /usr/lib/vmcrypt/initramfs-resolver
	$SYSTEMCTL -q --root "$initdir" add-wants initrd.target vmcrypt-initrd.service
	# a generator makes these from the kernel's arguments, each with a name of its own
	mkdir -p "$initdir/$systemdsystemunitdir/systemd-fsck@.service.d"
	printf '[Unit]\nAfter=vmcrypt-initrd.service\n' \
		> "$initdir/$systemdsystemunitdir/systemd-fsck@.service.d/vmcrypt.conf"

	inst_simple "$moddir/zzzz-vmcrypt.network" /etc/systemd/network/zzzz-vmcrypt.network
	mkdir -p "$initdir/etc/cmdline.d"
	echo "rd.neednet=1" > "$initdir/etc/cmdline.d/90vmcrypt.conf"
	inst_hook cmdline 89 "$moddir/cmdline.sh"
	inst_hook initqueue/settled 90 "$moddir/wait.sh"
	inst_hook cleanup 50 "$moddir/cleanup.sh"
	keep_others_off "$HEADER_UUID"
	dracut_need_initqueue
}
