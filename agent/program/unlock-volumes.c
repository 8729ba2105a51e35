/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-unlock: which volumes there are, and where */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "boot/crypttab.h"
#include "program/unlock-finds.h"
#include "program/unlock.h"
#include "volume/mapping.h"
#include "volume/superblock.h"

#define CRYPTTAB       "/etc/crypttab"
#define MAPPING_PREFIX "vmcrypt-"
#define HEADER_SUFFIX  ".luks" /* under other names lie headers that nothing depends on yet */
#define HEADERS_MAX    256     /* names looked at there */

static void volume_clear(struct unlock_volume *volume)
{
	free(volume->mapping);
	free(volume->source);
	free(volume->header_file);
	free(volume->header_uuid);
	free(volume->device);
	free(volume->reason);
	header_info_free(volume->header);
}

void unlock_volumes_clear(struct unlock_volumes *volumes)
{
	for (size_t i = 0; i < volumes->n; i++)
		volume_clear(&volumes->volumes[i]);
	free(volumes->volumes);
	*volumes = (struct unlock_volumes){ 0 };
}

/** unlock_volumes_count() - how many are in this state? */
unsigned unlock_volumes_count(const struct unlock_volumes *volumes, enum unlock_state state)
{
	unsigned n = 0;

	for (size_t i = 0; i < volumes->n; i++)
		n += volumes->volumes[i].state == state;
	return n;
}

time_t unlock_now_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static bool has_digit(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (isdigit((unsigned char)text[i]))
			return true;
	return false;
}

/* But for words with numbers in them: how long it took, how many tries, the request's id. */
static bool says_the_same(const char *a, const char *b)
{
	for (;;) {
		size_t n = strcspn(a, " "), m = strcspn(b, " ");

		if (!(has_digit(a, n) && has_digit(b, m)) && (n != m || memcmp(a, b, n) != 0))
			return false;
		if (!a[n] || !b[m])
			return a[n] == b[m];
		a += n + 1;
		b += m + 1;
	}
}

/** unlock_volume_say() - set what is the matter with a volume; no memory = no reason */
void unlock_volume_say(struct unlock_volume *volume, enum unlock_state state, const char *format,
		       ...)
{
	_cleanup_(freep) char *before = steal(volume->reason);
	va_list arguments;
	char *reason;

	va_start(arguments, format);
	if (vasprintf(&reason, format, arguments) >= 0)
		volume->reason = reason;
	va_end(arguments);
	volume->is_new_reason =
		!before || !volume->reason || !says_the_same(before, volume->reason);
	/* a device that is not there is not there each second: said once */
	volume->is_news |= state != UNLOCK_MISSING || volume->is_new_reason;
	volume->state = state;
	volume->rests_until = state == UNLOCK_REFUSED ? unlock_now_s() + volume->rest_s : 0;
}

/* The device that a crypttab entry means, where a link by udev or the name itself leads to it. */
static int resolve(const char *source, char **ret)
{
	static const struct {
		const char *tag, *folder;
	} tags[] = {
		{ "UUID=", "/dev/disk/by-uuid/" },
		{ "PARTUUID=", "/dev/disk/by-partuuid/" },
		{ "LABEL=", "/dev/disk/by-label/" },
		{ "PARTLABEL=", "/dev/disk/by-partlabel/" },
	};
	_cleanup_(freep) char *path = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++)
		if (strncmp(source, tags[i].tag, strlen(tags[i].tag)) == 0 &&
		    text_format(&path, "%s%s", tags[i].folder, source + strlen(tags[i].tag)) < 0)
			return -ENOMEM;
	*ret = realpath(path ? path : source, NULL);
	return *ret ? 0 : -errno;
}

static bool is_wanted(const char *mapping, char *const names[], size_t n_names)
{
	for (size_t i = 0; i < n_names; i++)
		if (strcmp(mapping, names[i]) == 0)
			return true;
	return n_names == 0;
}

static struct unlock_volume *find_volume(struct unlock_volumes *volumes, const char *mapping)
{
	for (size_t i = 0; i < volumes->n; i++)
		if (strcmp(volumes->volumes[i].mapping, mapping) == 0)
			return &volumes->volumes[i];
	return NULL;
}

