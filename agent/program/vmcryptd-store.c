/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptd-store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "job/report.h"

#define ID_LETTERS 21 /* 20261122T042233Z-3fa9 */

void store_names_clear(struct store_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->names[i]);
	free(names->names);
	*names = (struct store_names){ 0 };
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_job_id(const char *text)
{
	static const char shape[] = "00000000T000000Z-xxxx";

	for (size_t i = 0; i < ID_LETTERS; i++)
		switch (shape[i]) {
		case '0':
			if (text[i] < '0' || text[i] > '9')
				return false;
			break;
		case 'x':
			if (!strchr("0123456789abcdef", text[i]) || text[i] == '\0')
				return false;
			break;
		default:
			if (text[i] != shape[i])
				return false;
		}
	return text[ID_LETTERS] == '\0';
}

static bool has_name(const struct store_names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (strcmp(names->names[i], name) == 0)
			return true;
	return false;
}

/* Adds to what is in *ret. */
static int list_folders(const char *path, bool (*is_wanted)(const char *name),
			struct store_names *ret)
{
	_cleanup_(closedirp) DIR *directory = NULL;
	struct store_names names = *ret;
	const struct dirent *entry;

	directory = opendir(path);
	if (!directory && errno != ENOENT)
		return -errno;
	while (directory && names.n < STORE_FOLDERS_MAX && (entry = readdir(directory))) {
		char **larger;

		if (!is_wanted(entry->d_name) || entry->d_type != DT_DIR ||
		    has_name(&names, entry->d_name))
			continue;
		larger = reallocarray(names.names, names.n + 1, sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		names.names = ret->names = larger;
		larger[names.n] = strdup(entry->d_name);
		if (!larger[names.n])
			return -ENOMEM;
		ret->n = ++names.n;
	}
	if (names.n > 0)
		qsort(names.names, names.n, sizeof(*names.names), compare_names);
	return 0;
}

/** store_list_jobs() - ids of all jobs, oldest first. Return: 0 or -errno. */
int store_list_jobs(struct store_names *ret)
{
	*ret = (struct store_names){ 0 };
	return list_folders(STORE_JOBS_DIRECTORY, is_job_id, ret);
}

/** store_list_snapshots() - names of all snapshots. Return: 0 or -errno. */
int store_list_snapshots(struct store_names *ret)
{
	int r;

	*ret = (struct store_names){ 0 };
	r = list_folders(STORE_SNAPSHOTS_DIRECTORY, request_is_snapshot_name, ret);
	return r < 0 ? r
		     : list_folders(STORE_OS_SNAPSHOTS_DIRECTORY, request_is_snapshot_name, ret);
}

static int new_id(char **ret)
{
	unsigned char random[2];
	char time_text[ID_LETTERS];
	time_t now = time(NULL);
	struct tm utc;

	if (!gmtime_r(&now, &utc) ||
	    strftime(time_text, sizeof(time_text), "%Y%m%dT%H%M%SZ", &utc) == 0)
		return -EOVERFLOW;
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	return text_format(ret, "%s-%02x%02x", time_text, random[0], random[1]);
}

/**
 * store_job_create() - a new job, durable when this returns
 * @ret_id: owned by the caller
 *
 * Return: 0 or -errno; -EEXIST when two jobs of the same second got the same number: try again.
 */
int store_job_create(const struct request *request, char **ret_id)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	_cleanup_(freep) char *id = NULL, *directory = NULL, *path = NULL;
	int r;

	r = request_to_json(request, &object);
	if (r == 0)
		r = new_id(&id);
	if (r == 0)
		r = text_format(&directory, STORE_JOBS_DIRECTORY "/%s", id);
	if (r == 0)
		r = text_format(&path, "%s/request.json", directory);
	if (r == 0)
		r = directory_make(STORE_JOBS_DIRECTORY, 0700);
	if (r < 0)
		return r;
	if (mkdir(directory, 0700) < 0)
		return -errno;
	r = file_sync_parent(directory);
	if (r == 0)
		r = json_write_file(path, object, 0600);
	if (r == 0)
		r = store_job_prepare_run(id);
	if (r < 0) {
		/* best effort: an empty folder would be shown as a damaged job */
		(void)store_job_remove(id);
		return r;
	}
	*ret_id = steal(id);
	return 0;
}

