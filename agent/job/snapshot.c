/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/snapshot.h"

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
#include "base/process.h"
#include "job/job.h"
#include "volume/table.h"

#define CREST_BYTES                                                                                \
	(128 * 1024) /* superblocks, partition tables, both copies of a LUKS2 header               \
		      */
/* One block: written whole, or not. ext4, xfs: Documentation/filesystems; btrfs: its on-disk format
 */
#define KNOWN_BY_BYTES    4096
#define KNOWN_BY_AT       0
#define KNOWN_BY_AT_BTRFS (64 * 1024)

/* What the machine boots by; what is not there is passed over. */
static const char *const machine_files[] = {
	"/etc/fstab",           "/etc/crypttab",        "/etc/default/grub",
	"/etc/default/grub.d",  "/etc/dracut.conf",     "/etc/dracut.conf.d",
	"/etc/initramfs-tools", "/etc/kernel/cmdline",  "/boot/grub/grub.cfg",
	"/boot/grub2/grub.cfg", "/boot/loader/entries",
};

/* OS volumes and data volumes of a plan have a snapshot each: neither lies on what it is of. */
static int snapshot_path(const struct job *job, const char *rest, char **ret)
{
	return text_format(ret, "%s/snapshots/%s/%s", job_state_directory(job), job->plan->id,
			   rest);
}

static int volume_path(const struct job *job, const char *name, char **ret)
{
	return text_format(ret, "%s/snapshots/%s/volumes/%s/%s", job_state_directory(job),
			   job->plan->id, job->uuid, name);
}

static int copy_machine_files(const char *folder)
{
	const char *argv[ARRAY_SIZE(machine_files) + 8] = { "cp", "-a", "--parents", "--" };
	_cleanup_(freep) char *output = NULL;
	size_t n = 4;
	int r, status;

	for (size_t i = 0; i < ARRAY_SIZE(machine_files); i++)
		if (access(machine_files[i], F_OK) == 0)
			argv[n++] = machine_files[i];
	if (n == 4)
		return 0;
	argv[n++] = folder;
	argv[n] = NULL;
	r = process_run(argv, 60, &status, &output);
	if (r == 0 && status != 0)
		log_debug("Copying the machine's files: %s", output);
	return r < 0 ? r : status != 0 ? -EIO : 0;
}

static int take_machine(const struct job *job)
{
	_cleanup_(freep) char *files = NULL, *mounts = NULL, *text = NULL;
	size_t size_bytes;
	int r;

	r = snapshot_path(job, "files", &files);
	if (r == 0)
		r = snapshot_path(job, "mounts", &mounts);
	if (r < 0)
		return r;
	if (access(mounts, F_OK) == 0)
		return 0;
	r = directory_make(files, 0700);
	if (r == 0)
		r = copy_machine_files(files);
	if (r == 0)
		r = file_read("/proc/self/mountinfo", SNAPSHOT_MANIFEST_MAX_BYTES, &text,
			      &size_bytes);
	if (r == 0)
		r = file_write_atomic(mounts, text, size_bytes, 0600);
	return r;
}

static int take_table(struct job *job)
{
	_cleanup_(freep) char *path = NULL, *text = NULL;
	const struct volume *disk = job->backing;
	int r;

	if (disk->kind == VOLUME_KIND_PARTITION && disk->n_parents == 1)
		disk = &job->inventory->volumes[disk->parents[0]];
	if (!disk->table_type)
		return 0;
	r = table_dump(disk->path, &text);
	if (r == 0)
		r = volume_path(job, "partition-table", &path);
	return r == 0 ? file_write_atomic(path, text, strlen(text), 0600) : r;
}

static int take_volume(struct job *job)
{
	_cleanup_(freep) char *folder = NULL, *head = NULL, *tail = NULL, *description = NULL,
			      *header = NULL;
	_cleanup_(json_putp) struct json_object *object = NULL;
	uint64_t size_bytes = job->backing->size_bytes, edge = SNAPSHOT_EDGE_BYTES;
	int r;

	if (edge > size_bytes)
		edge = size_bytes;
	r = volume_path(job, "", &folder);
	if (r == 0)
		r = volume_path(job, "head", &head);
	if (r == 0)
		r = volume_path(job, "tail", &tail);
	if (r == 0)
		r = volume_path(job, "volume.json", &description);
	if (r == 0)
		r = volume_path(job, "luks-header", &header);
	if (r < 0)
		return r;
	folder[strlen(folder) - 1] = '\0';
	r = directory_make(folder, 0700);
	for (size_t i = 0; r == 0 && job->plain && i < job->plain->n_mounts; i++) {
		_cleanup_(closep) int fd = open(job->plain->mounts[i].target, O_RDONLY | O_CLOEXEC);

		if (fd >= 0)
			(void)syncfs(fd);
	}
	if (r == 0)
		r = file_copy_range(job->backing->path, 0, head, 0, edge,
				    O_WRONLY | O_CREAT | O_TRUNC);
	if (r == 0)
		r = file_copy_range(job->backing->path, size_bytes - edge, tail, 0, edge,
				    O_WRONLY | O_CREAT | O_TRUNC);
	if (r == 0)
		r = take_table(job);
	if (r == 0 && job->header && access(header, F_OK) < 0) {
		r = header_backup(job->backing->path,
				  job->header->is_detached ? job->header_file : NULL, header);
		if (r > 0)
			r = -EIO;
	}
	if (r == 0)
		r = volume_to_json(job->inventory, job->backing, &object);
	return r == 0 ? json_write_file(description, object, 0600) : r;
}