/* Return: 0, -ENOBUFS when there are too many, or -ENOMEM. */
static int add_volume(struct unlock_volumes *volumes, const char *mapping, const char *source,
		      const char *header_file)
{
	struct unlock_volume volume = {
		.mapping = strdup(mapping),
		.source = strdup(source),
		.header_file = header_file ? strdup(header_file) : NULL,
		.rest_s = volumes->rest_s,
	};
	struct unlock_volume *larger;

	if (volumes->n == UNLOCK_VOLUMES_MAX) {
		volume_clear(&volume);
		return -ENOBUFS;
	}
	larger = reallocarray(volumes->volumes, volumes->n + 1, sizeof(*larger));
	if (larger)
		volumes->volumes = larger;
	if (!larger || !volume.mapping || !volume.source || (header_file && !volume.header_file)) {
		volume_clear(&volume);
		return -ENOMEM;
	}
	volumes->volumes[volumes->n++] = volume;
	return 0;
}

/* Its decryption is over: there is nothing to open, and perhaps no keyslot left. */
static bool is_plain(const struct header_info *header)
{
	return header->conversion == HEADER_CONVERSION_NONE && header->encrypted_bytes == 0;
}

/*
 * Opening may write (it recovers a step that was cut): not to another disk. One that has become
 * larger, as disks do in the cloud, is known by the name that stays.
 */
static bool is_its_device(const struct unlock_volume *volume, const char *device)
{
	const struct header_info *header = volume->header;
	_cleanup_(freep) char *real = NULL;
	uint64_t device_bytes;

	/*
	 * A disk's place is no more than that; the root's is its partition's own name. Not asked
	 * where opening only reads: in a hundred thousand heads of encrypted data one has the look
	 * of ext.
	 */
	if (!volume->is_root && header->conversion != HEADER_CONVERSION_NONE &&
	    superblock_is_another(device, header->uuid, header->token->filesystem_uuid) == 1)
		return false;
	if (!header->token->device)
		return true;
	if (header_device_bytes(device, &device_bytes) < 0)
		return false;
	if (device_bytes <= header->token->device_bytes)
		return device_bytes == header->token->device_bytes;
	real = realpath(header->token->device, NULL);
	return real && strcmp(real, device) == 0;
}

/* The header in a file: is it there, ours, and is this its device? */
static void look_at_detached(struct unlock_volume *volume)
{
	_cleanup_(freep) char *device = NULL;
	int r;

	if (resolve(volume->source, &device) < 0) {
		unlock_volume_say(volume, UNLOCK_MISSING, "device %s is not there", volume->source);
		return;
	}
	r = header_read(device, volume->header_file, &volume->header);
	if (r == -ENOENT) {
		unlock_volume_say(volume, UNLOCK_MISSING, "its header %s is not there",
				  volume->header_file);
		return;
	}
	if (r != 0 || !volume->header->token) {
		unlock_volume_say(volume, UNLOCK_REFUSED,
				  "its header %s is damaged or has no token of vmcrypt; put a "
				  "backup of it in its place",
				  volume->header_file);
		return;
	}
	if (!is_its_device(volume, device)) {
		unlock_volume_say(
			volume, UNLOCK_REFUSED,
			"device %s is by its size or content another than the one that its "
			"header %s was made for; attach that, or correct " CRYPTTAB,
			device, volume->header_file);
		return;
	}
	volume->device = steal(device);
	volume->state = is_plain(volume->header) ? UNLOCK_OPEN : UNLOCK_LOCKED;
}

static void look_at_attached(struct unlock_volume *volume, struct finds *finds)
{
	_cleanup_(freep) char *device = NULL;
	struct found *found = NULL;

	if (strncmp(volume->source, "UUID=", strlen("UUID=")) == 0)
		found = finds_by_uuid(finds, volume->source + strlen("UUID="));
	else if (resolve(volume->source, &device) == 0)
		found = finds_by_device(finds, device);
	if (!found) {
		unlock_volume_say(volume, UNLOCK_MISSING, "no device with its header (%s) is there",
				  volume->source);
		return;
	}
	volume->device = strdup(found->device);
	volume->header = steal(found->header);
	volume->state = volume->device ? UNLOCK_LOCKED : UNLOCK_MISSING;
}

/* Of several, that with the header that the root is known to have: others are copies of it. */
static struct found *find_root(struct finds *finds, const struct unlock_volume *volume)
{
	struct found *found = NULL;

