/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/unlock-finds.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#define DEVICES_MAX    4096 /* names looked at below /sys/class/block */
#define UUID_MAX_BYTES 4096 /* a page of sysfs */

static void found_clear(struct found *found)
{
	free(found->device);
	header_info_free(found->header);
}

void finds_clear(struct finds *finds)
{
	for (size_t i = 0; i < finds->n; i++)
		found_clear(&finds->finds[i]);
	free(finds->finds);
	*finds = (struct finds){ 0 };
}

static int add_find(struct finds *finds, const char *name)
{
	_cleanup_(header_info_freep) struct header_info *header = NULL;
	_cleanup_(freep) char *device = NULL;
	struct found *larger;
	int r;

	r = text_format(&device, "/dev/%s", name);
	if (r < 0)
		return r;
	for (char *c = device; *c; c++)
		if (*c == '!') /* as sysfs writes a slash */
			*c = '/';
	r = header_read(device, NULL, &header);
	if (r == HEADER_E_MALFORMED)
		log_debug("Device %s: its LUKS2 header or token is damaged.", device);
	if (r != 0 || !header->token)
		return r == -ENOMEM ? r : 0;
	larger = reallocarray(finds->finds, finds->n + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	finds->finds = larger;
	finds->finds[finds->n++] =
		(struct found){ .device = steal(device), .header = steal(header) };
	return 0;
}

/* Parts of a conversion at work are suspended now and then: a read would wait, perhaps for ever. */
static bool is_conversion_part(const char *name)
{
	static const char prefix[] = "CRYPT-SUBDEV-";
	_cleanup_(freep) char *path = NULL, *uuid = NULL;
	size_t size_bytes;

	return text_format(&path, "/sys/class/block/%s/dm/uuid", name) == 0 &&
	       file_read(path, UUID_MAX_BYTES, &uuid, &size_bytes) == 0 &&
	       strncmp(uuid, prefix, strlen(prefix)) == 0;
}

/*
 * The kernel may take the random bytes of a header for the table of an old system (that of Acorn's
 * has a checksum of one byte), and then shows partitions that begin where the disk does. Where the
 * disk bears a header of ours, its partitions are none.
 */
static bool is_phantom(const struct finds *finds, const struct found *found)
{
	_cleanup_(freep) char *path = NULL, *real = NULL;
	char *slash;

	if (text_format(&path, "/sys/class/block/%s", strrchr(found->device, '/') + 1) < 0)
		return false;
	real = realpath(path, NULL);
	slash = real ? strrchr(real, '/') : NULL;
	if (!slash)
		return false;
	*slash = '\0'; /* a partition's folder lies in that of its disk */
	slash = strrchr(real, '/');
	for (size_t i = 0; slash && i < finds->n; i++)
		if (&finds->finds[i] != found &&
		    strcmp(strrchr(finds->finds[i].device, '/'), slash) == 0)
			return true;
	return false;
}

static int drop_phantoms(struct finds *finds)
{
	_cleanup_(freep) bool *phantoms = calloc(finds->n + 1, sizeof(*phantoms));
	size_t kept = 0;

	if (!phantoms)
		return -ENOMEM;
	for (size_t i = 0; i < finds->n; i++)
		phantoms[i] = is_phantom(finds, &finds->finds[i]);
	for (size_t i = 0; i < finds->n; i++)
		if (phantoms[i])
			found_clear(&finds->finds[i]);
		else
			finds->finds[kept++] = finds->finds[i];
	finds->n = kept;
	return 0;
}

/**
 * finds_read() - all block devices with a header of ours at their head
 *
 * Return: 0 or -errno.
 */
int finds_read(struct finds *finds)
{
	_cleanup_(closedirp) DIR *folder = opendir("/sys/class/block");
	struct dirent *entry;
	unsigned n = 0;
	int r;

	if (!folder)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(folder)) && n++ < DEVICES_MAX) {
		static const char *const never[] = { ".", "ram", "zram", "sr", "fd", "nbd" };
		bool is_never = false;

		for (size_t i = 0; i < ARRAY_SIZE(never); i++)
			is_never |= strncmp(entry->d_name, never[i], strlen(never[i])) == 0;
		if (is_never || is_conversion_part(entry->d_name))
			continue;
		r = add_find(finds, entry->d_name);
		if (r < 0)
			return r;
	}
	return drop_phantoms(finds);
}

struct found *finds_by_uuid(struct finds *finds, const char *uuid)
{
	for (size_t i = 0; i < finds->n; i++)
		if (finds->finds[i].header && strcasecmp(finds->finds[i].header->uuid, uuid) == 0)
			return &finds->finds[i];
	return NULL;
}

/** finds_by_device() - by any name of the device */
struct found *finds_by_device(struct finds *finds, const char *device)
{
	_cleanup_(freep) char *real = realpath(device, NULL);

	for (size_t i = 0; real && i < finds->n; i++)
		if (finds->finds[i].header && strcmp(finds->finds[i].device, real) == 0)
			return &finds->finds[i];
	return NULL;
}
