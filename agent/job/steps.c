/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "boot/crypttab.h"
#include "job/record.h"
#include "job/snapshot.h"
#include "key/passphrase.h"
#include "volume/filesystem.h"
#include "volume/holders.h"
#include "volume/mapping.h"
#include "volume/reencrypt.h"

#define UNMOUNT_TRIES                                                                              \
	20 /* times UNMOUNT_WAIT_MS: programs that open a file for a moment are no reason to       \
	      refuse */
#define UNMOUNT_WAIT_MS 500

const struct steps *steps_of(const struct job *job)
{
	if (job->plan->request->kind == REQUEST_GROW)
		return &grow_steps;
	if (job->plan->request->kind == REQUEST_DECRYPT)
		return job->is_os ? &decrypt_os_steps : &decrypt_steps;
	if (job->is_os)
		return &encrypt_os_steps;
	return job->plan->request->is_format_all ? &format_steps : &encrypt_steps;
}

int step_snapshot_done(struct job *job)
{
	return snapshot_has(job);
}

int step_snapshot(struct job *job)
{
	int r;

	if (!job->backing)
		return job_fail(job, -ENODEV, "volume-missing", "Attach the disk again.",
				"its device %s is not there", job->device);
	r = snapshot_take(job);
	if (r == 0)
		return 0;
	(void)snapshot_discard(job);
	return job_fail(job, r, "snapshot-failed",
			"Make room below " STATE_DIRECTORY " and on /boot, and try again.",
			"its state cannot be saved: %m");
}

/* The journal names a reference. What the vault gives for it is what the next step makes keyslots
 * of, so no vault is asked here: one that is away is that step's affair. */
int step_passphrase_done(struct job *job)
{
	return job->reference != NULL;
}

/**
 * step_passphrase() - generate, store or wrap, read back
 *
 * The key service proves the round trip; here it is fetched once more by the reference, exactly as
 * every later boot will, and only then is it the volume's.
 */
int step_passphrase(struct job *job)
{
	const struct request *request = job->plan->request;
	_cleanup_(secret_freep) struct secret *passphrase = NULL;
	_cleanup_(freep) char *name = NULL;
	char machine[HOST_NAME_MAX + 1] = "";
	struct key_result result = { 0 };
	struct key_store store;
	bool is_same;
	int r;

	(void)gethostname(machine, sizeof(machine) - 1);
	r = text_format(&name, request->provider == KEY_PROVIDER_FILE ? "%s.key" : "vmcrypt-%s",
			job->header_uuid);
	if (r == 0)
		r = passphrase_generate(&passphrase);
	if (r < 0)
		return job_fail(job, r, "no-passphrase", "Free some memory and try again.",
				"no passphrase could be made: %m");
	store = (struct key_store){
		.provider = request->provider,
		.vault = request->vault,
		.name = name,
		.kek = request->kek,
		.algorithm = request->algorithm,
		.client_id = request->client_id,
		.directory = request->key_directory ? request->key_directory : KEY_DIRECTORY,
		.volume = job->uuid,
		.machine = machine,
	};
	r = key_store(&store, passphrase, KEY_TIMEOUT_MS, &result);
	if (r < 0)
		r = job_fail(job, r, "key-service", "See the journal of vmcrypt-keyfetch.",
			     "the key service failed: %m");
	else if (result.condition != 0)
		r = job_fail_key(job, &result, "cannot store its passphrase");
	else
		job->reference = steal(result.reference);
	key_result_clear(&result);
	if (r != 0)
		return r;

	job->passphrase = secret_free(job->passphrase);
	r = job_passphrase(job);
	if (r != 0)
		return r;
	is_same = secret_equal(job->passphrase, passphrase);
	if (!is_same)
		return job_fail(
			job, -EBADMSG, "key-corrupt",
			"The vault holds something else than was stored; look at the secret's versions.",
			"the passphrase that came back is not the one that was stored");
	r = plan_save(job->plan);
	return r < 0 ? job_fail(job, r, "journal-failed", "Make room below " STATE_DIRECTORY ".",
				"the journal cannot be written: %m")
		     : 0;
}

