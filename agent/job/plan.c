/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "job/record.h"
#include "job/split.h"

#define NAME_MAX_BYTES 127 /* DM_NAME_LEN without its NUL; UUIDs are shorter */

void job_clear(struct job *job)
{
	free(job->uuid);
	free(job->filesystem);
	free(job->label);
	free(job->header_uuid);
	free(job->mapping);
	free(job->device);
	free(job->header_file);
	key_reference_free(job->reference);
	fstab_entries_clear(&job->fstab_before);
	for (size_t i = 0; i < job->n_mounts; i++) {
		free(job->mounts[i].target);
		free(job->mounts[i].root);
		free(job->mounts[i].options);
		free(job->mounts[i].filesystem);
	}
	free(job->mounts);
	inventory_free(job->inventory);
	header_info_free(job->header);
	secret_free(job->passphrase);
	*job = (struct job){ 0 };
}

struct plan *plan_free(struct plan *plan)
{
	if (!plan)
		return NULL;
	for (size_t i = 0; i < plan->n_jobs; i++)
		job_clear(&plan->jobs[i]);
	free(plan->jobs);
	free(plan->id);
	free(plan->directory);
	request_free(plan->request);
	split_free(plan->split);
	report_clear(&plan->report);
	secret_free(plan->recovery);
	free(plan);
	return NULL;
}

void plan_freep(struct plan **plan)
{
	plan_free(*plan);
}

static struct json_object *mounts_to_json(const struct job *job)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();

	for (size_t i = 0; array && i < job->n_mounts; i++) {
		struct json_object *object = json_object_new_object();

		if (!object || json_object_array_add(array, object) < 0 ||
		    json_set_string(object, "target", job->mounts[i].target) < 0 ||
		    json_set_string(object, "root", job->mounts[i].root) < 0 ||
		    json_set_string(object, "options", job->mounts[i].options) < 0 ||
		    json_set_string(object, "filesystem", job->mounts[i].filesystem) < 0)
			return NULL;
	}
	return steal(array);
}

static int mounts_from_json(struct json_object *array, struct job *job)
{
	size_t n = array ? json_object_array_length(array) : 0;

	job->mounts = calloc(n ? n : 1, sizeof(*job->mounts));
	if (!job->mounts)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_object *object = json_object_array_get_idx(array, i);
		struct volume_mount *mount = &job->mounts[job->n_mounts++];

		if (!json_get_string(object, "target") ||
		    text_copy(json_get_string(object, "target"), &mount->target) < 0 ||
		    text_copy(json_get_string(object, "root"), &mount->root) < 0 ||
		    text_copy(json_get_string(object, "options"), &mount->options) < 0 ||
		    text_copy(json_get_string(object, "filesystem"), &mount->filesystem) < 0)
			return PLAN_E_DAMAGED;
	}
	return 0;
}

static int job_to_json(const struct job *job, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	struct json_object *reference;
	int r;

	if (!object)
		return -ENOMEM;
	r = json_set_string(object, "uuid", job->uuid);
	if (r == 0)
		r = json_set_string(object, "filesystem", job->filesystem);
	if (r == 0)
		r = json_set_string(object, "label", job->label);
	if (r == 0)
		r = json_set_string(object, "header_uuid", job->header_uuid);
	if (r == 0)
		r = json_set_string(object, "mapping", job->mapping);
	if (r == 0)
		r = json_set_string(object, "device", job->device);
	if (r == 0)
		r = json_set_int(object, "device_bytes", (int64_t)job->device_bytes);
	if (r == 0)
		r = json_set_string(object, "header_file", job->header_file);
	if (r == 0)
		r = json_set_int(object, "room", job->room);
	if (r == 0)
		r = json_set_int(object, "sector_bytes", job->sector_bytes);
	if (r == 0)
		r = json_set_int(object, "root_uid", job->root_uid);
	if (r == 0)
		r = json_set_int(object, "root_gid", job->root_gid);
	if (r == 0)
		r = json_set_int(object, "root_mode", job->root_mode);
	if (r == 0)
		r = json_set_bool(object, "committing", job->is_committing);
	if (r == 0)
		r = json_set_bool(object, "committed", job->is_committed);
	if (r == 0)
		r = json_set_bool(object, "os", job->is_os);
	if (r == 0)
		r = json_set_bool(object, "root", job->is_root);
	if (r == 0)
		r = json_set_bool(object, "initrd", job->is_initrd);
	if (r == 0)
		r = json_set_bool(object, "boot_failed", job->has_boot_failed);
	if (r == 0)
		r = json_set_bool(object, "restoring", job->is_restoring);
	if (r == 0)
		r = json_set_bool(object, "closed", job->is_closed);
	if (r == 0)
		r = json_set_bool(object, "failed", job->has_failed);
	if (r == 0)
		r = json_set(object, "fstab_before", record_fstab_to_json(&job->fstab_before));
	if (r == 0)
		r = json_set(object, "mounts", mounts_to_json(job));
	if (r == 0 && job->reference) {
		reference = json_object_new_object();
		r = json_set(object, "reference", reference);
		if (r == 0)
			r = key_reference_to_json(job->reference, reference);
	}
	if (r < 0)
		return r;
	*ret = steal(object);
	return 0;
}

