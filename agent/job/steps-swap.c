/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Swap space goes with the root: what the root keeps secret is swapped out too.
 *
 * It gets a random key at each boot, which systemd makes (crypttab(5), option swap). Only swap
 * space whose name in crypttab can mean no other device is taken: what that names is overwritten at
 * every boot. It is no part of the promise that a job makes: what cannot be done is a warning.
 *
 * The order lets a power cut find swap space that still says what it is, so that the job ends what
 * it began: out of use, overwritten but for the header, fstab, crypttab (from then on a boot
 * overwrites the header), in use again. On the way back: out of use, a new header with the UUID
 * that it had, fstab, crypttab, in use again.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "boot/crypttab.h"
#include "job/record.h"
#include "job/steps.h"
#include "volume/role.h"
#include "volume/swap.h"

#define NAME_PREFIX    "cryptswap_" /* and the UUID without its hyphens: needs no escape in a unit */
#define UUID_LENGTH    36
#define UNIT_TIMEOUT_S 120 /* all of it may have to go back into memory */

static const char remedy[] =
	"Free memory, or give it a random key by hand (crypttab(5), option swap).";

/* Below /dev/mapper; a new string. Return: 0, -EINVAL or -ENOMEM. */
static int name_of(const char *uuid, char **ret)
{
	char hex[UUID_LENGTH + 1];
	size_t n = 0;

	if (strlen(uuid) != UUID_LENGTH)
		return -EINVAL;
	for (; *uuid; uuid++) {
		if (*uuid == '-')
			continue;
		if (!isxdigit((unsigned char)*uuid))
			return -EINVAL;
		hex[n++] = *uuid;
	}
	hex[n] = '\0';
	return text_format(ret, NAME_PREFIX "%s", hex);
}

static int uuid_of(const char *name, char **ret)
{
	const char *hex = name + strlen(NAME_PREFIX);

	if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0 || strlen(hex) != 32)
		return -EINVAL;
	return text_format(ret, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
			   hex + 20);
}

/* A partition's UUID is its own in a GPT only: in an MBR it is the disk's id and the number, which
 * the next partition of that number gets. */
static bool is_gpt_partition(const struct inventory *inventory, const struct volume *volume)
{
	const struct volume *disk = inventory_disk_of(inventory, volume);

	return volume->partition_uuid && disk && disk->table_type &&
	       strcmp(disk->table_type, "gpt") == 0;
}

/* A name that can never mean another device. Return: 0, -ENOENT or -ENOMEM. */
static int safe_name(const struct inventory *inventory, const struct volume *volume, char **ret)
{
	if (is_gpt_partition(inventory, volume))
		return text_format(ret, "/dev/disk/by-partuuid/%s", volume->partition_uuid);
	if (volume->kind == VOLUME_KIND_LVM && volume->mapping_uuid)
		return text_format(ret, "/dev/disk/by-id/dm-uuid-%s", volume->mapping_uuid);
	return -ENOENT;
}

static int systemctl(const char *verb, const char *unit)
{
	const char *const argv[] = { "systemctl", verb, unit, NULL };
	int status = 0, r;

	if (!unit)
		return process_run((const char *const[]){ "systemctl", verb, NULL }, UNIT_TIMEOUT_S,
				   &status, NULL);
	r = process_run(argv, UNIT_TIMEOUT_S, &status, NULL);
	return r == 0 && status != 0 ? -EIO : r;
}

/* systemd has a unit for each swap space in use, by any of its names. */
static int systemctl_swap(const char *verb, const char *path)
{
	const char *const escape[] = {
		"systemd-escape", "--path", "--suffix=swap", "--", path, NULL
	};
	_cleanup_(freep) char *unit = NULL;
	int r;

	r = process_run(escape, UNIT_TIMEOUT_S, NULL, &unit);
	if (r < 0 || !unit)
		return r < 0 ? r : -EIO;
	unit[strcspn(unit, "\n")] = '\0';
	return systemctl(verb, unit);
}

static int systemctl_mapping(const char *verb, const char *name)
{
	_cleanup_(freep) char *unit = NULL;
	int r = text_format(&unit, "systemd-cryptsetup@%s.service", name);

	return r == 0 ? systemctl(verb, unit) : r;
}

static bool has_systemd_cryptsetup(void)
{
	return access("/usr/lib/systemd/systemd-cryptsetup", X_OK) == 0 ||
	       access("/lib/systemd/systemd-cryptsetup", X_OK) == 0 ||
	       access("/usr/bin/systemd-cryptsetup", X_OK) == 0;
}