/** store_job_prepare_run() - the folder where the worker leaves its reports. Return: 0 or -errno.
 */
int store_job_prepare_run(const char *id)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	r = text_format(&path, STORE_RUN_DIRECTORY "/%s", id);
	return r < 0 ? r : directory_make(path, 0700);
}

/**
 * store_job_read_request() - what a job is to do
 *
 * Return: 0, STORE_E_DAMAGED (absent, unreadable or not a valid request) or -ENOMEM.
 */
int store_job_read_request(const char *id, struct request **ret)
{
	_cleanup_(request_problems_clear) struct request_problems problems = { 0 };
	_cleanup_(json_putp) struct json_object *object = NULL;
	_cleanup_(freep) char *path = NULL;
	int r;

	r = text_format(&path, STORE_JOBS_DIRECTORY "/%s/request.json", id);
	if (r == 0)
		r = json_read_file(path, REQUEST_MAX_BYTES, &object);
	if (r == 0)
		r = request_from_json(object, ret, &problems);
	if (r == -ENOMEM)
		return r;
	return r < 0 || !*ret ? STORE_E_DAMAGED : 0;
}

static bool is_report(struct json_object *report, const char *id)
{
	const char *job = json_get_string(report, "job"), *state = json_get_string(report, "state");
	bool is_known = false;

	for (int i = JOB_WAITING; state && i <= JOB_FAILED; i++)
		is_known = is_known || strcmp(state, job_state_to_string((enum job_state)i)) == 0;
	return is_known && job && strcmp(job, id) == 0 && json_get_string(report, "kind") &&
	       json_get_array(report, "faults") && json_get_array(report, "volumes");
}

static int read_report(const char *directory, const char *id, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *report = NULL;
	_cleanup_(freep) char *path = NULL;
	int r;

	r = text_format(&path, "%s/%s/report.json", directory, id);
	if (r == 0)
		r = json_read_file(path, STORE_REPORT_MAX_BYTES, &report);
	if (r == -ENOMEM)
		return r;
	if (r == -ENOENT)
		return STORE_E_ABSENT;
	if (r < 0 || !is_report(report, id))
		return STORE_E_DAMAGED;
	*ret = steal(report);
	return 0;
}

/**
 * store_job_read_final() - what became of a job
 *
 * Return: 0, STORE_E_ABSENT (the job is open), STORE_E_DAMAGED or -ENOMEM.
 */
int store_job_read_final(const char *id, struct json_object **ret)
{
	return read_report(STORE_JOBS_DIRECTORY, id, ret);
}

/** store_job_read_run() - how far the worker is. Return: as store_job_read_final(). */
int store_job_read_run(const char *id, struct json_object **ret)
{
	return read_report(STORE_RUN_DIRECTORY, id, ret);
}

/** store_job_write_final() - close a job that no worker has touched. Return: 0 or -errno. */
int store_job_write_final(const char *id, struct json_object *report)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	r = text_format(&path, STORE_JOBS_DIRECTORY "/%s/report.json", id);
	return r < 0 ? r : json_write_file(path, report, 0600);
}

/**
 * store_job_cancel() - tell a job's worker to take back what waits for a boot
 * @request: the volumes that it names are not waited for any more either, should they be away
 *
 * Return: 0 or -errno.
 */
int store_job_cancel(const char *id, const struct request *request)
{
	_cleanup_(freep) char *path = NULL, *text = strdup("");
	int r;

	r = text ? text_format(&path, STORE_JOBS_DIRECTORY "/%s/cancelled", id) : -ENOMEM;
	for (size_t i = 0; r == 0 && i < request->n_volumes; i++) {
		char *longer;

		r = text_format(&longer, "%s%s\n", text, request->volumes[i]);
		if (r < 0)
			break;
		free(text);
		text = longer;
	}
	return r < 0 ? r : file_write_atomic(path, text, strlen(text), 0600);
}

/** store_job_forget_run() - the last worker's report, before a new one starts. Return: 0 or -errno.
 */
