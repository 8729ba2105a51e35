/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/record.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "job/plan.h"

#define RECORD_MAX_BYTES                                                                           \
	(64 * 1024) /* a line of fstab has a few hundred bytes, a volume few lines */

/** record_fstab_to_json() - an array. Return: owned by the caller, or NULL without memory. */
struct json_object *record_fstab_to_json(const struct fstab_entries *entries)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();

	for (size_t i = 0; array && i < entries->n; i++) {
		const struct fstab_entry *entry = &entries->entries[i];
		struct json_object *object = json_object_new_object();

		if (!object || json_object_array_add(array, object) < 0 ||
		    json_set_int(object, "line", (int64_t)entry->line) < 0 ||
		    json_set_string(object, "original", entry->original) < 0 ||
		    json_set_string(object, "spec", entry->spec) < 0 ||
		    json_set_string(object, "target", entry->target) < 0 ||
		    json_set_string(object, "type", entry->type) < 0 ||
		    json_set_string(object, "options", entry->options) < 0)
			return NULL;
	}
	return steal(array);
}

/** record_fstab_from_json() - what record_fstab_to_json() made; NULL is none. Return: 0,
 * RECORD_E_DAMAGED or -ENOMEM. */
int record_fstab_from_json(struct json_object *array, struct fstab_entries *ret)
{
	struct fstab_entries entries = { 0 };
	size_t n = array ? json_object_array_length(array) : 0;

	entries.entries = calloc(n ? n : 1, sizeof(*entries.entries));
	if (!entries.entries)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_object *object = json_object_array_get_idx(array, i);
		struct fstab_entry *entry = &entries.entries[entries.n++];

		entry->line = (size_t)json_get_int(object, "line", 0);
		if (!json_get_string(object, "original") || !json_get_string(object, "target") ||
		    text_copy(json_get_string(object, "original"), &entry->original) < 0 ||
		    text_copy(json_get_string(object, "spec"), &entry->spec) < 0 ||
		    text_copy(json_get_string(object, "target"), &entry->target) < 0 ||
		    text_copy(json_get_string(object, "type"), &entry->type) < 0 ||
		    text_copy(json_get_string(object, "options"), &entry->options) < 0) {
			fstab_entries_clear(&entries);
			return RECORD_E_DAMAGED;
		}
	}
	*ret = entries;
	return 0;
}

static int record_path(const char *uuid, char **ret)
{
	return text_format(ret, STATE_DIRECTORY "/volumes/%s.fstab", uuid);
}

/** record_keep() - the lines of a volume as they were, durably. Return: 0 or -errno. */
int record_keep(const char *uuid, const struct fstab_entries *entries)
{
	_cleanup_(json_putp) struct json_object *array = record_fstab_to_json(entries);
	_cleanup_(freep) char *path = NULL;
	int r;

	if (!array)
		return -ENOMEM;
	r = directory_make(STATE_DIRECTORY "/volumes", 0700);
	if (r == 0)
		r = record_path(uuid, &path);
	return r == 0 ? json_write_file(path, array, 0600) : r;
}

/**
 * record_recall() - what record_keep() has kept
 * @entries: replaced when there is something
 *
 * Return: 0 (also when there is nothing), RECORD_E_DAMAGED, or -errno.
 */
int record_recall(const char *uuid, struct fstab_entries *entries)
{
	_cleanup_(json_putp) struct json_object *array = NULL;
	_cleanup_(freep) char *path = NULL;
	struct fstab_entries kept;
	int r;

	r = record_path(uuid, &path);
	if (r == 0)
		r = json_read_file(path, RECORD_MAX_BYTES, &array);
	if (r == -ENOENT)
		return 0;
	if (r == -EBADMSG || r == -EFBIG ||
	    (r == 0 && !json_object_is_type(array, json_type_array)))
		return RECORD_E_DAMAGED;
	if (r == 0)
		r = record_fstab_from_json(array, &kept);
	if (r != 0)
		return r;
	fstab_entries_clear(entries);
	*entries = kept;
	return 0;
}

/** record_forget() - the volume is plain again. Return: 0 or -errno. */
int record_forget(const char *uuid)
{
	_cleanup_(freep) char *path = NULL;
	int r = record_path(uuid, &path);

	return r == 0 ? file_remove_durably(path) : r;
}
