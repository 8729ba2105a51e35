/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/status.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "boot/crypttab.h"
#include "boot/split-conf.h"
#include "job/plan.h"
#include "volume/maptable.h"

#define NEXT_BOOT_MAX 64 /* plans that wait for a reboot; one is usual */

enum volume_state {
	STATE_NONE, /* nothing that could be encrypted */
	STATE_NOT_MOUNTED,
	STATE_NOT_ENCRYPTED,
	STATE_RESTART_PENDING,
	STATE_ENCRYPTED,
	STATE_ENCRYPTING,
	STATE_DECRYPTING,
};

struct status {
	struct inventory *inventory;
	struct crypttab_entries crypttab;
	struct plan *waiting[NEXT_BOOT_MAX];
	size_t n_waiting;
	bool wants_os, wants_data;
	enum volume_state os; /* of the root, where we know more than the mount table */
	size_t n_encrypted, n_plain, n_encrypting, n_decrypting, n_pending; /* data volumes */
};

static const char *state_to_string(enum volume_state state)
{
	switch (state) {
	case STATE_NONE:
	case STATE_NOT_ENCRYPTED:
		return "NotEncrypted";
	case STATE_NOT_MOUNTED:
		return "NotMounted";
	case STATE_RESTART_PENDING:
		return "VMRestartPending";
	case STATE_ENCRYPTED:
		return "Encrypted";
	case STATE_ENCRYPTING:
		return "EncryptionInProgress";
	case STATE_DECRYPTING:
		return "DecryptionInProgress";
	}
	return NULL;
}

static enum volume_state state_of_header(const struct header_info *header)
{
	if (header->conversion == HEADER_CONVERSION_NONE)
		return header->encrypted_bytes > 0 || header->data_bytes == 0 ? STATE_ENCRYPTED
									      : STATE_NOT_ENCRYPTED;
	return header->is_decrypting ? STATE_DECRYPTING : STATE_ENCRYPTING;
}

static bool is_pending(const struct status *status, const char *uuid)
{
	for (size_t i = 0; uuid && i < status->n_waiting; i++)
		for (size_t k = 0; k < status->waiting[i]->n_jobs; k++) {
			const struct job *job = &status->waiting[i]->jobs[k];

			if ((job->is_os || status->waiting[i]->request->is_next_boot) &&
			    !job->has_failed && strcasecmp(job->uuid, uuid) == 0)
				return true;
		}
	return false;
}

/* A header kept elsewhere for this device, as crypttab says; NULL = none. */
static const struct crypttab_entry *detached_entry(const struct status *status,
						   const struct volume *volume)
{
	for (size_t i = 0; i < status->crypttab.n; i++) {
		const struct crypttab_entry *entry = &status->crypttab.entries[i];
		struct stat device;

		if (entry->header && stat(entry->device, &device) == 0 && S_ISBLK(device.st_mode) &&
		    device.st_rdev == volume->devno)
			return entry;
	}
	return NULL;
}

static struct header_info *read_header(const struct status *status, const struct volume *volume,
				       const char **ret_file)
{
	const struct crypttab_entry *entry = detached_entry(status, volume);
	struct header_info *header = NULL;

	*ret_file = NULL;
	if (entry && header_read(volume->path, entry->header, &header) == 0) {
		*ret_file = entry->header;
		return header;
	}
	if (volume->filesystem && strcmp(volume->filesystem, "crypto_LUKS") == 0 &&
	    header_read(volume->path, NULL, &header) == 0)
		return header;
	return NULL;
}

/* The mapping of a volume of ours is told with its backing device; helper mappings are nobody's
 * business. */
static bool is_our_mapping(const struct volume *volume)
{
	return volume->mapping && strncmp(volume->mapping, "vmcrypt-", 8) == 0;
}

static int set_mounts(struct json_object *object, const struct volume *volume)
{
	struct json_object *array = json_object_new_array();

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; volume && i < volume->n_mounts; i++)
		if (json_object_array_add(array, json_object_new_string(volume->mounts[i].target)) <
		    0)
			return -ENOMEM;
	return json_set(object, "mounts", array);
}