static struct fstab_device device_of(const struct volume *volume, const char *uuid,
				     const char *name)
{
	return (struct fstab_device){
		.path = volume ? volume->path : NULL,
		.uuid = uuid,
		.label = volume ? volume->label : NULL,
		.partition_uuid = volume ? volume->partition_uuid : NULL,
		.partition_label = volume ? volume->partition_label : NULL,
		.mapping = name,
	};
}

/* Was it cut off between fstab and crypttab? Its line names the mapping that is not there yet. */
static bool has_begun(const struct volume *volume)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries found = { 0 };
	_cleanup_(freep) char *name = NULL;
	struct fstab_device device;

	if (!volume->uuid || name_of(volume->uuid, &name) < 0)
		return false;
	device = device_of(NULL, NULL, name);
	return fstab_find(FSTAB_PATH, &device, &found) == 0 && found.n > 0;
}

/**
 * step_swap_excuse() - why swap space cannot get a random key with the root
 *
 * Return: the end of a sentence that begins with it, or NULL: it can.
 */
const char *step_swap_excuse(const struct inventory *inventory, const struct volume *volume)
{
	_cleanup_(freep) char *device = NULL, *name = NULL;

	if (!volume->has_fstab_entry && !has_begun(volume))
		return "is not in fstab";
	if (!volume->uuid || name_of(volume->uuid, &name) < 0)
		return "has no UUID";
	if (safe_name(inventory, volume, &device) < 0)
		return volume->partition_uuid
			       ? "is a partition of an MBR, whose name another one may get later"
			       : "is neither a partition nor a logical volume, so it has no name "
				 "that is its own";
	if (!has_systemd_cryptsetup())
		return "would need systemd-cryptsetup, which is not installed";
	return NULL;
}

/** step_is_swap() - is it swap space in the clear that the machine uses? */
bool step_is_swap(const struct inventory *inventory, const struct volume *volume)
{
	return volume->role == VOLUME_ROLE_SWAP && volume->kind != VOLUME_KIND_OTHER &&
	       (volume->is_swap_active || volume->has_fstab_entry || has_begun(volume)) &&
	       !role_is_above_crypt(inventory, volume);
}

static int change_files(const struct inventory *inventory, const struct volume *volume,
			const char *name)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 }, none = { 0 };
	struct fstab_device device = device_of(volume, volume->uuid, name);
	struct crypttab_entry entry = { .name = (char *)name, .is_swap = true };
	_cleanup_(freep) char *source = NULL, *spec = NULL;
	int r;

	r = record_recall(volume->uuid, &before);
	if (r == 0 && before.n == 0)
		r = fstab_find(FSTAB_PATH, &device, &before);
	if (r == 0)
		r = record_keep(volume->uuid, &before);
	if (r == 0)
		r = safe_name(inventory, volume, &source);
	if (r == 0)
		r = text_format(&spec, "/dev/mapper/%s", name);
	entry.device = source;
	if (r == 0)
		r = fstab_encrypt(FSTAB_PATH, &device, spec, &none);
	if (r != 0)
		return r > 0 ? -EBADMSG : r;
	r = crypttab_add(CRYPTTAB_PATH, &entry);
	/* what fstab would name then never comes */
	if (r != 0 && fstab_restore(FSTAB_PATH, &device, &before) == 0)
		(void)record_forget(volume->uuid);
	return r > 0 ? -EBADMSG : r;
}

/* Return: 0, or negative: not before the next boot. */
static int start_mapping(const char *name)
{
	_cleanup_(freep) char *path = NULL;
	int r = text_format(&path, "/dev/mapper/%s", name);

	if (r == 0)
		r = systemctl_mapping("start", name);
	return r == 0 ? systemctl_swap("start", path) : r;
}

static void encrypt(struct job *job, const struct volume *volume)
{
	_cleanup_(freep) char *name = NULL;
	const char *excuse = step_swap_excuse(job->inventory, volume);
	int r = 0;

	if (!excuse)
		r = name_of(volume->uuid, &name);
	if (!excuse && r == 0 && volume->is_swap_active && systemctl_swap("stop", volume->path) < 0)
		excuse = "cannot be taken out of use: what it holds does not fit into memory";
	if (!excuse && r == 0)
		r = swap_erase(volume->path);
	if (!excuse && r == 0)
		r = change_files(job->inventory, volume, name);
	if (excuse || r < 0) {
		if (!excuse && volume->is_swap_active)
			(void)systemctl_swap("start", volume->path);
		(void)faults_add(&job->plan->report.faults, FAULT_WARNING, "swap-plain",
				 volume->uuid, "swap", remedy,
				 "The swap space %s is not encrypted: it %s.", volume->path,
				 excuse ? excuse : strerror(-r));
		return;
	}
	(void)job_reload();
	if (start_mapping(name) < 0)
		(void)faults_add(&job->plan->report.faults, FAULT_WARNING, "swap-later",
				 volume->uuid, "swap", "Nothing needs to be done.",
				 "The swap space %s is out of use until the next boot.",
				 volume->path);
	else
		log_notice("Volume %s: the swap space %s has a random key.", job->uuid,
			   volume->path);
}