/* These end in paths: one component, nothing that climbs. */
static bool is_name(const char *text)
{
	return text && text[0] != '\0' && text[0] != '.' && strlen(text) <= NAME_MAX_BYTES &&
	       !strchr(text, '/');
}

static int job_from_json(struct json_object *object, struct job *job)
{
	struct json_object *reference = json_get_object(object, "reference");
	int64_t room = json_get_int(object, "room", -1);
	int r;

	if (!is_name(json_get_string(object, "uuid")) ||
	    !is_name(json_get_string(object, "header_uuid")) ||
	    !is_name(json_get_string(object, "mapping")) ||
	    !is_name(json_get_string(object, "filesystem")) || !json_get_string(object, "device") ||
	    strncmp(json_get_string(object, "device"), "/dev/", 5) != 0 || room < 0 ||
	    room > ROOM_NONE)
		return PLAN_E_DAMAGED;
	job->room = (enum room_way)room;
	job->device_bytes = (uint64_t)json_get_int(object, "device_bytes", 0);
	job->sector_bytes = (unsigned)json_get_int(object, "sector_bytes", 512);
	job->root_uid = (uid_t)json_get_int(object, "root_uid", 0);
	job->root_gid = (gid_t)json_get_int(object, "root_gid", 0);
	job->root_mode = (mode_t)json_get_int(object, "root_mode", 0755);
	job->is_committing = json_get_bool(object, "committing", false);
	job->is_committed = json_get_bool(object, "committed", false);
	job->is_os = json_get_bool(object, "os", false);
	job->is_root = json_get_bool(object, "root", false);
	job->is_initrd = json_get_bool(object, "initrd", false);
	job->has_boot_failed = json_get_bool(object, "boot_failed", false);
	job->is_restoring = json_get_bool(object, "restoring", false);
	job->is_closed = json_get_bool(object, "closed", false);
	job->has_failed = json_get_bool(object, "failed", false);
	r = text_copy(json_get_string(object, "uuid"), &job->uuid);
	if (r == 0)
		r = text_copy(json_get_string(object, "filesystem"), &job->filesystem);
	if (r == 0)
		r = text_copy(json_get_string(object, "label"), &job->label);
	if (r == 0)
		r = text_copy(json_get_string(object, "header_uuid"), &job->header_uuid);
	if (r == 0)
		r = text_copy(json_get_string(object, "mapping"), &job->mapping);
	if (r == 0)
		r = text_copy(json_get_string(object, "device"), &job->device);
	if (r == 0)
		r = text_copy(json_get_string(object, "header_file"), &job->header_file);
	if (r == 0)
		r = record_fstab_from_json(json_get_array(object, "fstab_before"),
					   &job->fstab_before);
	if (r == RECORD_E_DAMAGED)
		return PLAN_E_DAMAGED;
	if (r == 0)
		r = mounts_from_json(json_get_array(object, "mounts"), job);
	if (r == 0 && reference && key_reference_from_json(reference, &job->reference) != 0)
		return PLAN_E_DAMAGED;
	return r;
}

/** plan_link() - each job has its row in the report. Return: 0 or -ENOMEM. */
int plan_link(struct plan *plan)
{
	bool is_grow = plan->request && plan->request->kind == REQUEST_GROW;

	plan->report.volumes =
		calloc(plan->n_jobs ? plan->n_jobs : 1, sizeof(*plan->report.volumes));
	if (!plan->report.volumes)
		return -ENOMEM;
	plan->report.n_volumes = plan->n_jobs;
	for (size_t i = 0; i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];

		job->plan = plan;
		plan->has_os |= job->is_os && !is_grow;
		job->progress = &plan->report.volumes[i];
		job->progress->uuid = strdup(job->uuid);
		if (!job->progress->uuid)
			return -ENOMEM;
		job->progress->left_s = -1;
		job->progress->state = job->has_failed  ? JOB_FAILED
				       : job->is_closed ? JOB_DONE
							: JOB_WAITING;
		job->progress->size_bytes = job->device_bytes;
	}
	return 0;
}

/**
 * plan_parse_journal() - the jobs of a journal
 * @plan:   without jobs so far
 * @object: journal.json, or anything else: a file can be damaged
 *
 * Return: 0, PLAN_E_DAMAGED, or -ENOMEM; free the plan in any case.
 */
