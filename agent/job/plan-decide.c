/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* which volumes a request is about, and how each is done */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/crypttab.h"
#include "job/plan.h"
#include "volume/growth.h"

/** plan_make_uuid() - of random bytes, version 4 (RFC 9562, section 5.4). Return: 0 or -errno. */
int plan_make_uuid(char **ret)
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		return -EIO;
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	return text_format(ret,
			   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
			   b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
			   b[12], b[13], b[14], b[15]);
}

static bool is_named(const struct request *request, const struct volume *volume)
{
	for (size_t i = 0; i < request->n_volumes; i++)
		if (volume->uuid && strcasecmp(request->volumes[i], volume->uuid) == 0)
			return true;
	return request->n_volumes == 0;
}

static int copy_mounts(const struct volume *volume, struct job *job)
{
	job->mounts = calloc(volume->n_mounts ? volume->n_mounts : 1, sizeof(*job->mounts));
	if (!job->mounts)
		return -ENOMEM;
	for (size_t i = 0; i < volume->n_mounts; i++) {
		struct volume_mount *mount = &job->mounts[job->n_mounts++];

		if (text_copy(volume->mounts[i].target, &mount->target) < 0 ||
		    text_copy(volume->mounts[i].root, &mount->root) < 0 ||
		    text_copy(volume->mounts[i].options, &mount->options) < 0 ||
		    text_copy(volume->mounts[i].filesystem, &mount->filesystem) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Other volumes of the OS disk go with the root, in the initramfs; without it they are like data.
 */
static bool plan_wants_root(const struct plan *plan, const struct inventory *inventory)
{
	for (size_t i = 0; i < inventory->n; i++) {
		const struct volume *volume = &inventory->volumes[i];

		if (volume->is_root && is_named(plan->request, volume) &&
		    volume_excuse(inventory, volume, plan->request->wants_os,
				  plan->request->wants_data) == VOLUME_EXCUSE_NONE)
			return true;
	}
	return false;
}

static int decide_encrypt(struct plan *plan, struct inventory *inventory, struct volume *volume,
			  struct job *job)
{
	const struct request *request = plan->request;
	_cleanup_(freep) char *detail = NULL;
	int r;

	job->is_os = volume->role == VOLUME_ROLE_OS && plan_wants_root(plan, inventory);
	job->is_root = volume->is_root;
	job->device_bytes = volume->size_bytes;
	job->sector_bytes =
		header_sector_bytes(volume->filesystem_block_bytes, volume->logical_block_bytes,
				    volume->physical_block_bytes, volume->size_bytes);
	r = text_copy(volume->uuid, &job->uuid);
	if (r == 0)
		r = text_copy(volume->filesystem, &job->filesystem);
	if (r == 0)
		r = text_copy(volume->label, &job->label);
	if (r == 0)
		r = text_copy(volume->link ? volume->link : volume->path, &job->device);
	if (r == 0)
		r = plan_make_uuid(&job->header_uuid);
	if (r == 0)
		r = text_format(&job->mapping, "vmcrypt-%s", volume->uuid);
	if (r == 0)
		r = copy_mounts(volume, job);
	if (r < 0)
		return r;

	if (request->is_format_all && !job->is_os) {
		job->room = ROOM_IS_THERE;
		return 0;
	}
	r = room_find(inventory, volume, &job->room, &detail);
	if (r < 0)
		return r;
	if (job->room != ROOM_IS_THERE &&
	    (request->has_detached_header || (job->is_os && job->room == ROOM_NONE))) {
		job->room = ROOM_DETACHED;
		return text_format(&job->header_file, HEADER_DIRECTORY "/%s.luks",
				   job->header_uuid);
	}
	return 0;
}

/* Where crypttab says that the header of this device is kept; NULL = nowhere else. */
static const char *detached_file(const struct crypttab_entries *crypttab,
				 const struct volume *volume)
{
	for (size_t i = 0; i < crypttab->n; i++) {
		const struct crypttab_entry *entry = &crypttab->entries[i];
		struct stat device;

		if (entry->header && stat(entry->device, &device) == 0 && S_ISBLK(device.st_mode) &&
		    device.st_rdev == volume->devno)
			return entry->header;
	}
	return NULL;
}

static bool is_initrd_entry(const struct crypttab_entries *crypttab, const char *mapping)
{
	for (size_t i = 0; i < crypttab->n; i++)
		if (strcmp(crypttab->entries[i].name, mapping) == 0)
			return crypttab->entries[i].is_initrd;
	return false;
}

static int decide_decrypt(struct inventory *inventory, const struct crypttab_entries *crypttab,
			  struct volume *volume, const struct header_info *header, struct job *job)
{
	struct volume *mapped = inventory_find_mapping(inventory, header->token->mapping);
	int r;

	job->is_initrd = is_initrd_entry(crypttab, header->token->mapping);
	job->is_os = mapped && mapped->role == VOLUME_ROLE_OS;
	job->is_root = mapped && mapped->is_root;
	job->device_bytes = volume->size_bytes;
	job->sector_bytes = header->sector_bytes;
	job->room = ROOM_IS_THERE;
	r = text_copy(header->token->filesystem_uuid, &job->uuid);
	if (r == 0)
		r = text_copy(mapped && mapped->filesystem ? mapped->filesystem : "unknown",
			      &job->filesystem);
	if (r == 0)
		r = text_copy(mapped ? mapped->label : NULL, &job->label);
	if (r == 0)
		r = text_copy(header->uuid, &job->header_uuid);
	if (r == 0)
		r = text_copy(header->token->mapping, &job->mapping);
	if (r == 0)
		r = text_copy(volume->link ? volume->link : volume->path, &job->device);
	if (r == 0)
		r = text_format(&job->header_file, HEADER_DIRECTORY "/%s.luks", header->uuid);
	if (r == 0 && mapped)
		r = copy_mounts(mapped, job);
	return r;
}

/* Unless it is named, only what is open, whole and has room that it does not use. */
static bool is_left_behind(const struct plan *plan, const struct inventory *inventory,
			   const struct volume *volume, const struct volume *mapped,
			   const struct header_info *header)
{
	struct growth growth;

	if (plan->request->n_volumes > 0)
		return true;
	return mapped && header->conversion == HEADER_CONVERSION_NONE && !header->is_decrypting &&
	       growth_find(inventory, volume, mapped, header, &growth) == 0 &&
	       !growth_is_none(&growth);
}

static int decide_grow(struct inventory *inventory, const struct crypttab_entries *crypttab,
		       struct volume *volume, const struct header_info *header, struct job *job)
{
	struct volume *mapped = inventory_find_mapping(inventory, header->token->mapping);
	struct growth growth = { 0 };
	int r;

	r = decide_decrypt(inventory, crypttab, volume, header, job);
	free(steal(job->header_file));
	if (r == 0)
		r = text_copy(header->is_detached ? detached_file(crypttab, volume) : NULL,
			      &job->header_file);
	if (r == 0 && mapped)
		r = growth_find(inventory, volume, mapped, header, &growth);
	if (growth.partition_bytes > 0)
		job->room = ROOM_PARTITION;
	return r;
}

/* Our header on this device or for it, or NULL. */
static struct header_info *our_header(const struct crypttab_entries *crypttab,
				      const struct volume *volume)
{
	const char *file = detached_file(crypttab, volume);
	struct header_info *header = NULL;

	if (!file && (!volume->filesystem || strcmp(volume->filesystem, "crypto_LUKS") != 0))
		return NULL;
	return header_read(volume->path, file, &header) == 0 ? header : NULL;
}

/**
 * plan_decide() - choose the volumes and how each is done
 * @inventory: as the machine is now; borrowed
 *
 * Encrypt: what the volume type selects. Decrypt: what carries a whole header of ours. Grow: of
 * these, what its device has become too large for.
 *
 * Return: 0 (perhaps with no job at all) or -errno.
 */
int plan_decide(struct plan *plan, struct inventory *inventory)
{
	_cleanup_(crypttab_entries_clear) struct crypttab_entries crypttab = { 0 };
	const struct request *request = plan->request;
	int r;

	if (crypttab_read(CRYPTTAB_PATH, &crypttab) != 0)
		crypttab = (struct crypttab_entries){ 0 };
	plan->jobs = calloc(inventory->n ? inventory->n : 1, sizeof(*plan->jobs));
	if (!plan->jobs)
		return -ENOMEM;
	for (size_t i = 0; i < inventory->n; i++) {
		struct volume *volume = &inventory->volumes[i];
		struct job *job = &plan->jobs[plan->n_jobs];

		job->plan = plan;
		if (request->kind == REQUEST_ENCRYPT) {
			if (!is_named(request, volume) ||
			    volume_excuse(inventory, volume, request->wants_os,
					  request->wants_data) != VOLUME_EXCUSE_NONE)
				continue;
			plan->n_jobs++;
			r = decide_encrypt(plan, inventory, volume, job);
		} else {
			_cleanup_(header_info_freep) struct header_info *header =
				our_header(&crypttab, volume);
			const struct volume *mapped;

			if (!header || !header->token)
				continue;
			mapped = inventory_find_mapping(inventory, header->token->mapping);
			if (mapped && mapped->role == VOLUME_ROLE_OS ? !request->wants_os
								     : !request->wants_data)
				continue;
			if (request->n_volumes > 0 && !is_named(request, volume) &&
			    !(mapped && is_named(request, mapped)))
				continue;
			if (request->kind == REQUEST_GROW &&
			    !is_left_behind(plan, inventory, volume, mapped, header))
				continue;
			plan->n_jobs++;
			r = request->kind == REQUEST_GROW
				    ? decide_grow(inventory, &crypttab, volume, header, job)
				    : decide_decrypt(inventory, &crypttab, volume, header, job);
		}
		if (r < 0)
			return r;
		if (plan->n_jobs > REQUEST_MAX_VOLUMES)
			return -E2BIG;
	}
	return plan_link(plan);
}

/** plan_to_json() - the array of varlink type Plan. Return: 0 or -ENOMEM. */
int plan_to_json(const struct plan *plan, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();
	const char *action = plan->request->kind == REQUEST_DECRYPT ? "decrypt"
			     : plan->request->kind == REQUEST_GROW  ? "grow"
			     : plan->request->is_format_all         ? "format"
								    : "encrypt";

	for (size_t i = 0; array && i < plan->n_jobs; i++) {
		const struct job *job = &plan->jobs[i];
		struct json_object *object = json_object_new_object();

		if (!object || json_object_array_add(array, object) < 0) {
			json_object_put(object);
			return -ENOMEM;
		}
		if (json_set_string(object, "uuid", job->uuid) < 0 ||
		    json_set_string(object, "mount", job->n_mounts ? job->mounts[0].target : NULL) <
			    0 ||
		    json_set_int(object, "size_bytes", (int64_t)job->device_bytes) < 0 ||
		    json_set_string(object, "action", action) < 0 ||
		    json_set_string(object, "room", room_way_to_string(job->room)) < 0 ||
		    json_set_int(object, "sector_bytes", job->sector_bytes) < 0)
			return -ENOMEM;
	}
	if (!array)
		return -ENOMEM;
	*ret = steal(array);
	return 0;
}
