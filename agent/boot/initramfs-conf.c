/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/initramfs-conf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/pairs.h"

#define MAPPING_PREFIX "vmcrypt-"
#define PROMPT_AFTER   "PROMPT_AFTER"

static bool is_mapping(const char *value)
{
	size_t prefix = strlen(MAPPING_PREFIX);

	return strncmp(value, MAPPING_PREFIX, prefix) == 0 && value[prefix] != '\0' &&
	       pairs_is_name(value);
}

/* One row for each key but PROMPT_AFTER, in the order of the file. */
static const struct {
	const char *name;
	size_t offset;
	bool (*is_right)(const char *value);
	bool is_needed;
} keys[] = {
	{ "ROOT_UUID", offsetof(struct initramfs_conf, root_uuid), pairs_is_uuid, true },
	{ "MAPPING", offsetof(struct initramfs_conf, mapping), is_mapping, true },
	{ "BOOT_UUID", offsetof(struct initramfs_conf, boot_uuid), pairs_is_uuid, false },
	{ "BOOT_TYPE", offsetof(struct initramfs_conf, boot_type), pairs_is_type, false },
	{ "HEADER", offsetof(struct initramfs_conf, header), pairs_is_path, false },
	{ "FILESYSTEM", offsetof(struct initramfs_conf, filesystem), pairs_is_type, false },
	{ "HEADER_UUID", offsetof(struct initramfs_conf, header_uuid), pairs_is_uuid, false },
	{ "DEVICE", offsetof(struct initramfs_conf, device), pairs_is_device, false },
};

static char **field(struct initramfs_conf *conf, size_t key)
{
	return (char **)(void *)((char *)conf + keys[key].offset);
}

void initramfs_conf_clear(struct initramfs_conf *conf)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		free(*field(conf, i));
	*conf = (struct initramfs_conf){ 0 };
}

static int parse_seconds(const char *value, unsigned *ret)
{
	uint64_t seconds;

	if (number_parse_u64(value, 0, INITRAMFS_PROMPT_AFTER_MAX, &seconds) < 0)
		return -EBADMSG;
	*ret = (unsigned)seconds;
	return 0;
}

static int take(struct initramfs_conf *conf, const char *name, char **value)
{
	pairs_unquote(*value);
	if (strcmp(name, PROMPT_AFTER) == 0)
		return parse_seconds(*value, &conf->prompt_after_s);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (strcmp(name, keys[i].name) != 0)
			continue;
		if (!keys[i].is_right(*value))
			return -EBADMSG;
		free(*field(conf, i)); /* as in sh, the last one holds */
		*field(conf, i) = steal(*value);
		return 0;
	}
	return 0; /* of another version of ours */
}

/**
 * initramfs_conf_parse() - the same as initramfs_conf_read(), from memory
 *
 * Return: 0, INITRAMFS_CONF_E_MALFORMED or -ENOMEM.
 */
int initramfs_conf_parse(const char *text, size_t size_bytes, struct initramfs_conf *ret)
{
	_cleanup_(initramfs_conf_clear) struct initramfs_conf conf = {
		.prompt_after_s = INITRAMFS_PROMPT_AFTER_S,
	};
	const char *at = text;
	int r;

	if (memchr(text, '\0', size_bytes))
		return INITRAMFS_CONF_E_MALFORMED;
	do {
		_cleanup_(freep) char *name = NULL, *value = NULL;

		r = pairs_next(&at, text + size_bytes, &name, &value);
		if (r > 0) {
			int taken = take(&conf, name, &value);

			r = taken < 0 ? taken : r;
		}
	} while (r > 0);
	if (r < 0)
		return r == -EBADMSG ? INITRAMFS_CONF_E_MALFORMED : r;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (keys[i].is_needed && !*field(&conf, i))
			return INITRAMFS_CONF_E_MALFORMED;
	*ret = conf;
	conf = (struct initramfs_conf){ 0 };
	return 0;
}

