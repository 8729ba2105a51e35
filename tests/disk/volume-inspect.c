/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shows and does what agent/volume/ can do to filesystems, one verb a run, for scenarios in virtual
 * machines. Installed nowhere. Prints one JSON object: "result", "detail" and what the verb adds;
 * the exit status is 0 unless the verb could not even be tried.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/filesystem.h"
#include "volume/holders.h"
#include "volume/inventory.h"
#include "volume/lower.h"
#include "volume/room.h"
#include "volume/table.h"
#include "volume/tail.h"

/* where the changes lie while ext gives way */
#define CHANGES "/var/lib/vmcrypt/room/inspected.changes"

struct run {
	struct inventory *inventory;
	struct volume *volume; /* argument 1, where it is a device of the inventory */
	char **arguments;      /* from 1; ends in NULL */
	struct json_object *out;
	char *detail;
};

static const char *mount_point(const struct run *run)
{
	return run->volume->n_mounts > 0 ? run->volume->mounts[0].target : NULL;
}

static int do_list(struct run *run)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < run->inventory->n; i++) {
		const struct volume *volume = &run->inventory->volumes[i];
		struct json_object *object, *mounts = json_object_new_array();

		if (volume_to_json(run->inventory, volume, &object) < 0)
			return -ENOMEM;
		json_set_string(object, "excuse",
				volume_excuse_to_string(
					volume_excuse(run->inventory, volume, false, true)));
		json_set_string(
			object, "excuse_all",
			volume_excuse_to_string(volume_excuse(run->inventory, volume, true, true)));
		json_set_int(object, "logical", volume->logical_block_bytes);
		json_set_int(object, "physical", volume->physical_block_bytes);
		json_set_int(object, "filesystem_block", volume->filesystem_block_bytes);
		json_set_int(object, "filesystem_devices", volume->filesystem_devices);
		json_set_bool(object, "swap_active", volume->is_swap_active);
		json_set_bool(object, "fstab", volume->has_fstab_entry);
		json_set_bool(object, "other_signatures", volume->has_other_signatures);
		for (size_t k = 0; k < volume->n_mounts; k++) {
			struct json_object *mount = json_object_new_object();

			json_set_string(mount, "target", volume->mounts[k].target);
			json_set_string(mount, "root", volume->mounts[k].root);
			json_set_string(mount, "options", volume->mounts[k].options);
			json_object_array_add(mounts, mount);
		}
		json_set(object, "places", mounts);
		json_object_array_add(array, object);
	}
	return json_set(run->out, "volumes", array);
}

static int do_room(struct run *run)
{
	enum room_way way;
	int r = room_find(run->inventory, run->volume, &way, &run->detail);

	if (r == 0)
		json_set_string(run->out, "way", room_way_to_string(way));
	return r;
}

static int do_make_room(struct run *run)
{
	enum room_way way;
	int r = room_find(run->inventory, run->volume, &way, &run->detail);

	if (r < 0)
		return r;
	free(run->detail);
	return room_make(run->inventory, run->volume, way, CHANGES, &run->detail);
}

static int do_finish_room(struct run *run)
{
	return room_finish(run->volume->path, CHANGES, &run->detail);
}

/* argument 2: bytes to keep */
static int do_shrink_tail(struct run *run)
{
	return tail_shrink(run->volume->path, strtoull(run->arguments[2], NULL, 10), "/boot",
			   &run->detail);
}

static int do_can_shrink_tail(struct run *run)
{
	return tail_can_shrink(run->volume->path, strtoull(run->arguments[2], NULL, 10), "/boot",
			       false);
}

/* arguments: its mount point has the folder boot; bytes */
static int do_lower(struct run *run)
{
	_cleanup_(freep) char *folder = NULL;

	if (text_format(&folder, "%s/boot", mount_point(run)) < 0)
		return -ENOMEM;
	return lower_files(folder, strtoull(run->arguments[2], NULL, 10));
}

static int do_finish_tail(struct run *run)
{
	return tail_finish(run->volume->path);
}

