/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/extents.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"

#define TOOL_TIMEOUT_S 120 /* LVM waits for its lock and reads every device */
#define NOT_INSTALLED  127 /* of process_run() */
#define PARENTS_MAX    64  /* physical volumes of one logical volume */

/* lv_layout of what lvextend extends by plain extents (lvs(8)) */
static const char *const layouts[] = { "linear", "striped" };

/* The report lies between warnings. */
static int parse_report(const char *output, struct json_object **ret)
{
	const char *begin = strchr(output, '{'), *end = strrchr(output, '}');

	if (!begin || !end || end < begin)
		return -EPROTO;
	return json_parse(begin, (size_t)(end - begin) + 1, ret);
}

static struct json_object *first(struct json_object *object, const char *name)
{
	struct json_object *array = json_get_array(object, name);

	return array && json_object_array_length(array) == 1 ? json_object_array_get_idx(array, 0)
							     : NULL;
}

static int extent_size(const struct volume *volume, uint64_t *ret_bytes)
{
	const char *const argv[] = { "lvs",        "--reportformat",
				     "json",       "--units",
				     "b",          "--nosuffix",
				     "-o",         "lv_layout,lv_role,vg_extent_size",
				     volume->path, NULL };
	_cleanup_(json_putp) struct json_object *report = NULL;
	_cleanup_(freep) char *output = NULL;
	struct json_object *row;
	const char *layout, *role;
	bool is_plain = false;
	int status, r;

	r = process_run(argv, TOOL_TIMEOUT_S, &status, &output);
	if (r < 0)
		return r;
	if (status == NOT_INSTALLED)
		return EXTENTS_E_NO_TOOL;
	r = status == 0 ? parse_report(output, &report) : -EPROTO;
	if (r < 0)
		return r;
	row = first(first(report, "report"), "lv");
	layout = json_get_string(row, "lv_layout");
	role = json_get_string(row, "lv_role");
	if (!layout || !role)
		return -EPROTO;
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
		is_plain |= strcmp(layout, layouts[i]) == 0;
	if (!is_plain || strcmp(role, "public") != 0)
		return EXTENTS_E_UNSUPPORTED;
	return number_parse_u64(json_get_string(row, "vg_extent_size"), 512, UINT32_MAX, ret_bytes);
}

static int extend(const struct inventory *inventory, const struct volume *volume,
		  uint64_t need_bytes, bool is_test)
{
	const char *argv[PARENTS_MAX + 8] = { "lvextend" };
	_cleanup_(freep) char *output = NULL, *extents = NULL;
	uint64_t extent_bytes;
	size_t n = 1;
	int status, r;

	r = extent_size(volume, &extent_bytes);
	if (r != 0)
		return r;
	if (volume->n_parents == 0 || volume->n_parents > PARENTS_MAX)
		return EXTENTS_E_UNSUPPORTED;
	r = text_format(&extents, "+%llu",
			(unsigned long long)((need_bytes + extent_bytes - 1) / extent_bytes));
	if (r < 0)
		return r;
	if (is_test)
		argv[n++] = "--test";
	argv[n++] = "--extents";
	argv[n++] = extents;
	argv[n++] = volume->path;
	for (size_t i = 0; i < volume->n_parents; i++)
		argv[n++] = inventory->volumes[volume->parents[i]].path;
	r = process_run(argv, TOOL_TIMEOUT_S, &status, &output);
	if (r < 0)
		return r;
	if (status == NOT_INSTALLED)
		return EXTENTS_E_NO_TOOL;
	if (status != 0)
		log_debug("Logical volume %s: %s.", volume->path, output);
	return status == 0 ? 0 : EXTENTS_E_NONE;
}

/**
 * extents_find() - could a logical volume grow? Changes nothing.
 *
 * Return: 0, EXTENTS_E_NONE, EXTENTS_E_UNSUPPORTED, EXTENTS_E_NO_TOOL or -errno.
 */
int extents_find(const struct inventory *inventory, const struct volume *volume,
		 uint64_t need_bytes)
{
	return extend(inventory, volume, need_bytes, true);
}

/** extents_add() - grow a logical volume, mounted or not. Return: as extents_find(). */
int extents_add(const struct inventory *inventory, const struct volume *volume, uint64_t need_bytes)
{
	return extend(inventory, volume, need_bytes, false);
}