int store_job_forget_run(const char *id)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	r = text_format(&path, STORE_RUN_DIRECTORY "/%s/report.json", id);
	if (r < 0)
		return r;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/**
 * store_job_keep_reboot() - the machine is to be rebooted once only a boot is left to do
 *
 * Kept in memory: it outlives the daemon and not the boot, so that nothing reboots twice.
 *
 * Return: 0 or -errno.
 */
int store_job_keep_reboot(const char *id)
{
	_cleanup_(freep) char *path = NULL;
	int r = store_job_prepare_run(id);

	if (r == 0)
		r = text_format(&path, STORE_RUN_DIRECTORY "/%s/reboot", id);
	return r < 0 ? r : file_write_volatile(path, "", 0, 0600);
}

/**
 * store_job_take_reboot() - was that asked for? The answer is yes once.
 * @is_first: the boot only makes way for another one, which was asked for too
 */
bool store_job_take_reboot(const char *id, bool is_first)
{
	_cleanup_(freep) char *path = NULL, *next = NULL, *used = NULL;

	if (text_format(&path, STORE_RUN_DIRECTORY "/%s/reboot", id) < 0 ||
	    text_format(&next, STORE_JOBS_DIRECTORY "/%s/reboot-next", id) < 0 ||
	    text_format(&used, STORE_JOBS_DIRECTORY "/%s/reboot-used", id) < 0 || unlink(path) < 0)
		return false;
	if (is_first && access(used, F_OK) < 0 && file_write_atomic(next, "", 0, 0600) < 0)
		log_warning("Job %s: the second reboot has to be made by hand.", id);
	return true;
}

/** store_job_arm_reboot() - what is left of store_job_take_reboot(), after its boot */
void store_job_arm_reboot(const char *id)
{
	_cleanup_(freep) char *next = NULL, *used = NULL;

	/* first it is used up: whatever happens then, nothing reboots again and again */
	if (text_format(&next, STORE_JOBS_DIRECTORY "/%s/reboot-next", id) == 0 &&
	    text_format(&used, STORE_JOBS_DIRECTORY "/%s/reboot-used", id) == 0 &&
	    rename(next, used) == 0 && file_sync_parent(used) == 0)
		(void)store_job_keep_reboot(id);
}

/** store_job_set_paused() - the marker that keeps a job from being started. Return: 0 or -errno. */
int store_job_set_paused(const char *id, bool is_paused)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	r = text_format(&path, STORE_JOBS_DIRECTORY "/%s/paused", id);
	if (r < 0)
		return r;
	return is_paused ? file_write_atomic(path, "", 0, 0600) : file_remove_durably(path);
}

/** store_job_is_paused() - Return: 1 yes, 0 no, -ENOMEM. */
int store_job_is_paused(const char *id)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	r = text_format(&path, STORE_JOBS_DIRECTORY "/%s/paused", id);
	return r < 0 ? r : access(path, F_OK) == 0;
}

/**
 * store_job_remove() - forget a job that has ended
 *
 * A folder with anything but these files in it stays whole: who knows what was kept there.
 *
 * Return: 0, -ENOTEMPTY or -errno.
 */