static int do_check(struct run *run)
{
	return filesystem_check(run->volume->path, run->volume->filesystem, &run->detail);
}

static int do_shrink(struct run *run)
{
	return filesystem_shrink(run->volume->path, run->volume->filesystem, mount_point(run),
				 strtoull(run->arguments[2], NULL, 10), CHANGES, &run->detail);
}

static int do_can_shrink(struct run *run)
{
	return filesystem_can_shrink(run->volume->path, run->volume->filesystem, mount_point(run),
				     strtoull(run->arguments[2], NULL, 10), &run->detail);
}

static int do_grow(struct run *run)
{
	return filesystem_grow(run->volume->path, run->volume->filesystem, mount_point(run),
			       &run->detail);
}

static int do_format(struct run *run)
{
	return filesystem_make(run->volume->path, run->arguments[2], run->arguments[3],
			       run->arguments[4], &run->detail);
}

static int do_unmount(struct run *run)
{
	return filesystem_unmount_all(run->volume);
}

static int do_remount(struct run *run)
{
	int r = filesystem_unmount_all(run->volume);

	return r != 0 ? r : filesystem_mount_all(run->volume->path, run->volume);
}

static int do_holders(struct run *run)
{
	struct json_object *array = json_object_new_array();
	struct holders holders;
	int r = holders_find(run->volume, &holders);

	for (size_t i = 0; r == 0 && i < holders.n; i++) {
		struct json_object *object = json_object_new_object();

		json_set_int(object, "pid", holders.holders[i].pid);
		json_set_string(object, "name", holders.holders[i].name);
		json_set_string(object, "what", holders.holders[i].what);
		json_object_array_add(array, object);
	}
	if (r == 0)
		holders_clear(&holders);
	json_set(run->out, "holders", array);
	return r;
}

static int do_dump(struct run *run)
{
	_cleanup_(freep) char *text = NULL;
	int r = table_dump(run->volume->path, &text);

	json_set_string(run->out, "table", text);
	return r;
}

/* clang-format off */
static const struct {
	const char *name;
	int arguments;
	int (*run)(struct run *run);
} verbs[] = {
	{ "list",       0, do_list },
	{ "room",       1, do_room },
	{ "make-room",  1, do_make_room },
	{ "finish-room", 1, do_finish_room },
	{ "check",      1, do_check },
	{ "can-shrink", 2, do_can_shrink },
	{ "shrink",     2, do_shrink },
	{ "can-shrink-tail", 2, do_can_shrink_tail },
	{ "shrink-tail", 2, do_shrink_tail },
	{ "finish-tail", 1, do_finish_tail },
	{ "lower",      2, do_lower },
	{ "grow",       1, do_grow },
	{ "format",     4, do_format },
	{ "unmount",    1, do_unmount },
	{ "remount",    1, do_remount },
	{ "holders",    1, do_holders },
	{ "dump",       1, do_dump },
};
/* clang-format on */

int main(int argc, char *argv[])
{
	_cleanup_(json_putp) struct json_object *out = json_object_new_object();
	_cleanup_(inventory_freep) struct inventory *inventory = NULL;
	struct run run = { .arguments = argv + 1, .out = out };
	struct stat status;

	log_set_from_environment();
	if (argc < 2 || inventory_read(&inventory) < 0)
		return 2;
	run.inventory = inventory;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		int r;

		if (strcmp(verbs[i].name, argv[1]) != 0)
			continue;
		if (argc != verbs[i].arguments + 2)
			return 2;
		if (argc > 2 && (stat(argv[2], &status) < 0 ||
				 !(run.volume = inventory_find_devno(inventory, status.st_rdev))))
			return 3;
		r = verbs[i].run(&run);
		json_set_int(out, "result", r);
		json_set_string(out, "detail", run.detail);
		free(run.detail);
		puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PLAIN |
								 JSON_C_TO_STRING_NOSLASHESCAPE));
		return 0;
	}
	return 2;
}