static int describe_header(const struct header_info *header, const char *file,
			   const struct volume *mapped, struct json_object *object)
{
	_cleanup_(key_reference_freep) struct key_reference *reference = NULL;
	double percent = header->data_bytes == 0 ? 100.0
						 : 100.0 * (double)header->encrypted_bytes /
							   (double)header->data_bytes;
	int r;

	r = json_set_string(object, "header_uuid", header->uuid);
	if (r == 0)
		r = json_set_string(object, "header", file ? file : "attached");
	if (r == 0)
		r = json_set(object, "percent", json_object_new_double(percent));
	if (r == 0 && header->token) {
		r = json_set_string(object, "uuid", header->token->filesystem_uuid);
		if (r == 0)
			r = json_set_string(object, "mapping", header->token->mapping);
	}
	if (r == 0 && header->token &&
	    key_reference_from_json(header->token->reference, &reference) == 0) {
		r = json_set_string(object, "provider",
				    key_provider_to_string(reference->provider));
		if (r == 0)
			r = json_set_string(object, "key", key_reference_id(reference));
	}
	if (r == 0 && mapped) {
		r = json_set_string(object, "filesystem", mapped->filesystem);
		if (r == 0)
			r = json_set_string(object, "label", mapped->label);
		if (r == 0)
			r = set_mounts(object, mapped);
	}
	return r;
}

static void count(struct status *status, const struct volume *volume, enum volume_excuse excuse,
		  enum volume_state state, bool is_ours)
{
	if (volume->is_root && (is_ours || state == STATE_RESTART_PENDING))
		status->os = state;
	if (volume->role == VOLUME_ROLE_OS)
		return;
	if (state == STATE_ENCRYPTING)
		status->n_encrypting++;
	else if (state == STATE_DECRYPTING)
		status->n_decrypting++;
	else if (state == STATE_RESTART_PENDING)
		status->n_pending++;
	else if (state == STATE_ENCRYPTED && (is_ours || volume->n_mounts > 0))
		status->n_encrypted++;
	else if (state == STATE_NOT_ENCRYPTED && volume->role == VOLUME_ROLE_DATA &&
		 volume->n_mounts > 0 && excuse != VOLUME_EXCUSE_ENCRYPTED)
		status->n_plain++;
}

static int describe(struct status *status, const struct volume *volume, struct json_object *array)
{
	_cleanup_(header_info_freep) struct header_info *header = NULL;
	_cleanup_(json_putp) struct json_object *object = NULL;
	enum volume_excuse excuse =
		volume_excuse(status->inventory, volume, status->wants_os, status->wants_data);
	enum volume_state state = STATE_NOT_ENCRYPTED;
	const struct volume *mapped = NULL;
	const char *file;
	int r;

	r = volume_to_json(status->inventory, volume, &object);
	if (r < 0)
		return r;
	header = read_header(status, volume, &file);
	if (header) {
		state = state_of_header(header);
		if (header->token)
			mapped = inventory_find_mapping(status->inventory, header->token->mapping);
		excuse = VOLUME_EXCUSE_ENCRYPTED;
		r = describe_header(header, file, mapped, object);
	} else if (is_pending(status, volume->uuid)) {
		state = STATE_RESTART_PENDING;
	}
	count(status, mapped ? mapped : volume, excuse, state, header && header->token);
	if (r == 0)
		r = json_set_string(object, "state", state_to_string(state));
	if (r == 0)
		r = json_set_bool(object, "selected", excuse == VOLUME_EXCUSE_NONE);
	if (r == 0 && excuse != VOLUME_EXCUSE_NONE) {
		r = json_set_string(object, "excuse", volume_excuse_to_string(excuse));
		if (r == 0)
			r = json_set_string(object, "reason", volume_excuse_sentence(excuse));
	}
	if (r < 0)
		return r;
	return json_object_array_add(array, steal(object)) < 0 ? -ENOMEM : 0;
}

