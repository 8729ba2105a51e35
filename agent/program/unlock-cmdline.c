/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/unlock-cmdline.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

#define UUID_MAX_BYTES 36

/* as the initramfs of either kind reads them; the quotes are GRUB's users' */
static const char *const forms[] = {
	"UUID=",
	"\"UUID=",
	"/dev/disk/by-uuid/",
	"/dev/mapper/vmcrypt-",
};

/* Return: how long the UUID at @at is; 0 = none, or something behind it. */
static size_t uuid_size(const char *at)
{
	size_t size = strspn(at, "0123456789abcdefABCDEF-");
	const char *end = at + size + (at[size] == '"');

	return size <= UUID_MAX_BYTES && (*end == '\0' || strchr(" \t\n", *end)) ? size : 0;
}

/**
 * unlock_cmdline_root() - root=UUID=… and what means the same
 * @cmdline:     as in /proc/cmdline; the last root= holds
 * @ret_uuid:    of the filesystem; owned by the caller
 * @ret_mapping: the name that we give it; owned by the caller
 *
 * Return: 0, UNLOCK_CMDLINE_E_UNKNOWN or -ENOMEM; only 0 sets the outputs.
 */
int unlock_cmdline_root(const char *cmdline, char **ret_uuid, char **ret_mapping)
{
	_cleanup_(freep) char *uuid = NULL, *mapping = NULL;
	const char *value = NULL;
	int r;

	for (const char *at = cmdline; *at; at += strcspn(at, " \t\n")) {
		at += strspn(at, " \t\n");
		if (strncmp(at, "root=", strlen("root=")) == 0)
			value = at + strlen("root=");
	}
	for (size_t i = 0; value && i < ARRAY_SIZE(forms); i++) {
		const char *at = value + strlen(forms[i]);
		size_t size;

		if (strncmp(value, forms[i], strlen(forms[i])) != 0)
			continue;
		size = uuid_size(at);
		if (size == 0)
			break;
		r = text_format(&uuid, "%.*s", (int)size, at);
		if (r == 0)
			r = text_format(&mapping, "vmcrypt-%s", uuid);
		if (r < 0)
			return r;
		*ret_uuid = steal(uuid);
		*ret_mapping = steal(mapping);
		return 0;
	}
	return UNLOCK_CMDLINE_E_UNKNOWN;
}
