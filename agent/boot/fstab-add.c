/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A line for a filesystem that fstab does not have yet; see boot/fstab.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/fstab.h"
#include "boot/table.h"

/* Is it below the target, or the target itself? */
static bool is_within(const struct table_field *field, const char *target)
{
	size_t size = strlen(target);

	return field->size >= size && memcmp(field->at, target, size) == 0 &&
	       (field->size == size || field->at[size] == '/');
}

/**
 * fstab_add_text() - a text with one more line
 * @target: without blanks
 * @line:   the whole of it, without its newline; comes before what is mounted below @target
 * @ret:    owned by the caller, with 1 only
 *
 * Return: 1, 0 (it is there), FSTAB_E_TAKEN (something else is mounted there) or -ENOMEM.
 */
int fstab_add_text(const char *text, const char *target, const char *line, char **ret)
{
	const char *at = text, *place = NULL;
	struct table_line entry = { 0 };
	size_t size = strlen(text);

	while (table_next(&at, &entry)) {
		if (entry.n < 2 || !is_within(&entry.fields[1], target))
			continue;
		if (table_field_is(&entry.fields[1], target))
			return entry.size == strlen(line) && memcmp(entry.at, line, entry.size) == 0
				       ? 0
				       : FSTAB_E_TAKEN;
		if (!place)
			place = entry.at;
	}
	if (!place)
		place = text + size;
	if (text_format(ret, "%.*s%s%s\n%s", (int)(place - text), text,
			place > text && place[-1] != '\n' ? "\n" : "", line, place) < 0)
		return -ENOMEM;
	return 1;
}

/** fstab_remove_text() - the same without such a line. Return: 1, 0 (it is not there) or -ENOMEM.
 */
int fstab_remove_text(const char *text, const char *line, char **ret)
{
	struct table_line entry = { 0 };

	for (const char *at = text; table_next(&at, &entry);)
		if (entry.size == strlen(line) && memcmp(entry.at, line, entry.size) == 0)
			return text_format(ret, "%.*s%s", (int)(entry.at - text), text,
					   entry.at + entry.size + entry.ending_bytes) < 0
				       ? -ENOMEM
				       : 1;
	return 0;
}

/**
 * fstab_add() - one more line, durably; all other bytes stay
 *
 * Return: 0 (it is there now), FSTAB_E_TAKEN or -errno.
 */
int fstab_add(const char *path, const char *target, const char *line)
{
	_cleanup_(freep) char *real = NULL, *text = NULL, *changed = NULL;
	int r = table_read(path, FSTAB_MAX_BYTES, &real, &text);

	if (r != 0)
		return r;
	r = fstab_add_text(text, target, line, &changed);
	if (r != 1)
		return r;
	r = file_write_atomic(real, changed, strlen(changed), 0644);
	return r < 0 ? r : 0;
}

/** fstab_remove() - take back what fstab_add() did. Return: 0 or -errno. */
int fstab_remove(const char *path, const char *line)
{
	_cleanup_(freep) char *real = NULL, *text = NULL, *changed = NULL;
	int r = table_read(path, FSTAB_MAX_BYTES, &real, &text);

	if (r != 0)
		return r;
	r = fstab_remove_text(text, line, &changed);
	return r <= 0 ? r : file_write_atomic(real, changed, strlen(changed), 0644);
}