/* Run a tool over all files of the snapshot and parse "HASH  PATH" lines of sha256sum. */
static int hash_files(const char *folder, struct json_object *files)
{
	_cleanup_(freep) char *output = NULL;
	const char *argv[] = { "find",           folder,  "-type",     "f",  "!", "-name",
			       "manifest.json*", "-exec", "sha256sum", "{}", "+", NULL };
	size_t prefix;
	char *position;
	int r, status;

	prefix = strlen(folder) + 1;
	r = process_run(argv, 600, &status, &output);
	if (r < 0 || status != 0)
		return r < 0 ? r : -EIO;
	position = output;
	for (char *line = strsep(&position, "\n"); line; line = strsep(&position, "\n")) {
		struct json_object *object;
		struct stat file;

		/* 64 letters, two blanks, the path; a leading backslash marks an escaped name: not
		 * ours */
		if (strlen(line) < 66 + prefix || line[0] == '\\')
			continue;
		if (stat(line + 66, &file) < 0)
			return -errno;
		line[64] = '\0';
		object = json_object_new_object();
		if (!object || json_object_array_add(files, object) < 0)
			return -ENOMEM;
		if (json_set_string(object, "path", line + 66 + prefix) < 0 ||
		    json_set_string(object, "sha256", line) < 0 ||
		    json_set_int(object, "size", file.st_size) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int describe_job(const struct job *job, struct json_object *volumes)
{
	struct json_object *object = json_object_new_object();

	if (!object || json_object_array_add(volumes, object) < 0) {
		json_object_put(object);
		return -ENOMEM;
	}
	if (json_set_string(object, "uuid", job->uuid) < 0 ||
	    json_set_string(object, "header_uuid", job->header_uuid) < 0 ||
	    json_set_string(object, "mapping", job->mapping) < 0 ||
	    json_set_string(object, "device", job->device) < 0 ||
	    json_set_string(object, "filesystem", job->filesystem) < 0 ||
	    json_set_int(object, "size_bytes", (int64_t)job->device_bytes) < 0)
		return -ENOMEM;
	return 0;
}

/* The manifest comes last and names each file, so a snapshot without it, or with a hash that
 * differs, is none. */
static int write_manifest(const struct job *job)
{
	const struct plan *plan = job->plan;
	_cleanup_(json_putp) struct json_object *manifest = json_object_new_object();
	_cleanup_(freep) char *path = NULL, *folder = NULL;
	_cleanup_(closep) int fd = -EBADF;
	struct json_object *volumes, *files;
	time_t now = time(NULL);
	struct tm utc;
	char text[32];
	int r;

	if (!manifest || !gmtime_r(&now, &utc))
		return -ENOMEM;
	(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
	r = json_set_string(manifest, "name", plan->id);
	if (r == 0)
		r = json_set_string(manifest, "time", text);
	if (r == 0)
		r = json_set_string(manifest, "kind", plan->report.kind);
	if (r < 0)
		return r;
	volumes = json_object_new_array();
	r = json_set(manifest, "volumes", volumes);
	for (size_t i = 0; r == 0 && i < plan->n_jobs; i++) {
		_cleanup_(freep) char *description = NULL;

		if (plan->jobs[i].is_os != job->is_os)
			continue;
		r = volume_path(&plan->jobs[i], "volume.json", &description);
		if (r == 0 && access(description, F_OK) == 0)
			r = describe_job(&plan->jobs[i], volumes);
	}
	if (r < 0)
		return r;
	files = json_object_new_array();
	r = json_set(manifest, "files", files);
	if (r == 0)
		r = snapshot_path(job, "manifest.json", &path);
	if (r == 0)
		r = text_format(&folder, "%.*s", (int)(strrchr(path, '/') - path), path);
	if (r == 0)
		r = hash_files(folder, files);
	if (r < 0)
		return r;
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) < 0)
		return -errno;
	return json_write_file(path, manifest, 0600);
}

/** snapshot_take() - this volume, and the machine's files once a plan. Return: 0 or -errno. */
int snapshot_take(struct job *job)
{
	_cleanup_(freep) char *folder = NULL;
	int r;

	r = text_format(&folder, "%s/snapshots/%s", job_state_directory(job), job->plan->id);
	if (r == 0)
		r = directory_make(folder, 0700);
	if (r == 0)
		r = take_machine(job);
	if (r == 0)
		r = take_volume(job);
	return r == 0 ? write_manifest(job) : r;
}

/**
 * snapshot_take_head() - the first 32 MiB once more, unmounted, so that they can be put back
 * exactly
 *
 * Return: 0 or -errno.
 */
int snapshot_take_head(struct job *job)
{
	_cleanup_(freep) char *path = NULL;
	uint64_t edge = SNAPSHOT_EDGE_BYTES;
	int r;

	if (edge > job->backing->size_bytes)
		edge = job->backing->size_bytes;
	r = volume_path(job, "head", &path);
	return r == 0 ? file_copy_range(job->backing->path, 0, path, 0, edge,
					O_WRONLY | O_CREAT | O_TRUNC)
		      : r;
}

static int put_back(const char *path, const char *device, uint64_t from_bytes, uint64_t to_bytes)
{
	return file_copy_range(path, from_bytes, device, from_bytes, to_bytes - from_bytes,
			       O_WRONLY | O_EXCL);
}

/**
 * snapshot_put_head_back() - for an undo before anybody has written
 *
 * What a volume is known by is zeroed first and written last, as one block: cut in between, it is
 * nothing that anybody would open or mount, and calling this again is right; a filesystem that can
 * be seen is whole. Refused with -EBUSY below what is open or mounted.
 *
 * Return: 0 or -errno.
 */
int snapshot_put_head_back(struct job *job)
{
	const char *device = job->backing->path;
	_cleanup_(freep) char *path = NULL;
	bool is_btrfs = strcmp(job->filesystem, "btrfs") == 0;
	uint64_t known_by = is_btrfs ? KNOWN_BY_AT_BTRFS : KNOWN_BY_AT;
	struct stat head;
	int r;

	r = volume_path(job, "head", &path);
	if (r < 0)
		return r;
	if (stat(path, &head) < 0)
		return -errno;
	if (head.st_size <= CREST_BYTES)
		return -EBADMSG;
	r = file_copy_range("/dev/zero", 0, device, 0, CREST_BYTES, O_WRONLY | O_EXCL);
	if (r == 0)
		r = put_back(path, device, known_by + KNOWN_BY_BYTES, (uint64_t)head.st_size);
	if (r == 0)
		r = put_back(path, device, 0, known_by);
	return r == 0 ? put_back(path, device, known_by, known_by + KNOWN_BY_BYTES) : r;
}

/** snapshot_has() - is this volume in a finished snapshot? Return: 1, 0 or -errno. */
int snapshot_has(const struct job *job)
{
	_cleanup_(json_putp) struct json_object *manifest = NULL;
	_cleanup_(freep) char *path = NULL;
	struct json_object *volumes;
	int r;

	r = snapshot_path(job, "manifest.json", &path);
	if (r < 0)
		return r;
	r = json_read_file(path, SNAPSHOT_MANIFEST_MAX_BYTES, &manifest);
	if (r == -ENOENT || r == -EBADMSG)
		return 0;
	if (r < 0)
		return r;
	volumes = json_get_array(manifest, "volumes");
	for (size_t i = 0; volumes && i < json_object_array_length(volumes); i++) {
		const char *uuid = json_get_string(json_object_array_get_idx(volumes, i), "uuid");

		if (uuid && strcmp(uuid, job->uuid) == 0)
			return 1;
	}
	return 0;
}

static int remove_folder(const char *path)
{
	const char *const argv[] = { "rm", "-rf", "--", path, NULL };

	return process_run(argv, 60, NULL, NULL);
}

/**
 * snapshot_discard() - remove what there is of a snapshot that could not be taken
 *
 * It may be what fills /boot. What other volumes of the plan have in it stays.
 *
 * Return: 0 or -errno.
 */
int snapshot_discard(const struct job *job)
{
	_cleanup_(freep) char *folder = NULL, *volumes = NULL, *all = NULL;
	int r;

	r = volume_path(job, "", &folder);
	if (r == 0)
		r = snapshot_path(job, "volumes", &volumes);
	if (r == 0)
		r = snapshot_path(job, "", &all);
	if (r == 0)
		r = remove_folder(folder);
	if (r == 0 && rmdir(volumes) < 0 && errno != ENOENT)
		return errno == ENOTEMPTY ? 0 : -errno;
	return r == 0 ? remove_folder(all) : r;
}

/** snapshot_forget_data() - remove the large part: what is the volume's own. Return: 0 or -errno.
 */
int snapshot_forget_data(struct job *job)
{
	static const char *const names[] = { "head", "tail", "luks-header" };
	int r = 0;

	if (snapshot_has(job) != 1)
		return 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
		_cleanup_(freep) char *path = NULL;

		r = volume_path(job, names[i], &path);
		if (r == 0)
			r = file_remove_durably(path);
	}
	return r == 0 ? write_manifest(job) : r;
}
