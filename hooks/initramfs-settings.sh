# SPDX-License-Identifier: LGPL-2.1-or-later
# Sourced in an initramfs by what reads a file of a person's.

# load_settings FILE [NAME]: its lines NAME=VALUE, or those of this name, become variables. As with EnvironmentFile= of a
# unit, nothing in them is evaluated, and what is no such line is passed over.
load_settings() {
	[ -e "$1" ] || return 0
	# the last line may have no end
	while read -r line || [ -n "$line" ]; do
		name=${line%%=*} value=${line#*=}
		case $name in
		"$line" | '' | [0-9]* | *[!A-Za-z0-9_]*) continue ;;
		esac
		[ "${2:-$name}" = "$name" ] || continue
		case $value in
		\"*\" | \'*\') value=${value#?} value=${value%?} ;;
		esac
		export "$name=$value"
	done < "$1"
}