static const char *data_word(const struct status *status)
{
	if (status->n_decrypting > 0)
		return state_to_string(STATE_DECRYPTING);
	if (status->n_encrypting > 0)
		return state_to_string(STATE_ENCRYPTING);
	if (status->n_pending > 0)
		return state_to_string(STATE_RESTART_PENDING);
	if (status->n_plain > 0)
		return state_to_string(STATE_NOT_ENCRYPTED);
	return state_to_string(status->n_encrypted > 0 ? STATE_ENCRYPTED : STATE_NOT_MOUNTED);
}

/* The root filesystem lies on a mapping that encrypts, directly or some layers up. */
static const char *os_word(const struct status *status)
{
	if (status->os != STATE_NONE)
		return state_to_string(status->os);
	for (size_t i = 0; i < status->inventory->n; i++) {
		const struct volume *volume = &status->inventory->volumes[i];
		bool is_root = false;

		for (size_t k = 0; k < volume->n_mounts; k++)
			is_root |= strcmp(volume->mounts[k].target, "/") == 0;
		while (is_root) {
			bool is_plain = false;

			if (volume->kind == VOLUME_KIND_CRYPT) {
				(void)maptable_is_plain(volume->mapping, &is_plain);
				return state_to_string(is_plain ? STATE_NOT_ENCRYPTED
								: STATE_ENCRYPTED);
			}
			if (volume->n_parents == 0)
				break;
			volume = &status->inventory->volumes[volume->parents[0]];
		}
	}
	return state_to_string(STATE_NOT_ENCRYPTED);
}

static void read_waiting_at(struct status *status, const char *path)
{
	_cleanup_(closedirp) DIR *folder = opendir(path);
	struct dirent *entry;

	while (folder && (entry = readdir(folder)) && status->n_waiting < NEXT_BOOT_MAX) {
		if (entry->d_name[0] == '.')
			continue;
		if (plan_load(entry->d_name, &status->waiting[status->n_waiting]) == 0)
			status->n_waiting++;
	}
}

static void read_waiting(struct status *status)
{
	static const char *const places[] = { STATE_DIRECTORY "/next-boot",
					      BOOT_DIRECTORY "/next-boot" };
	struct split_conf split = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		read_waiting_at(status, places[i]);
	if (status->n_waiting < NEXT_BOOT_MAX && split_conf_read(SPLIT_CONF, &split) == 0 &&
	    plan_load(split.job, &status->waiting[status->n_waiting]) == 0)
		status->n_waiting++;
	split_conf_clear(&split);
}

/**
 * status_read() - every block device, with what its header says
 * @wants_os, @wants_data: the volume type that "selected" refers to
 * @ret:                   {"os", "data", "volumes"} as in io.vmcrypt.Agent.Show
 *
 * Return: 0 or -errno.
 */
int status_read(bool wants_os, bool wants_data, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	struct status status = { .wants_os = wants_os, .wants_data = wants_data };
	struct json_object *array;
	int r;

	r = object ? inventory_read(&status.inventory) : -ENOMEM;
	if (r == 0 && crypttab_read(CRYPTTAB_PATH, &status.crypttab) != 0)
		status.crypttab = (struct crypttab_entries){ 0 };
	if (r == 0) {
		read_waiting(&status);
		array = json_object_new_array();
		r = json_set(object, "volumes", array);
	}
	for (size_t i = 0; r == 0 && i < status.inventory->n; i++)
		if (!is_our_mapping(&status.inventory->volumes[i]))
			r = describe(&status, &status.inventory->volumes[i], array);
	if (r == 0)
		r = json_set_string(object, "os", os_word(&status));
	if (r == 0)
		r = json_set_string(object, "data", data_word(&status));
	for (size_t i = 0; i < status.n_waiting; i++)
		plan_free(status.waiting[i]);
	crypttab_entries_clear(&status.crypttab);
	inventory_free(status.inventory);
	if (r == 0)
		*ret = steal(object);
	return r;
}
