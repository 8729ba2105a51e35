/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/segments.h"

#include <errno.h>
#include <string.h>

#include "base/file.h"

#define DYNAMIC UINT64_MAX /* a size that reaches to the next segment or the device's end */

struct segment {
	uint64_t offset_bytes, size_bytes;
	bool is_crypt, is_hot, is_backup, is_moved, is_first;
};

/* The format keeps 64-bit numbers as decimal strings. */
static int get_u64(struct json_object *object, const char *name, uint64_t *ret)
{
	return number_parse_u64(json_get_string(object, name), 0, INT64_MAX, ret);
}

static int parse_flags(struct json_object *object, struct segment *segment)
{
	struct json_object *flags = json_get_array(object, "flags");
	size_t n = flags ? json_object_array_length(flags) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *flag = json_object_array_get_idx(flags, i);
		const char *text;

		if (!json_object_is_type(flag, json_type_string))
			return -EBADMSG;
		text = json_object_get_string(flag);
		if (strncmp(text, "backup-", strlen("backup-")) == 0)
			segment->is_backup = true;
		if (strcmp(text, "backup-moved-segment") == 0)
			segment->is_moved = true;
		if (strcmp(text, "in-reencryption") == 0)
			segment->is_hot = true;
	}
	return 0;
}

static int parse_segment(struct json_object *object, struct segment *segment, struct segments *all)
{
	const char *type = json_get_string(object, "type");
	const char *size = json_get_string(object, "size");
	int64_t sector_bytes;

	*segment = (struct segment){ .size_bytes = DYNAMIC };
	if (!type || !size || get_u64(object, "offset", &segment->offset_bytes) < 0 ||
	    (strcmp(size, "dynamic") != 0 && get_u64(object, "size", &segment->size_bytes) < 0) ||
	    parse_flags(object, segment) < 0)
		return -EBADMSG;
	if (strcmp(type, "linear") == 0)
		return 0;
	if (strcmp(type, "crypt") != 0)
		return -EBADMSG;
	segment->is_crypt = true;
	sector_bytes = json_get_int(object, "sector_size", 512);
	if (sector_bytes < 512 || sector_bytes > 4096)
		return -EBADMSG;
	all->sector_bytes = (unsigned)sector_bytes;
	all->cipher = json_get_string(object, "encryption");
	return 0;
}

static int parse_keyslots(struct json_object *header, struct segments *all)
{
	struct json_object *keyslots = json_get_object(header, "keyslots");

	if (!keyslots)
		return -EBADMSG;
	json_object_object_foreach(keyslots, id, keyslot)
	{
		const char *type = json_get_string(keyslot, "type");
		const char *mode = json_get_string(keyslot, "mode");

		(void)id;
		if (!type)
			return -EBADMSG;
		if (strcmp(type, "reencrypt") != 0)
			all->keyslots++;
		else
			all->is_decrypting = mode && strcmp(mode, "decrypt") == 0;
	}
	return 0;
}

/* Where a dynamic segment ends: where the next one in use begins, or with the device. */
static uint64_t end_of_dynamic(const struct segment segments[], size_t n, size_t at,
			       uint64_t device_bytes)
{
	uint64_t end = device_bytes;

	for (size_t i = 0; i < n; i++)
		if (!segments[i].is_backup &&
		    segments[i].offset_bytes > segments[at].offset_bytes &&
		    segments[i].offset_bytes < end)
			end = segments[i].offset_bytes;
	return end;
}

/**
 * segments_from_json() - sum up the segments that make the data
 * @header:       the JSON area
 * @device_bytes: of the backing device, for segments without a size of their own
 *
 * Segments kept as a backup of before and after do not count. A hotzone in flight (its step was
 * cut, or runs at this moment) counts as still to be done: plain while encrypting, encrypted while
 * decrypting.
 *
 * Return: 0 or -EBADMSG.
 */
int segments_from_json(struct json_object *header, uint64_t device_bytes, struct segments *ret)
{
	struct json_object *objects = json_get_object(header, "segments");
	struct segment segments[SEGMENTS_MAX];
	struct segments all = { 0 };
	size_t n = 0;

	if (!objects || parse_keyslots(header, &all) < 0)
		return -EBADMSG;
	json_object_object_foreach(objects, id, object)
	{
		if (n == SEGMENTS_MAX || parse_segment(object, &segments[n], &all) < 0)
			return -EBADMSG;
		segments[n].is_first = strcmp(id, "0") == 0;
		if (segments[n].is_moved && !segments[n].is_crypt)
			all.moved_offset_bytes = segments[n].offset_bytes;
		n++;
	}
	for (size_t i = 0; i < n; i++) {
		const struct segment *segment = &segments[i];
		uint64_t size_bytes = segment->size_bytes;
		uint64_t end = device_bytes;

		if (segment->is_backup)
			continue;
		if (segment->is_hot && segment->is_first)
			all.is_first_hot = true;
		if (size_bytes == DYNAMIC) {
			end = end_of_dynamic(segments, n, i, device_bytes);
			size_bytes = end > segment->offset_bytes ? end - segment->offset_bytes : 0;
		}
		if (__builtin_add_overflow(all.data_bytes, size_bytes, &all.data_bytes))
			return -EBADMSG;
		if (segment->is_hot ? all.is_decrypting : segment->is_crypt)
			all.encrypted_bytes += size_bytes;
	}
	*ret = all;
	return 0;
}
