/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/split-conf.h - what the initramfs is to know of a /boot that gets a partition of its own
 *
 * split.conf is written by the running system and copied into the image: there is no /boot yet that
 * it could be read from. While it exists, it is wanted.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SPLIT_CONF           "/etc/vmcrypt/split.conf"
#define SPLIT_CONF_MAX_BYTES (16 * 1024) /* nine lines */

enum {
	SPLIT_CONF_E_MALFORMED = 1, /* not text, too large, a value that is none, or not all */
};

struct split_conf {
	char *job;                 /* who wants it */
	char *root_uuid;           /* of the root's filesystem */
	char *device;              /* link to the root's partition */
	char *partition_uuid;      /* that the new partition gets, on GPT; or NULL */
	uint64_t number;           /* of the root's partition, from 1 */
	uint64_t filesystem_bytes; /* what the root's filesystem may keep; 0 = it stays as it is */
	uint64_t keeps_bytes;      /* what its partition keeps */
	uint64_t start_bytes, size_bytes; /* of the new one, on the disk */
};

void split_conf_clear(struct split_conf *conf);
int split_conf_read(const char *path, struct split_conf *ret);
int split_conf_write(const char *path, const struct split_conf *conf);
int split_conf_parse(const char *text, size_t size_bytes, struct split_conf *ret);
int split_conf_copy(const struct split_conf *from, struct split_conf *ret);
