/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/split-conf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/pairs.h"

#define NUMBER_MAX     255       /* more partitions has no disk */
#define SIZE_MAX_BYTES INT64_MAX /* what an offset can be */

/* One row for each text, in the order of the file. */
static const struct {
	const char *name;
	size_t offset;
	bool (*is_right)(const char *value);
	bool is_needed;
} texts[] = {
	{ "JOB", offsetof(struct split_conf, job), pairs_is_name, true },
	{ "ROOT_UUID", offsetof(struct split_conf, root_uuid), pairs_is_uuid, true },
	{ "DEVICE", offsetof(struct split_conf, device), pairs_is_device, true },
	{ "PARTITION_UUID", offsetof(struct split_conf, partition_uuid), pairs_is_uuid, false },
};

/* And for each number. All are needed. */
static const struct {
	const char *name;
	size_t offset;
	uint64_t minimum, maximum;
} numbers[] = {
	{ "NUMBER", offsetof(struct split_conf, number), 1, NUMBER_MAX },
	{ "FILESYSTEM_BYTES", offsetof(struct split_conf, filesystem_bytes), 0, SIZE_MAX_BYTES },
	{ "KEEPS_BYTES", offsetof(struct split_conf, keeps_bytes), 1, SIZE_MAX_BYTES },
	{ "START_BYTES", offsetof(struct split_conf, start_bytes), 1, SIZE_MAX_BYTES },
	{ "SIZE_BYTES", offsetof(struct split_conf, size_bytes), 1, SIZE_MAX_BYTES },
};

static char **text_of(const struct split_conf *conf, size_t key)
{
	return (char **)(void *)((char *)conf + texts[key].offset);
}

static uint64_t *number_of(const struct split_conf *conf, size_t key)
{
	return (uint64_t *)(void *)((char *)conf + numbers[key].offset);
}

void split_conf_clear(struct split_conf *conf)
{
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		free(*text_of(conf, i));
	*conf = (struct split_conf){ 0 };
}

/* Return: 0, -EBADMSG or -ENOMEM. @found has a bit for each number. */
static int take(struct split_conf *conf, const char *name, char **value, unsigned *found)
{
	pairs_unquote(*value);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (strcmp(name, numbers[i].name) != 0)
			continue;
		*found |= 1U << i;
		return number_parse_u64(*value, numbers[i].minimum, numbers[i].maximum,
					number_of(conf, i)) < 0
			       ? -EBADMSG
			       : 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (strcmp(name, texts[i].name) != 0)
			continue;
		if (!texts[i].is_right(*value))
			return -EBADMSG;
		free(*text_of(conf, i)); /* as in sh, the last one holds */
		*text_of(conf, i) = steal(*value);
		return 0;
	}
	return 0; /* of another version of ours */
}

/**
 * split_conf_parse() - the same as split_conf_read(), from memory
 *
 * Return: 0, SPLIT_CONF_E_MALFORMED or -ENOMEM.
 */
int split_conf_parse(const char *text, size_t size_bytes, struct split_conf *ret)
{
	_cleanup_(split_conf_clear) struct split_conf conf = { 0 };
	const char *at = text;
	unsigned found = 0;
	int r;

	if (memchr(text, '\0', size_bytes))
		return SPLIT_CONF_E_MALFORMED;
	do {
		_cleanup_(freep) char *name = NULL, *value = NULL;

		r = pairs_next(&at, text + size_bytes, &name, &value);
		if (r > 0 && take(&conf, name, &value, &found) < 0)
			r = -EBADMSG;
	} while (r > 0);
	if (r == -ENOMEM)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (texts[i].is_needed && !*text_of(&conf, i))
			r = -EBADMSG;
	if (r < 0 || found != (1U << ARRAY_SIZE(numbers)) - 1)
		return SPLIT_CONF_E_MALFORMED;
	*ret = conf;
	conf = (struct split_conf){ 0 };
	return 0;
}

/**
 * split_conf_read() - the whole file or nothing
 * @ret: free with split_conf_clear(); untouched on failure
 *
 * Return: 0, SPLIT_CONF_E_MALFORMED or -errno.
 */
int split_conf_read(const char *path, struct split_conf *ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes;
	int r;

	r = file_read(path, SPLIT_CONF_MAX_BYTES, &text, &size_bytes);
	if (r < 0)
		return r == -EFBIG ? SPLIT_CONF_E_MALFORMED : r;
	return split_conf_parse(text, size_bytes, ret);
}

/**
 * split_conf_write() - replace the file durably
 * @path: its folder is there
 *
 * Return: 0, -EINVAL (a value that would not be read again; nothing written) or -errno.
 */
int split_conf_write(const char *path, const struct split_conf *conf)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_(fclosep) FILE *out = NULL;
	size_t size_bytes;

	out = open_memstream(&text, &size_bytes);
	if (!out)
		return -ENOMEM;
	(void)fputs("# written by vmcrypt for the initramfs: /boot gets a partition of its own\n",
		    out);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const char *value = *text_of(conf, i);

		if (value ? !texts[i].is_right(value) : texts[i].is_needed)
			return -EINVAL;
		if (value)
			(void)fprintf(out, "%s=%s\n", texts[i].name, value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		uint64_t value = *number_of(conf, i);

		if (value < numbers[i].minimum || value > numbers[i].maximum)
			return -EINVAL;
		(void)fprintf(out, "%s=%llu\n", numbers[i].name, (unsigned long long)value);
	}
	if (fflush(out) != 0)
		return -ENOMEM;
	return file_write_atomic(path, text, size_bytes, 0644);
}

/** split_conf_copy() - @ret: free with split_conf_clear(). Return: 0 or -ENOMEM. */
int split_conf_copy(const struct split_conf *from, struct split_conf *ret)
{
	_cleanup_(split_conf_clear) struct split_conf copy = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++)
		r = text_copy(*text_of(from, i), text_of(&copy, i));
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		*number_of(&copy, i) = *number_of(from, i);
	if (r < 0)
		return r;
	*ret = copy;
	copy = (struct split_conf){ 0 };
	return 0;
}