int plan_parse_journal(struct plan *plan, struct json_object *object)
{
	struct json_object *jobs = json_get_array(object, "jobs");
	struct json_object *split = json_get_object(object, "split");
	size_t n = jobs ? json_object_array_length(jobs) : 0;
	int r;

	if (n == 0 || n > REQUEST_MAX_VOLUMES)
		return PLAN_E_DAMAGED;
	plan->jobs = calloc(n, sizeof(*plan->jobs));
	if (!plan->jobs)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		plan->n_jobs++;
		r = job_from_json(json_object_array_get_idx(jobs, i), &plan->jobs[i]);
		if (r != 0)
			return r;
	}
	if (split) {
		r = split_from_json(split, &plan->split);
		if (r != 0)
			return r;
	}
	return plan_link(plan);
}

static int read_journal(struct plan *plan)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	_cleanup_(freep) char *path = NULL;
	int r;

	r = text_format(&path, "%s/journal.json", plan->directory);
	if (r < 0)
		return r;
	r = json_read_file(path, JOURNAL_MAX_BYTES, &object);
	if (r == -ENOENT)
		return 0;
	if (r == -EBADMSG || r == -EFBIG)
		return PLAN_E_DAMAGED;
	return r < 0 ? r : plan_parse_journal(plan, object);
}

/* It names volumes, a line each, that are not waited for any more even where they are away. */
static int read_cancelled(struct plan *plan, const char *path)
{
	_cleanup_(freep) char *text = NULL;
	int r;

	r = file_read(path, JOURNAL_MAX_BYTES, &text, NULL);
	if (r == -ENOENT)
		return 0;
	plan->is_cancelled = true;
	if (r < 0)
		return r;
	for (size_t i = 0; i < plan->n_jobs; i++)
		plan->jobs[i].is_given_up = strcasestr(text, plan->jobs[i].uuid) != NULL;
	return 0;
}

/* A job with an OS volume has moved to where the initramfs can see it. */
static int find_directory(struct plan *plan, char **ret_request)
{
	static const char *const places[] = { BOOT_DIRECTORY, STATE_DIRECTORY };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(places); i++) {
		free(plan->directory);
		plan->directory = NULL;
		free(*ret_request);
		*ret_request = NULL;
		r = text_format(&plan->directory, "%s/jobs/%s", places[i], plan->id);
		if (r == 0)
			r = text_format(ret_request, "%s/request.json", plan->directory);
		if (r == 0 && access(*ret_request, F_OK) == 0)
			break;
	}
	return r;
}

/** job_state_directory() - below which a volume's headers, snapshot and marks are kept */
const char *job_state_directory(const struct job *job)
{
	return job->is_os ? BOOT_DIRECTORY : STATE_DIRECTORY;
}

/** job_path() - FOLDER/HEADER-UUID.SUFFIX below the volume's state. Return: 0 or -ENOMEM. */
int job_path(const struct job *job, const char *folder, const char *suffix, char **ret)
{
	return text_format(ret, "%s/%s/%s.%s", job_state_directory(job), folder, job->header_uuid,
			   suffix);
}

/**
 * plan_load() - what is known of a job by its id
 * @id:  name of the folder below jobs/
 * @ret: owned by the caller; without jobs when nothing has been decided yet
 *
 * Return: 0, PLAN_E_DAMAGED, or -errno.
 */
int plan_load(const char *id, struct plan **ret)
{
	_cleanup_(plan_freep) struct plan *plan = calloc(1, sizeof(*plan));
	_cleanup_(json_putp) struct json_object *object = NULL;
	_cleanup_(freep) char *path = NULL, *cancelled = NULL;
	struct request_problems problems = { 0 };
	int r;

	if (!plan)
		return -ENOMEM;
	r = text_copy(id, &plan->id);
	if (r == 0)
		r = text_copy(id, &plan->report.job);
	if (r == 0)
		r = find_directory(plan, &path);
	if (r < 0)
		return r;
	r = json_read_file(path, REQUEST_MAX_BYTES, &object);
	if (r == -EBADMSG || r == -EFBIG)
		return PLAN_E_DAMAGED;
	if (r < 0)
		return r;
	r = request_from_json(object, &plan->request, &problems);
	request_problems_clear(&problems);
	if (r < 0)
		return r;
	if (!plan->request)
		return PLAN_E_DAMAGED;
	plan->report.kind = request_kind_to_string(plan->request->kind);
	plan->report.state = JOB_RUNNING;
	r = text_format(&cancelled, STATE_DIRECTORY "/jobs/%s/cancelled", id);
	if (r < 0)
		return r;
	r = read_journal(plan);
	if (r == 0)
		r = read_cancelled(plan, cancelled);
	if (r != 0)
		return r;
	*ret = steal(plan);
	return 0;
}