	for (size_t i = 0; i < finds->n; i++) {
		const struct header_info *header = finds->finds[i].header;

		if (!header || strcmp(header->token->mapping, volume->mapping) != 0)
			continue;
		if (!found ||
		    (volume->header_uuid && strcasecmp(header->uuid, volume->header_uuid) == 0))
			found = &finds->finds[i];
	}
	return found;
}

/* The backing device that a detached header names. */
static int token_device(const char *header_file, char **ret_mapping, char **ret_device)
{
	_cleanup_(header_info_freep) struct header_info *header = NULL;
	int r;

	/* what the segments say of the device has no meaning then, and is not looked at */
	r = header_read(header_file, header_file, &header);
	if (r != 0 || !header->token || !header->token->device)
		return r < 0 ? r : -ENOENT;
	*ret_device = steal(header->token->device);
	if (ret_mapping)
		*ret_mapping = steal(header->token->mapping);
	return 0;
}

/*
 * The file, once it is there, is the header. Where it is not, a header at the head of the device is
 * a whole one: the way back wipes its signature before it moves the first byte.
 */
static void look_at_root(struct unlock_volume *volume, struct finds *finds)
{
	struct found *found;

	if (volume->header_file && access(volume->header_file, F_OK) == 0) {
		if (!volume->source[0]) {
			free(steal(volume->source));
			if (token_device(volume->header_file, NULL, &volume->source) < 0)
				volume->source = strdup("");
		}
		if (volume->source)
			look_at_detached(volume);
		return;
	}
	found = find_root(finds, volume);
	if (!found) {
		if (volume->header_file)
			unlock_volume_say(volume, UNLOCK_MISSING,
					  "its header %s is not there; put it, or a backup of it, "
					  "in that place on the volume of /boot",
					  volume->header_file);
		else
			unlock_volume_say(volume, UNLOCK_MISSING,
					  "no device with its header is there");
		return;
	}
	volume->device = strdup(found->device);
	volume->header = steal(found->header);
	volume->state = volume->device ? UNLOCK_LOCKED : UNLOCK_MISSING;
}

static void look(struct unlock_volume *volume, struct finds *finds)
{
	bool is_active;

	if (volume->state == UNLOCK_OPEN)
		return;
	if (volume->state != UNLOCK_REFUSED || unlock_now_s() >= volume->rests_until) {
		free(volume->device);
		volume->device = NULL;
		volume->header = header_info_free(volume->header);
		volume->is_past_keys = false;
		if (volume->is_root)
			look_at_root(volume, finds);
		else if (volume->header_file)
			look_at_detached(volume);
		else
			look_at_attached(volume, finds);
	}
	/* opened by a person meanwhile, or by the initramfs */
	if (mapping_is_active(volume->mapping, &is_active) == 0 && is_active)
		volume->state = UNLOCK_OPEN;
}

/* Volumes of the OS disk were opened before, or are not encrypted any more: not waited for. */
static void drop_absent_initrd(struct unlock_volumes *volumes)
{
	size_t n = 0;

	for (size_t i = 0; i < volumes->n; i++) {
		struct unlock_volume *volume = &volumes->volumes[i];

		if (volume->is_initrd && volume->state == UNLOCK_MISSING)
			volume_clear(volume);
		else
			volumes->volumes[n++] = *volume;
	}
	volumes->n = n;
}

/**
 * unlock_volumes_find() - add what has come, and look again at what is not open yet
 * @names: mappings; none = all of ours
 *
 * The entries of crypttab, and devices with a header of ours that no entry names.
 *
 * Return: 0 or -errno.
 */