/**
 * step_swap_encrypt() - the machine's swap space gets a random key
 *
 * Return: 0 or -errno. What cannot be done is in the report, as warnings.
 */
int step_swap_encrypt(struct job *job)
{
	int r = job->is_root ? job_look(job) : 0;

	for (size_t i = 0; job->is_root && r == 0 && i < job->inventory->n; i++)
		if (step_is_swap(job->inventory, &job->inventory->volumes[i]))
			encrypt(job, &job->inventory->volumes[i]);
	return r;
}

/* fstab's own name of it. Return: 0 (no label too) or -ENOMEM. */
static int label_of(const struct fstab_entries *before, char **ret)
{
	static const char tag[] = "LABEL=";

	for (size_t i = 0; i < before->n; i++)
		if (strncmp(before->entries[i].spec, tag, strlen(tag)) == 0)
			return text_copy(before->entries[i].spec + strlen(tag), ret);
	return 0;
}

static int stop_mapping(const char *name)
{
	_cleanup_(freep) char *path = NULL;
	int r = text_format(&path, "/dev/mapper/%s", name);

	if (r < 0 || access(path, F_OK) < 0)
		return r;
	if (systemctl_swap("is-active", path) == 0)
		r = systemctl_swap("stop", path);
	return r == 0 ? systemctl_mapping("stop", name) : r;
}

/* Return: 0, or negative: it keeps its random key. */
static int decrypt(struct job *job, const struct crypttab_entry *entry, const char *uuid)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 };
	_cleanup_(freep) char *label = NULL, *device = NULL;
	struct fstab_device named = device_of(NULL, uuid, entry->name);
	bool is_plain;
	int r;

	r = record_recall(uuid, &before);
	if (r == 0)
		r = label_of(&before, &label);
	if (r != 0)
		return r > 0 ? -EBADMSG : r;
	device = realpath(entry->device, NULL);
	if (!device)
		return -errno;
	/* cut before its line in crypttab went, and in use by the name that fstab has again */
	is_plain = systemctl_swap("is-active", device) == 0;
	r = is_plain ? 0 : stop_mapping(entry->name);
	if (r == 0 && !is_plain)
		r = swap_make(device, uuid, label);
	if (r == 0)
		r = fstab_restore(FSTAB_PATH, &named, &before);
	if (r != 0) {
		(void)start_mapping(entry->name);
		return r > 0 ? -EBADMSG : r;
	}
	r = crypttab_remove(CRYPTTAB_PATH, entry->name);
	if (r == 0)
		(void)record_forget(uuid);
	(void)job_reload();
	if (!is_plain && systemctl_swap("start", device) < 0)
		(void)faults_add(&job->plan->report.faults, FAULT_WARNING, "swap-later", uuid,
				 "release", "Nothing needs to be done.",
				 "The swap space %s is out of use until the next boot.", device);
	return r > 0 ? -EBADMSG : r;
}

/**
 * step_swap_decrypt() - swap space as it was
 *
 * What is in use and does not fit into memory keeps its random key, which harms nobody.
 *
 * Return: 0 or -errno.
 */
int step_swap_decrypt(struct job *job)
{
	_cleanup_(crypttab_entries_clear) struct crypttab_entries entries = { 0 };
	int r = crypttab_read(CRYPTTAB_PATH, &entries);

	for (size_t i = 0; r == 0 && i < entries.n; i++) {
		_cleanup_(freep) char *uuid = NULL;

		if (!entries.entries[i].is_swap || uuid_of(entries.entries[i].name, &uuid) < 0 ||
		    decrypt(job, &entries.entries[i], uuid) == 0)
			continue;
		/* the boot that is waited for brings another try */
		if (!job->mapped)
			(void)faults_add(
				&job->plan->report.faults, FAULT_WARNING, "swap-encrypted", uuid,
				"release",
				"Take its lines out of /etc/fstab and /etc/crypttab when it is wanted plain.",
				"The swap space %s keeps its random key.",
				entries.entries[i].device);
	}
	return r > 0 ? -EBADMSG : r;
}