/** plan_write_journal() - what plan_parse_journal() reads. Return: 0 or -ENOMEM. */
int plan_write_journal(const struct plan *plan, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	struct json_object *array, *entry, *split;
	int r = 0;

	if (!object)
		return -ENOMEM;
	array = json_object_new_array();
	r = json_set(object, "jobs", array);
	for (size_t i = 0; r == 0 && i < plan->n_jobs; i++) {
		r = job_to_json(&plan->jobs[i], &entry);
		if (r == 0 && json_object_array_add(array, entry) < 0) {
			json_object_put(entry);
			r = -ENOMEM;
		}
	}
	if (r == 0 && plan->split) {
		r = split_to_json(plan->split, &split);
		if (r == 0)
			r = json_set(object, "split", split);
	}
	if (r == 0)
		*ret = steal(object);
	return r;
}

/**
 * plan_move() - let the initramfs see a plan with an OS volume
 *
 * Before anything has been done: the request is copied, and the journal is written only there.
 *
 * Return: 0 or -errno.
 */
int plan_move(struct plan *plan)
{
	_cleanup_(freep) char *directory = NULL, *from = NULL, *to = NULL;
	int r;

	if (!plan->has_os)
		return 0;
	r = text_format(&directory, BOOT_DIRECTORY "/jobs/%s", plan->id);
	if (r == 0)
		r = text_format(&from, STATE_DIRECTORY "/jobs/%s/request.json", plan->id);
	if (r == 0)
		r = text_format(&to, "%s/request.json", directory);
	if (r == 0)
		r = directory_make(BOOT_DIRECTORY, 0700);
	if (r == 0)
		r = directory_make(BOOT_DIRECTORY "/jobs", 0700);
	if (r == 0)
		r = directory_make(directory, 0700);
	if (r == 0)
		r = file_copy(from, to, 0600);
	if (r < 0)
		return r;
	free(plan->directory);
	plan->directory = steal(directory);
	return 0;
}

/** plan_unmark() - no boot is to do anything for this plan any more. Return: 0 or -errno. */
int plan_unmark(const struct plan *plan)
{
	static const char *const places[] = { BOOT_DIRECTORY, STATE_DIRECTORY };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(places); i++) {
		_cleanup_(freep) char *marker = NULL;

		r = text_format(&marker, "%s/next-boot/%s", places[i], plan->id);
		if (r == 0)
			r = file_remove_durably(marker);
	}
	return r;
}

/** plan_leave_boot() - what the initramfs needed of an ended plan goes. Return: 0 or -errno. */
int plan_leave_boot(const struct plan *plan)
{
	static const char *const names[] = { "boot.json", "journal.json", "request.json" };
	int r = 0;

	for (size_t i = 0; plan->has_os && r == 0 && i < ARRAY_SIZE(names); i++) {
		_cleanup_(freep) char *path = NULL;

		r = text_format(&path, BOOT_DIRECTORY "/jobs/%s/%s", plan->id, names[i]);
		if (r == 0)
			r = file_remove_durably(path);
	}
	if (plan->has_os && r == 0 && rmdir(plan->directory) < 0)
		r = -errno;
	return r;
}

/** plan_save() - the journal, durably. Return: 0 or -errno. */
int plan_save(struct plan *plan)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	_cleanup_(freep) char *path = NULL;
	int r;

	r = plan_write_journal(plan, &object);
	if (r == 0)
		r = text_format(&path, "%s/journal.json", plan->directory);
	return r < 0 ? r : json_write_file(path, object, 0600);
}

/**
 * plan_publish() - let the daemon see how it stands
 *
 * Written to /run, which is memory: never to a filesystem in conversion. When the job has ended,
 * first durably to its own folder, which is how the daemon knows that nothing is left to do.
 *
 * Return: 0 or -errno; a failure does not stop a job.
 */
int plan_publish(struct plan *plan)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	_cleanup_(freep) char *path = NULL, *final = NULL;
	const char *text;
	int r;

	r = report_to_json(&plan->report, &object);
	if (r == 0 && plan->is_ended) {
		r = text_format(&final, STATE_DIRECTORY "/jobs/%s/report.json", plan->id);
		if (r == 0)
			r = json_write_file(final, object, 0600);
		if (r < 0)
			return log_error_errno(r, "Job %s: cannot store the final report: %m",
					       plan->id);
	}
	if (r == 0)
		r = text_format(&path, RUNTIME_DIRECTORY "/jobs/%s", plan->id);
	if (r == 0)
		r = directory_make(path, 0755);
	if (r < 0)
		return r;
	free(steal(path));
	r = text_format(&path, RUNTIME_DIRECTORY "/jobs/%s/report.json", plan->id);
	if (r < 0)
		return r;
	text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE);
	return text ? file_write_volatile(path, text, strlen(text), 0644) : -ENOMEM;
}
