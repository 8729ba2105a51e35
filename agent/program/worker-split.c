/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-worker --initramfs, first of all: a partition for /boot, before anything is mounted */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "boot/split-conf.h"
#include "job/job.h"
#include "job/split.h"
#include "program/worker.h"
#include "volume/filesystem.h"
#include "volume/geometry.h"
#include "volume/tablesplit.h"
#include "volume/tail.h"

#define DEVICE_WAIT_S 30
#define LATE_TURNS    9 /* of that, further ones: what clouds give a root (rootdelay=300) */
#define POLL_MS       100
#define SEALED_WAIT_S 30

static bool is_in_time(time_t until)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec < until;
}

static int wait_for(const char *device)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	while (access(device, F_OK) < 0) {
		if (!is_in_time(now.tv_sec + DEVICE_WAIT_S))
			return -ENODEV;
		(void)poll(NULL, 0, POLL_MS);
	}
	return job_settle();
}

/* What happened, for the running system: memory outlives the initramfs. */
static void leave_note(const struct split_conf *conf, const char *what)
{
	_cleanup_(json_putp) struct json_object *note = json_object_new_object();

	if (!note || json_set_string(note, "job", conf->job) < 0 ||
	    json_set_string(note, "what", what) < 0 ||
	    directory_make(RUNTIME_DIRECTORY, 0755) < 0 ||
	    json_write_file(SPLIT_NOTE, note, 0600) < 0)
		log_warning("No note can be left for the running system.");
}

/* The filesystem is neither old nor new: a check would destroy it, and nothing can mount it.
 * Return: as tail_finish(), or @r when it is not sealed. */
static int finish_sealed(const char *device, int r)
{
	while (r != 0 && tail_is_sealed(device) == 1) {
		log_error(
			"The root's filesystem was being made smaller when the power failed, and it "
			"cannot be brought to its end: %s. The boot waits; do not run e2fsck on it. "
			"It is tried again in %d s.",
			tail_sentence(r), SEALED_WAIT_S);
		(void)poll(NULL, 0, SEALED_WAIT_S * 1000);
		r = tail_finish(device);
	}
	return r;
}

/* Return: 0, a condition of tail.h, or -errno; *ret_what is set when there is more to say. */
static int give_way(const struct split_conf *conf, char **ret_what)
{
	_cleanup_(freep) char *type = NULL, *uuid = NULL;
	struct geometry geometry;
	uint64_t size_bytes;
	int r;

	r = filesystem_probe(conf->device, &type, &uuid, &size_bytes);
	if (r < 0)
		return r;
	if (!type || !uuid || strcasecmp(uuid, conf->root_uuid) != 0)
		return -EMEDIUMTYPE;
	if (conf->filesystem_bytes > 0) {
		log_notice("Volume %s: gives way for a /boot partition.", conf->root_uuid);
		r = tail_shrink(conf->device, conf->filesystem_bytes, "/boot", ret_what);
		r = finish_sealed(conf->device, r);
	}
	if (r == 0)
		r = geometry_read(conf->device, type, &geometry);
	if (r == 0 && geometry.bytes > conf->keeps_bytes)
		return -ENOSPC;
	return r;
}

static int write_table(const char *disk, const struct split_conf *conf, char **ret_what)
{
	const struct table_split split = { .number = (unsigned)conf->number,
					   .keeps_bytes = conf->filesystem_bytes > 0
								  ? conf->keeps_bytes
								  : 0,
					   .start_bytes = conf->start_bytes,
					   .size_bytes = conf->size_bytes,
					   .uuid = conf->partition_uuid };
	int r = table_split(disk, &split);

	if (r <= 0)
		return r;
	r = text_copy("the partition table has no place for it", ret_what);
	return r < 0 ? r : -ENOSPC;
}

static int split(const struct split_conf *conf, char **ret_what)
{
	_cleanup_(inventory_freep) struct inventory *inventory = NULL;
	const struct volume *root, *disk = NULL;
	struct stat device;
	unsigned number;
	int r;

	r = wait_for(conf->device);
	if (r == -ENODEV && table_mend_missing(conf->device) == 1)
		r = job_settle();
	/* it may have been cut off while it gave way, and then nothing else can boot it */
	for (unsigned turn = 0; r == -ENODEV && conf->filesystem_bytes > 0 && turn < LATE_TURNS;
	     turn++) {
		log_warning("Volume %s: has not come yet and is waited for.", conf->root_uuid);
		r = wait_for(conf->device);
	}
	if (r < 0)
		return r;
	r = tail_finish(conf->device);
	r = finish_sealed(conf->device, r);
	if (r == 0)
		r = inventory_read(&inventory);
	if (r != 0)
		return r;
	if (stat(conf->device, &device) < 0)
		return -errno;
	root = inventory_find_devno(inventory, device.st_rdev);
	if (root)
		disk = inventory_disk_of(inventory, root);
	if (!disk || root->partition_number != conf->number)
		return -ENXIO;
	if (table_find(disk->path, conf->start_bytes, conf->size_bytes, &number) != 0)
		r = give_way(conf, ret_what);
	if (r == 0)
		r = write_table(disk->path, conf, ret_what);
	return r == 0 ? job_settle() : r;
}

/**
 * worker_split() - what split.conf in the image says, from wherever it is
 *
 * All done, it returns at once. Whatever fails, the boot goes on as it was; but for a filesystem
 * between old and new, which nothing else may touch.
 */
void worker_split(void)
{
	_cleanup_(split_conf_clear) struct split_conf conf = { 0 };
	_cleanup_(freep) char *detail = NULL;
	const char *what;
	int r;

	r = split_conf_read(SPLIT_CONF, &conf);
	if (r == -ENOENT)
		return;
	if (r != 0) {
		log_error("File " SPLIT_CONF " in the initramfs cannot be used: %s.",
			  r < 0 ? strerror(-r) : "malformed");
		return;
	}
	r = split(&conf, &detail);
	if (r == 0)
		return;
	what = detail ? detail : tail_sentence(r);
	log_warning("No partition could be made for /boot: %s. The machine boots as it was.", what);
	leave_note(&conf, what);
}