/**
 * initramfs_conf_read() - the file's content
 * @ret: free with initramfs_conf_clear(); prompt_after_s is INITRAMFS_PROMPT_AFTER_S when the file
 *       does not say
 *
 * Keys that are not known are passed over, so that another version's file can be read.
 *
 * Return: 0, INITRAMFS_CONF_E_MALFORMED, -ENOENT or another -errno; only 0 sets @ret.
 */
int initramfs_conf_read(const char *path, struct initramfs_conf *ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes;
	int r;

	r = file_read(path, INITRAMFS_CONF_MAX_BYTES, &text, &size_bytes);
	if (r < 0)
		return r == -EFBIG ? INITRAMFS_CONF_E_MALFORMED : r;
	return initramfs_conf_parse(text, size_bytes, ret);
}

/**
 * initramfs_conf_write() - replace the file durably
 * @path: its folder is there
 * @conf: borrowed; root_uuid and mapping are needed, NULL of the others leaves the key out;
 *        prompt_after_s is written as it is (0 = at once, so set INITRAMFS_PROMPT_AFTER_S)
 *
 * Return: 0, -EINVAL (a value that would not be read again; nothing written) or -errno.
 */
int initramfs_conf_write(const char *path, const struct initramfs_conf *conf)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_(fclosep) FILE *out = NULL;
	size_t size_bytes;

	if (conf->prompt_after_s > INITRAMFS_PROMPT_AFTER_MAX)
		return -EINVAL;
	out = open_memstream(&text, &size_bytes);
	if (!out)
		return -ENOMEM;
	(void)fputs(
		"# written by vmcrypt for the initramfs; settings of yours belong into " INITRAMFS_SETTINGS
		"\n",
		out);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *value = *field((struct initramfs_conf *)conf, i);

		if (value ? !keys[i].is_right(value) : keys[i].is_needed)
			return -EINVAL;
		if (value)
			(void)fprintf(out, "%s=%s\n", keys[i].name, value);
	}
	(void)fprintf(out, PROMPT_AFTER "=%u\n", conf->prompt_after_s);
	if (fflush(out) != 0)
		return -ENOMEM;
	return file_write_atomic(path, text, size_bytes, 0644);
}

/** initramfs_settings_parse() - the same as initramfs_settings_read(), from memory */
int initramfs_settings_parse(const char *text, size_t size_bytes, unsigned *ret_prompt_after_s)
{
	unsigned seconds = *ret_prompt_after_s;
	const char *at = text;
	int r;

	if (memchr(text, '\0', size_bytes))
		return INITRAMFS_CONF_E_MALFORMED;
	do {
		_cleanup_(freep) char *name = NULL, *value = NULL;

		r = pairs_next(&at, text + size_bytes, &name, &value);
		if (r > 0 && strcmp(name, PROMPT_AFTER) == 0) {
			pairs_unquote(value);
			if (parse_seconds(value, &seconds) < 0)
				r = -EBADMSG;
		}
	} while (r > 0);
	if (r < 0)
		return r == -EBADMSG ? INITRAMFS_CONF_E_MALFORMED : r;
	*ret_prompt_after_s = seconds;
	return 0;
}

/**
 * initramfs_settings_read() - what a person has set for the recovery prompt
 * @ret_prompt_after_s: seconds; untouched when the file is not there, does not say, or on failure
 *
 * Return: 0, INITRAMFS_CONF_E_MALFORMED or -errno.
 */
int initramfs_settings_read(const char *path, unsigned *ret_prompt_after_s)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes;
	int r;

	r = file_read(path, INITRAMFS_CONF_MAX_BYTES, &text, &size_bytes);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r == -EFBIG ? INITRAMFS_CONF_E_MALFORMED : r;
	return initramfs_settings_parse(text, size_bytes, ret_prompt_after_s);
}