int unlock_volumes_find(struct unlock_volumes *volumes, char *const names[], size_t n_names)
{
	_cleanup_(crypttab_entries_clear) struct crypttab_entries entries = { 0 };
	_cleanup_(finds_clear) struct finds finds = { 0 };
	int r;

	r = finds_read(&finds);
	if (r < 0)
		return r;
	r = crypttab_read(CRYPTTAB, &entries);
	if (r != 0)
		log_warning("Table %s cannot be read; only volumes that are found by their header "
			    "are unlocked.",
			    CRYPTTAB);
	for (size_t i = 0; r == 0 && i < entries.n; i++) {
		const struct crypttab_entry *entry = &entries.entries[i];

		if (strncmp(entry->name, MAPPING_PREFIX, strlen(MAPPING_PREFIX)) != 0 ||
		    !is_wanted(entry->name, names, n_names) || find_volume(volumes, entry->name))
			continue;
		r = add_volume(volumes, entry->name, entry->device, entry->header);
		if (r == 0)
			volumes->volumes[volumes->n - 1].is_initrd = entry->is_initrd;
	}
	if (r == -ENOBUFS)
		log_warning("Only the first %d volumes are unlocked.", UNLOCK_VOLUMES_MAX);
	else if (r < 0)
		return r;
	for (size_t i = 0; i < volumes->n; i++)
		look(&volumes->volumes[i], &finds);
	drop_absent_initrd(volumes);

	/* what is left of the finds is in no entry */
	for (size_t i = 0; i < finds.n; i++) {
		const struct header_info *header = finds.finds[i].header;

		if (!header || !is_wanted(header->token->mapping, names, n_names) ||
		    find_volume(volumes, header->token->mapping))
			continue;
		r = add_volume(volumes, header->token->mapping, finds.finds[i].device, NULL);
		if (r < 0)
			return r == -ENOBUFS ? 0 : r;
		look(&volumes->volumes[volumes->n - 1], &finds);
	}
	return 0;
}

static int add_header_file(struct unlock_volumes *volumes, const char *path)
{
	_cleanup_(freep) char *mapping = NULL, *device = NULL;
	int r;

	r = token_device(path, &mapping, &device);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	return find_volume(volumes, mapping) ? 0 : add_volume(volumes, mapping, device, path);
}

/* Detached headers of data volumes. The device is named by those that have always been detached;
 * for a volume on its way back it stands in crypttab, which is not to be had here. */
static int add_header_files(struct unlock_volumes *volumes)
{
	_cleanup_(closedirp) DIR *folder = opendir(UNLOCK_HEADERS);
	struct dirent *entry;
	unsigned n = 0;
	int r = 0;

	while (folder && r == 0 && (entry = readdir(folder)) && n++ < HEADERS_MAX) {
		_cleanup_(freep) char *path = NULL;
		size_t size = strlen(entry->d_name), suffix = strlen(HEADER_SUFFIX);

		if (size <= suffix || strcmp(entry->d_name + size - suffix, HEADER_SUFFIX) != 0)
			continue;
		r = text_format(&path, UNLOCK_HEADERS "/%s", entry->d_name);
		if (r == 0)
			r = add_header_file(volumes, path);
	}
	return r;
}

static int add_root(struct unlock_volumes *volumes, const struct initramfs_conf *conf)
{
	struct unlock_volume *root;
	int r;

	if (!conf->mapping || volumes->n > 0)
		return 0;
	r = add_volume(volumes, conf->mapping, conf->device ? conf->device : "", conf->header);
	if (r < 0)
		return r;
	root = &volumes->volumes[0];
	root->is_root = true;
	return text_copy(conf->header_uuid, &root->header_uuid);
}

static int add_finds(struct unlock_volumes *volumes, struct finds *finds)
{
	int r;

	for (size_t i = 0; i < finds->n; i++) {
		const struct header_info *header = finds->finds[i].header;

		if (!header || find_volume(volumes, header->token->mapping))
			continue;
		r = add_volume(volumes, header->token->mapping, finds->finds[i].device, NULL);
		if (r < 0)
			return r;
		look(&volumes->volumes[volumes->n - 1], finds);
	}
	return 0;
}

/**
 * unlock_volumes_find_early() - the same in the initramfs, where there is no crypttab
 * @conf: names the root, which is then the first of @volumes; without a mapping there is none
 *
 * Beside the root, all that is found by its header.
 *
 * Return: 0 or -errno.
 */
int unlock_volumes_find_early(struct unlock_volumes *volumes, const struct initramfs_conf *conf)
{
	_cleanup_(finds_clear) struct finds finds = { 0 };
	int r;

	r = finds_read(&finds);
	if (r == 0)
		r = add_root(volumes, conf);
	if (r == 0)
		r = add_header_files(volumes);
	for (size_t i = 0; i < volumes->n; i++)
		look(&volumes->volumes[i], &finds);
	if (r == 0)
		r = add_finds(volumes, &finds);
	return r == -ENOBUFS ? 0 : r; /* the root is among them; the rest has time */
}