int store_job_remove(const char *id)
{
	/* the request last: without it the job would count as damaged */
	static const char *const files[] = { "cancelled",   "journal.json", "paused",
					     "report.json", "reboot-next",  "reboot-used",
					     "request.json" };
	_cleanup_(freep) char *path = NULL, *run = NULL;
	_cleanup_(closedirp) DIR *directory = NULL;
	const struct dirent *entry;
	int r;

	r = text_format(&path, STORE_JOBS_DIRECTORY "/%s", id);
	if (r == 0)
		r = text_format(&run, STORE_RUN_DIRECTORY "/%s", id);
	if (r < 0)
		return r;
	directory = opendir(path);
	if (!directory)
		return -errno;
	while ((entry = readdir(directory))) {
		bool is_known = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;

		for (size_t i = 0; i < ARRAY_SIZE(files); i++)
			is_known = is_known || strcmp(entry->d_name, files[i]) == 0;
		if (!is_known)
			return -ENOTEMPTY;
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (unlinkat(dirfd(directory), files[i], 0) < 0 && errno != ENOENT)
			return -errno;
	if (rmdir(path) < 0)
		return -errno;
	(void)store_job_forget_run(id);
	(void)store_job_take_reboot(id, false);
	(void)rmdir(run);
	return 0;
}

static int read_manifest(const char *place, const char *name, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *manifest = NULL;
	_cleanup_(freep) char *path = NULL;
	int r;

	r = text_format(&path, "%s/%s/manifest.json", place, name);
	if (r == 0)
		r = json_read_file(path, STORE_MANIFEST_MAX_BYTES, &manifest);
	if (r == -ENOMEM)
		return r;
	if (r == -ENOENT || r == -ENOTDIR)
		return STORE_E_ABSENT;
	if (r < 0 || !json_object_is_type(manifest, json_type_object))
		return STORE_E_DAMAGED;
	*ret = steal(manifest);
	return 0;
}

static int append_array(struct json_object *from, struct json_object *to, const char *name)
{
	struct json_object *source = json_get_array(from, name), *target = json_get_array(to, name);

	for (size_t i = 0; source && target && i < json_object_array_length(source); i++)
		if (json_object_array_add(
			    target, json_object_get(json_object_array_get_idx(source, i))) < 0)
			return -ENOMEM;
	return 0;
}

/**
 * store_snapshot_read() - the manifest of a snapshot
 * @name: checked with request_is_snapshot_name()
 *
 * A job on data and OS volumes has two folders; they are told as one.
 *
 * Return: 0, STORE_E_ABSENT, STORE_E_DAMAGED or -ENOMEM.
 */
int store_snapshot_read(const char *name, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *data = NULL, *os = NULL;
	int r, of_os;

	r = read_manifest(STORE_SNAPSHOTS_DIRECTORY, name, &data);
	if (r != 0 && r != STORE_E_ABSENT)
		return r;
	of_os = read_manifest(STORE_OS_SNAPSHOTS_DIRECTORY, name, &os);
	if (of_os != 0 && (of_os != STORE_E_ABSENT || r != 0))
		return of_os;
	if (data && os) {
		r = append_array(os, data, "volumes");
		if (r == 0)
			r = append_array(os, data, "files");
		if (r < 0)
			return r;
	}
	*ret = data ? steal(data) : steal(os);
	return 0;
}

static int add_volume_names(struct json_object *manifest, struct json_object *names)
{
	struct json_object *volumes = json_get_array(manifest, "volumes");
	size_t n = volumes ? json_object_array_length(volumes) : 0;

	for (size_t i = 0; i < n; i++) {
		const char *uuid = json_get_string(json_object_array_get_idx(volumes, i), "uuid");
		struct json_object *text;

		if (!uuid)
			continue;
		text = json_object_new_string(uuid);
		if (!text || json_object_array_add(names, text) < 0) {
			json_object_put(text);
			return -ENOMEM;
		}
	}
	return 0;
}

static int64_t files_bytes(struct json_object *manifest)
{
	struct json_object *files = json_get_array(manifest, "files");
	size_t n = files ? json_object_array_length(files) : 0;
	int64_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		int64_t size = json_get_int(json_object_array_get_idx(files, i), "size", 0);

		if (size > 0 && __builtin_add_overflow(sum, size, &sum))
			return INT64_MAX;
	}
	return sum;
}

/**
 * store_snapshot_summary() - a snapshot as varlink type Snapshot
 *
 * Return: as store_snapshot_read().
 */
int store_snapshot_summary(const char *name, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *manifest = NULL, *summary = NULL, *volumes = NULL;
	const char *time_text, *kind;
	int r;

	r = store_snapshot_read(name, &manifest);
	if (r != 0)
		return r;
	summary = json_object_new_object();
	volumes = json_object_new_array();
	if (!summary || !volumes)
		return -ENOMEM;
	time_text = json_get_string(manifest, "time");
	kind = json_get_string(manifest, "kind");
	r = add_volume_names(manifest, volumes);
	if (r == 0)
		r = json_set_string(summary, "name", name);
	if (r == 0)
		r = json_set_string(summary, "time", time_text ? time_text : "");
	if (r == 0)
		r = json_set_string(summary, "kind", kind ? kind : "");
	if (r == 0)
		r = json_set(summary, "volumes", steal(volumes));
	if (r == 0)
		r = json_set_int(summary, "size_bytes", files_bytes(manifest));
	if (r < 0)
		return r;
	*ret = steal(summary);
	return 0;
}