static struct fstab_device fstab_device_of(const struct job *job, const struct volume *volume)
{
	return (struct fstab_device){
		.path = volume ? volume->path : NULL,
		.uuid = job->uuid,
		.label = job->label,
		.partition_uuid = job->backing ? job->backing->partition_uuid : NULL,
		.partition_label = job->backing ? job->backing->partition_label : NULL,
		.mapping = job->mapping,
	};
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* A spec that finds the filesystem, plain or on its mapping, can stay. */
static bool spec_stays(const char *spec)
{
	return begins(spec, "UUID=") || begins(spec, "LABEL=") ||
	       begins(spec, "/dev/disk/by-uuid/") || begins(spec, "/dev/disk/by-label/");
}

int step_boot_done(struct job *job)
{
	struct crypttab_entries entries = { 0 };
	int r, found = 0;

	if (!job->reference)
		return 0;
	r = crypttab_read(CRYPTTAB_PATH, &entries);
	for (size_t i = 0; r == 0 && i < entries.n; i++)
		found |= strcmp(entries.entries[i].name, job->mapping) == 0;
	crypttab_entries_clear(&entries);
	return r < 0 ? r : found;
}

/**
 * step_mapping_spec() - a name for fstab that only the mapping has
 *
 * By its path below /dev/mapper, systemd would start its own cryptsetup for it, which asks people.
 *
 * Return: 0 or -ENOMEM.
 */
int step_mapping_spec(const struct job *job, char **ret)
{
	return text_format(ret, "/dev/disk/by-id/dm-name-%s", job->mapping);
}

/**
 * step_boot() - fstab and crypttab know the mapping
 *
 * Comes before the header: with nofail in place, no power cut afterwards can hold a boot. UUID=
 * finds the filesystem on the bare device now and on its mapping later. With a detached header both
 * would show the same UUID for a while, so there the spec names the mapping.
 */
int step_boot(struct job *job)
{
	struct fstab_device device = fstab_device_of(job, job->plain);
	struct fstab_entries before = { 0 };
	_cleanup_(freep) char *spec = NULL, *source = NULL;
	struct crypttab_entry entry;
	bool stays = true;
	int r;

	r = fstab_find(FSTAB_PATH, &device, &before);
	if (r != 0)
		return job_fail(job, r, "fstab-malformed", "Repair /etc/fstab and try again.",
				"/etc/fstab cannot be read: %s",
				r < 0 ? strerror(-r) : "malformed");
	for (size_t i = 0; i < before.n; i++)
		stays = stays && spec_stays(before.entries[i].spec);
	if (job->fstab_before.n == 0) {
		job->fstab_before = before;
		before = (struct fstab_entries){ 0 };
	}
	fstab_entries_clear(&before);

	/* for the root, a rule of udev makes the mapping the one that bears the UUID */
	if (job->header_file && !job->is_os)
		r = step_mapping_spec(job, &spec);
	else if (!stays)
		r = text_format(&spec, "UUID=%s", job->uuid);
	if (r == 0)
		r = record_keep(job->uuid, &job->fstab_before);
	if (r == 0)
		r = plan_save(job->plan);
	/* what lies on the root is there when the root is: no subvolume of it needs nofail */
	if (r == 0 && (spec || !job->is_root))
		r = fstab_encrypt(FSTAB_PATH, &device, spec, &before);
	fstab_entries_clear(&before);
	if (r >= 0)
		r = job->header_file ? text_format(&source, "%s", job->device)
				     : text_format(&source, "UUID=%s", job->header_uuid);
	if (r == 0) {
		entry = (struct crypttab_entry){ .name = job->mapping,
						 .device = source,
						 .header = job->header_file,
						 .is_initrd = job->is_os };
		r = crypttab_add(CRYPTTAB_PATH, &entry);
	}
	if (r < 0 || r == CRYPTTAB_E_TAKEN || r == CRYPTTAB_E_MALFORMED)
		return job_fail(job, r, "boot-files",
				"Make /etc writable and repair fstab and crypttab.",
				"/etc/fstab and /etc/crypttab cannot be changed: %s",
				r < 0                   ? strerror(-r)
				: r == CRYPTTAB_E_TAKEN ? "the mapping's name is taken"
							: "malformed");
	return 0;
}

/** step_boot_undo() - the entries as they were. Return: 0 or -errno. */
int step_boot_undo(struct job *job)
{
	struct fstab_device device = fstab_device_of(job, job->plain ? job->plain : job->backing);
	int r, first;

	first = fstab_restore(FSTAB_PATH, &device, &job->fstab_before);
	r = crypttab_remove(CRYPTTAB_PATH, job->mapping);
	if (first >= 0 && r < 0)
		first = r;
	if (first >= 0)
		(void)record_forget(job->uuid);
	return first < 0 ? first : 0;
}

/**
 * step_try_unmount() - unmount, and wait a little for programs that hold a file only for a moment
 *
 * Return: as filesystem_unmount_all().
 */
int step_try_unmount(const struct volume *volume)
{
	const struct timespec wait = { .tv_nsec = UNMOUNT_WAIT_MS * 1000000L };
	int r = 0;

	for (int i = 0; i < UNMOUNT_TRIES; i++) {
		r = filesystem_unmount_all(volume);
		if (r != FILESYSTEM_E_BUSY)
			break;
		(void)nanosleep(&wait, NULL);
	}
	return r;
}

/**
 * step_unmount() - take a volume out of use, or say who keeps it
 *
 * Return: 0 or negative; what is wrong has been said.
 */
int step_unmount(struct job *job, const struct volume *volume)
{
	struct holders holders = { 0 };
	_cleanup_(freep) char *names = NULL;
	int r;

	r = step_try_unmount(volume);
	if (r == 0)
		return 0;
	if (r != FILESYSTEM_E_BUSY)
		return job_fail(job, r, "cannot-unmount", "Unmount it by hand and try again.",
				"it cannot be unmounted: %m");
	if (holders_find(volume, &holders) == 0)
		for (size_t i = 0; i < holders.n && i < 8; i++) {
			char *longer;

			if (text_format(&longer, "%s%s%s (%d)", names ? names : "",
					names ? ", " : "", holders.holders[i].name,
					(int)holders.holders[i].pid) < 0)
				break;
			free(names);
			names = longer;
		}
	holders_clear(&holders);
	return job_fail(job, -EBUSY, "volume-busy",
			"Stop these processes, or use --next-boot to do it early at the next boot.",
			"it cannot be unmounted, it is in use by %s",
			names ? names : "an unknown process");
}

/**
 * step_header_plan() - what the header is to be
 * @ret: borrows from @job; free its token with header_token_free()
 */
int step_header_plan(struct job *job, const char *file, struct header_plan *ret)
{
	_cleanup_(header_token_freep) struct header_token *token = calloc(1, sizeof(*token));
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	int r;

	if (!token || !object)
		return -ENOMEM;
	r = key_reference_to_json(job->reference, object);
	if (r < 0)
		return r;
	token->reference = steal(object);
	token->filesystem_uuid = strdup(job->uuid);
	token->mapping = strdup(job->mapping);
	if (!token->filesystem_uuid || !token->mapping)
		return -ENOMEM;
	if (job->header_file) {
		token->device = strdup(job->device);
		token->device_bytes = job->backing->size_bytes;
		if (!token->device)
			return -ENOMEM;
	}
	*ret = (struct header_plan){
		.device = job->backing->path,
		.file = file,
		.uuid = job->header_uuid,
		.is_detached = job->header_file != NULL,
		.is_format = job->plan->request->is_format_all && !job->is_os,
		.sector_bytes = job->sector_bytes,
		.passphrase = job->passphrase,
		.recovery = job->recovery,
		.token = steal(token),
	};
	return 0;
}

/** step_verify() - fetched by the reference on the disk, it opens the header; and the filesystem is
 * the one */
int step_verify(struct job *job)
{
	_cleanup_(freep) char *path = NULL, *type = NULL, *uuid = NULL;
	uint64_t size_bytes;
	int r;

	r = job_look(job);
	if (r == 0)
		r = job_attach(job);
	if (r == 0 && !job->header)
		return job_fail(job, -ENOENT, "verify-failed",
				"Restore the header from its backup.", "its LUKS2 header is gone");
	job->passphrase = secret_free(job->passphrase);
	if (r == 0)
		r = job_passphrase(job);
	if (r != 0)
		return r;
	r = header_prove(job->backing->path, job_header_file(job), job->passphrase);
	if (r != 0)
		return job_fail(job, r, "verify-failed",
				"Enroll a new passphrase with a recovery key.",
				"the stored passphrase does not open its header");
	r = mapping_path(job->mapping, &path);
	if (r == 0)
		r = filesystem_probe(path, &type, &uuid, &size_bytes);
	if (r != 0 || !uuid || strcasecmp(uuid, job->uuid) != 0)
		return job_fail(job, r, "verify-failed", "Look at the kernel's log.",
				"the filesystem on the mapping is not the one that was there");
	return 0;
}

/** step_close() - nothing is left to do. Return: 0 or negative, said. */
int step_close(struct job *job)
{
	int r;

	job->is_closed = true;
	r = plan_save(job->plan);
	if (r < 0)
		return job_fail(job, r, "journal-failed", "Make room below " STATE_DIRECTORY ".",
				"the journal cannot be closed: %m");
	job->progress->state = JOB_DONE;
	job->progress->step = NULL;
	job->progress->done_bytes = job->progress->size_bytes;
	return 0;
}
