/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/initramfs-conf.h - /etc/vmcrypt/initramfs.conf: what the initramfs must know of the root
 *
 * Lines of KEY=VALUE that sh can source as they are. The file is ours: it is written when the OS
 * volume is to be encrypted, lies at the same path in the initramfs, and its being there is what
 * brings our module into one. What a person sets is in vmcrypt.conf, same form; of that only
 * PROMPT_AFTER is read here.
 */
#pragma once

#include <stddef.h>

#define INITRAMFS_CONF             "/etc/vmcrypt/initramfs.conf"
#define INITRAMFS_SETTINGS         "/etc/vmcrypt/vmcrypt.conf"
#define INITRAMFS_CONF_MAX_BYTES   (64 * 1024) /* a few lines; and room for a person's comments */
#define INITRAMFS_PROMPT_AFTER_S   120         /* when nobody has said */
#define INITRAMFS_PROMPT_AFTER_MAX 86400

enum {
	INITRAMFS_CONF_E_MALFORMED = 1, /* not text, too large, a value that is none, or no root */
};

struct initramfs_conf {
	char *root_uuid;   /* of the root's filesystem */
	char *mapping;     /* "vmcrypt-…", below /dev/mapper */
	char *boot_uuid;   /* of the filesystem at /boot; or NULL */
	char *boot_type;   /* "ext4" …; or NULL */
	char *header;      /* path of the root's header where it is in a file, or NULL */
	char *filesystem;  /* the root's type; or NULL */
	char *header_uuid; /* LUKS UUID: tells the root from a copy of it; or NULL */
	char *device; /* link to its backing device, which an exported header does not name; or NULL
		       */
	unsigned prompt_after_s; /* until a recovery key is asked for; 0 = at once */
};

void initramfs_conf_clear(struct initramfs_conf *conf);
int initramfs_conf_read(const char *path, struct initramfs_conf *ret);
int initramfs_conf_write(const char *path, const struct initramfs_conf *conf);
int initramfs_conf_parse(const char *text, size_t size_bytes, struct initramfs_conf *ret);

int initramfs_settings_read(const char *path, unsigned *ret_prompt_after_s);
int initramfs_settings_parse(const char *text, size_t size_bytes, unsigned *ret_prompt_after_s);
