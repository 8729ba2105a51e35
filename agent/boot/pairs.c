/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/pairs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UUID_MAX_BYTES 36  /* vfat's has 9, ntfs' 16 */
#define NAME_MAX_BYTES 127 /* device-mapper's limit, without the NUL; <linux/dm-ioctl.h> */
#define TYPE_MAX_BYTES 16

#define DIGITS  "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define VALUES  DIGITS LETTERS "/._:-" /* sh takes each of them for itself */

/* The text is not terminated, so no function for strings gets to see it. */
static char *duplicate(const char *at, size_t size)
{
	char *copy = malloc(size + 1);

	if (copy) {
		memcpy(copy, at, size);
		copy[size] = '\0';
	}
	return copy;
}

/**
 * pairs_next() - take the next KEY=VALUE
 * @at:       moves on
 * @ret_name: owned by the caller, as @ret_value is, also on failure
 *
 * Return: 1, 0 at the end, -EBADMSG or -ENOMEM.
 */
int pairs_next(const char **at, const char *end, char **ret_name, char **ret_value)
{
	while (*at < end) {
		const char *line = *at, *equals;
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		size_t size = (size_t)((newline ? newline : end) - line);

		*at = newline ? newline + 1 : end;
		while (size > 0 && strchr(" \t\r", line[size - 1]))
			size--;
		while (size > 0 && (*line == ' ' || *line == '\t')) {
			line++;
			size--;
		}
		if (size == 0 || *line == '#')
			continue;
		equals = memchr(line, '=', size);
		if (!equals || size > PAIRS_MAX_BYTES)
			return -EBADMSG;
		*ret_name = duplicate(line, (size_t)(equals - line));
		*ret_value = duplicate(equals + 1, (size_t)(line + size - equals - 1));
		return *ret_name && *ret_value ? 1 : -ENOMEM;
	}
	return 0;
}

/** pairs_unquote() - what a person may have put around it, as sh allows */
void pairs_unquote(char *value)
{
	size_t size = strlen(value);

	if (size >= 2 && (*value == '"' || *value == '\'') && value[size - 1] == *value) {
		value[size - 1] = '\0';
		memmove(value, value + 1, size - 1);
	}
}

static bool is_of(const char *value, const char *letters, size_t max_bytes)
{
	size_t size = strlen(value);

	return size > 0 && size <= max_bytes && strspn(value, letters) == size;
}

bool pairs_is_uuid(const char *value)
{
	return is_of(value, DIGITS "abcdefABCDEF-", UUID_MAX_BYTES);
}

bool pairs_is_type(const char *value)
{
	return is_of(value, DIGITS LETTERS "_-", TYPE_MAX_BYTES);
}

bool pairs_is_path(const char *value)
{
	size_t size = strlen(value);

	return value[0] == '/' && is_of(value, VALUES, PAIRS_MAX_BYTES) && !strstr(value, "/../") &&
	       (size < 3 || strcmp(value + size - 3, "/..") != 0);
}

bool pairs_is_device(const char *value)
{
	return pairs_is_path(value) && strncmp(value, "/dev/", strlen("/dev/")) == 0;
}

bool pairs_is_name(const char *value)
{
	return value[0] != '.' && is_of(value, DIGITS LETTERS "._-", NAME_MAX_BYTES);
}
