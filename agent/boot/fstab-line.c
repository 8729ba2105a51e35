/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/fstab-line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/cleanup.h"

/* does udev's name for a link, with \x20 and the like, stand for this value? Source: udev(7),
 * ENV{ID_FS_LABEL_ENC} */
static bool is_encoded(const char *name, const char *value)
{
	for (; *name && *value; value++) {
		unsigned byte;

		if (name[0] == '\\' && name[1] == 'x' &&
		    strspn(name + 2, "0123456789abcdefABCDEF") >= 2 &&
		    sscanf(name + 2, "%2x", &byte) == 1) {
			if (byte != (unsigned char)*value)
				return false;
			name += 4;
		} else if (*name++ != *value) {
			return false;
		}
	}
	return *name == '\0' && *value == '\0';
}

static bool is_named(const char *spec, const struct fstab_device *device)
{
	/* clang-format off */
	const struct {
		const char *tag, *folder, *value;
		bool has_case;
	} names[] = {
		{ "UUID",      "/dev/disk/by-uuid/",      device->uuid,            false },
		{ "LABEL",     "/dev/disk/by-label/",     device->label,           true  },
		{ "PARTUUID",  "/dev/disk/by-partuuid/",  device->partition_uuid,  false },
		{ "PARTLABEL", "/dev/disk/by-partlabel/", device->partition_label, true  },
		{ NULL,        "/dev/mapper/",            device->mapping,         true  },
		{ NULL,        "/dev/disk/by-id/dm-name-", device->mapping,        true  },
		{ NULL,        "",                        device->path,            true  },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = names[i].value, *tagged = NULL, *link;
		size_t size, folder_letters = strlen(names[i].folder);

		if (!value || !*value)
			continue;
		if (names[i].tag)
			tagged = table_tag_value(spec, names[i].tag, &size);
		if (tagged && size == strlen(value) &&
		    (names[i].has_case ? strncmp(tagged, value, size)
				       : strncasecmp(tagged, value, size)) == 0)
			return true;
		if (strncmp(spec, names[i].folder, folder_letters) != 0)
			continue;
		link = spec + folder_letters;
		if (is_encoded(link, value) || (!names[i].has_case && strcasecmp(link, value) == 0))
			return true;
	}
	return false;
}

/* do two paths lead to one device, by links or by number? */
static bool is_same_device(const char *spec, const char *path)
{
	_cleanup_(freep) char *a = realpath(spec, NULL), *b = realpath(path, NULL);
	struct stat first, second;

	if (a && b && strcmp(a, b) == 0)
		return true;
	return stat(spec, &first) == 0 && stat(path, &second) == 0 && S_ISBLK(first.st_mode) &&
	       S_ISBLK(second.st_mode) && first.st_rdev == second.st_rdev;
}

/** fstab_line_is_meant() - is it an entry of the volume? Return: 1, 0 or -ENOMEM. */
int fstab_line_is_meant(const struct fstab_search *search, const struct table_line *line)
{
	_cleanup_(freep) char *spec = NULL;

	if (line->n <= FSTAB_TYPE)
		return 0;
	spec = table_field_decode(&line->fields[FSTAB_SPEC]);
	if (!spec)
		return -ENOMEM;
	if (is_named(spec, search->device))
		return 1;
	/* only below /dev: another path may lie on a server that does not answer */
	return search->resolves && search->device->path && strncmp(spec, "/dev/", 5) == 0 &&
	       is_same_device(spec, search->device->path);
}

/** fstab_line_options() - of an entry; where there are none, a field of no letters behind the type
 */
struct table_field fstab_line_options(const struct table_line *line)
{
	const struct table_field *type = &line->fields[FSTAB_TYPE];

	if (line->n > FSTAB_OPTIONS && line->fields[FSTAB_OPTIONS].at[0] != '#')
		return line->fields[FSTAB_OPTIONS];
	return (struct table_field){ type->at + type->size, 0 };
}

/**
 * fstab_option_find() - where an option stands in a comma-separated list, or NULL
 *
 * A comma between quotes (SELinux contexts) is no end.
 */
const char *fstab_option_find(const struct table_field *options, const char *name)
{
	const char *start = options->at, *end = options->at + options->size;
	bool is_quoted = false, has_pairs = true;

	for (const char *at = start; at < end; at++)
		has_pairs ^= *at == '"';
	for (const char *at = start; at <= end; at++) {
		if (at < end && *at == '"' && has_pairs)
			is_quoted = !is_quoted;
		if (at < end && (*at != ',' || is_quoted))
			continue;
		if ((size_t)(at - start) == strlen(name) && memcmp(start, name, strlen(name)) == 0)
			return start;
		start = at + 1;
	}
	return NULL;
}

/** fstab_line_may_fail() - a machine whose root is not there has failed, whatever an option says */
bool fstab_line_may_fail(const struct table_line *line)
{
	static const char *const vital[] = { "/", "/usr" };
	const struct table_field *target = &line->fields[FSTAB_TARGET];

	for (size_t i = 0; i < ARRAY_SIZE(vital); i++)
		if (target->size == strlen(vital[i]) &&
		    memcmp(target->at, vital[i], target->size) == 0)
			return false;
	return true;
}

static void put_encrypted(FILE *out, const struct table_line *line,
			  const struct table_field *raw_spec)
{
	const struct table_field *spec = &line->fields[FSTAB_SPEC];
	struct table_field options = fstab_line_options(line);
	const char *end = options.at + options.size;

	table_put(out, line->at, spec->at);
	if (!raw_spec)
		raw_spec = spec;
	table_put(out, raw_spec->at, raw_spec->at + raw_spec->size);
	table_put(out, spec->at + spec->size, end);
	if (fstab_line_may_fail(line) && !fstab_option_find(&options, "nofail") &&
	    !fstab_option_find(&options, "noauto"))
		(void)fputs(options.size > 0 ? ",nofail" : " nofail", out);
	table_put(out, end, line->at + line->size);
}

/**
 * fstab_line_encrypted() - the line as fstab_encrypt() leaves it, without its end
 * @raw_spec: new first field as it is to stand there; NULL keeps the old one
 *
 * Return: owned by the caller, or NULL without memory.
 */
char *fstab_line_encrypted(const struct table_line *line, const struct table_field *raw_spec)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	put_encrypted(out, line, raw_spec);
	return table_finish(out, &text);
}
