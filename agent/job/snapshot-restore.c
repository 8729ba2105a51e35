/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* the way back from a snapshot: snapshot_restore() */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "job/job.h"
#include "job/snapshot.h"

/* Has this volume's data moved since the snapshot? Then its old head would destroy it. */
static int restore_volume(struct plan *plan, const char *folder, struct json_object *entry,
			  bool is_dry)
{
	const char *uuid = json_get_string(entry, "uuid");
	struct job job = { .plan = plan, .progress = &(struct report_volume){ 0 } };
	_cleanup_(freep) char *head = NULL;
	struct stat saved;
	int r;

	if (!uuid || strchr(uuid, '/') || !json_get_string(entry, "device") ||
	    !json_get_string(entry, "header_uuid") || !json_get_string(entry, "mapping"))
		return -EBADMSG;
	job.uuid = strdup(uuid);
	job.progress->uuid = job.uuid;
	job.device = strdup(json_get_string(entry, "device"));
	job.header_uuid = strdup(json_get_string(entry, "header_uuid"));
	job.mapping = strdup(json_get_string(entry, "mapping"));
	job.device_bytes = (uint64_t)json_get_int(entry, "size_bytes", 0);
	r = !job.uuid || !job.device || !job.header_uuid || !job.mapping
		    ? -ENOMEM
		    : text_format(&job.header_file, HEADER_DIRECTORY "/%s.luks", job.header_uuid);
	if (r == 0)
		r = job_look(&job);
	if (r == 0)
		r = text_format(&head, "%s/volumes/%s/head", folder, uuid);
	if (r < 0)
		goto out;

	if (job.header || job.mapped)
		r = job_fail(
			&job, -EPERM, "data-moved",
			"Use `vmcryptctl disable` to go back; it decrypts in place.",
			"its data has moved since the snapshot, so the old state would destroy it");
	else if (!job.backing)
		r = job_fail(&job, -ENODEV, "volume-missing", "Attach the disk again.",
			     "its device is not there");
	else if (job.plain)
		log_notice("Volume %s: its filesystem is whole; left as it is.", uuid);
	else if (stat(head, &saved) < 0)
		r = job_fail(&job, -ENOENT, "snapshot-incomplete", "Restore from a backup.",
			     "the snapshot no longer holds its first sectors");
	else if (job.backing->filesystem || job.backing->n_mounts > 0 || job_is_at_another(&job))
		r = job_fail(&job, -EPERM, "other-content", "Remove it first if that is wanted.",
			     "its device now holds something else (%s)",
			     job.backing->filesystem     ? job.backing->filesystem
			     : job.backing->table_type   ? "a partition table"
			     : job.backing->n_mounts > 0 ? "mounted"
							 : "it is smaller");
	else if (!is_dry)
		r = file_copy_range(head, 0, job.backing->path, 0, (uint64_t)saved.st_size,
				    O_WRONLY | O_EXCL);
out:
	job.progress = NULL;
	job_clear(&job);
	return r;
}

static int restore_file(const char *folder, const char *path)
{
	_cleanup_(freep) char *from = NULL, *text = NULL;
	size_t size_bytes;
	int r;

	r = text_format(&from, "%s/files%s", folder, path);
	if (r == 0)
		r = file_read(from, FSTAB_MAX_BYTES, &text, &size_bytes);
	if (r == -ENOENT)
		return 0;
	return r == 0 ? file_write_atomic(path, text, size_bytes, 0644) : r;
}

static int check_hashes(const char *folder, struct json_object *manifest)
{
	struct json_object *files = json_get_array(manifest, "files");

	for (size_t i = 0; files && i < json_object_array_length(files); i++) {
		struct json_object *file = json_object_array_get_idx(files, i);
		const char *path = json_get_string(file, "path"),
			   *hash = json_get_string(file, "sha256");
		_cleanup_(freep) char *full = NULL, *output = NULL;
		const char *argv[] = { "sha256sum", NULL, NULL };
		int status;

		if (!path || !hash || strstr(path, ".."))
			return -EBADMSG;
		if (text_format(&full, "%s/%s", folder, path) < 0)
			return -ENOMEM;
		argv[1] = full;
		if (process_run(argv, 60, &status, &output) < 0 || status != 0 ||
		    strncmp(output, hash, 64) != 0)
			return -EBADMSG;
	}
	return 0;
}

/* One folder of a snapshot, all or nothing: first dry, then for good. */
static int restore_folder(struct plan *plan, const char *folder, bool is_dry)
{
	_cleanup_(json_putp) struct json_object *manifest = NULL;
	_cleanup_(freep) char *path = NULL;
	struct json_object *volumes;
	int r, first = 0;

	r = text_format(&path, "%s/manifest.json", folder);
	if (r == 0)
		r = json_read_file(path, SNAPSHOT_MANIFEST_MAX_BYTES, &manifest);
	if (r == 0 && is_dry)
		r = check_hashes(folder, manifest);
	if (r < 0) {
		(void)faults_add(&plan->report.faults, FAULT_ERROR, "snapshot-damaged", NULL, NULL,
				 "Choose another one (vmcryptctl snapshot list).",
				 "Snapshot %s is missing, damaged or incomplete.",
				 plan->request->snapshot);
		return log_error_errno(r, "Snapshot %s cannot be used: %m",
				       plan->request->snapshot);
	}
	volumes = json_get_array(manifest, "volumes");
	for (size_t i = 0; volumes && i < json_object_array_length(volumes); i++) {
		r = restore_volume(plan, folder, json_object_array_get_idx(volumes, i), is_dry);
		if (r < 0 && first == 0)
			first = r;
	}
	return first;
}

/**
 * snapshot_restore() - put fstab, crypttab and lost first sectors back
 *
 * All or nothing: refused, with every reason, when any volume's data has moved or a checksum does
 * not hold.
 *
 * Return: 0 or -errno; what is wrong has been said.
 */
int snapshot_restore(struct plan *plan)
{
	static const char *const places[] = { STATE_DIRECTORY, BOOT_DIRECTORY };
	char *folders[ARRAY_SIZE(places)] = { NULL };
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(places); i++) {
		r = text_format(&folders[n], "%s/snapshots/%s", places[i], plan->request->snapshot);
		/* with none of them, the first is the one that is missed */
		if (r == 0 && access(folders[n], F_OK) < 0 && (n > 0 || i + 1 < ARRAY_SIZE(places)))
			freep(&folders[n]);
		else
			n++;
	}
	for (int is_dry = 1; is_dry >= 0 && r == 0; is_dry--)
		for (size_t i = 0; r == 0 && i < n; i++)
			r = restore_folder(plan, folders[i], is_dry);
	if (r == 0)
		r = restore_file(folders[0], FSTAB_PATH);
	if (r == 0)
		r = restore_file(folders[0], CRYPTTAB_PATH);
	if (r < 0 && faults_count(&plan->report.faults, FAULT_ERROR) == 0)
		(void)faults_add(&plan->report.faults, FAULT_ERROR, "cannot-write", NULL, NULL,
				 "Make /etc writable and try again.",
				 "The files in /etc cannot be put back: %s.", strerror(-r));
	for (size_t i = 0; i < n; i++)
		free(folders[i]);
	return r;
}
