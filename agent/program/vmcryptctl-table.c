/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptctl-table.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

#define GAP        2
#define STYLE_HEAD "\033[1m"
#define STYLE_OFF  "\033[0m"
#define URL_PREFIX "https://"

void table_clear(struct table *table)
{
	for (size_t i = 0; i < table->n_cells; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){ 0 };
}

/** table_add() - the next cell, cleaned; NULL or empty shows as "-". Return: 0 or -ENOMEM. */
int table_add(struct table *table, const char *text)
{
	char **larger;
	int r;

	larger = reallocarray(table->cells, table->n_cells + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	table->cells = larger;
	r = text_clean(text && *text ? text : "-", TABLE_CELL_MAX, &larger[table->n_cells]);
	if (r < 0)
		return r;
	table->n_cells++;
	return 0;
}

/* Letters as a terminal counts them, near enough: bytes that do not continue a UTF-8 letter. */
static size_t letters(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

/** table_print() - columns as wide as what is in them; @has_style: the heading stands out */
void table_print(const struct table *table, bool has_style, FILE *out)
{
	for (size_t i = 0; i < table->n_cells; i++) {
		size_t column = i % table->n_columns, width = 0;
		bool is_head = has_style && i < table->n_columns;

		for (size_t j = column; j < table->n_cells; j += table->n_columns)
			if (letters(table->cells[j]) > width)
				width = letters(table->cells[j]);
		(void)fprintf(out, "%s%s%s", is_head ? STYLE_HEAD : "", table->cells[i],
			      is_head ? STYLE_OFF : "");
		if (column + 1 == table->n_columns)
			(void)fputc('\n', out);
		else
			(void)fprintf(out, "%*s", (int)(width - letters(table->cells[i]) + GAP),
				      "");
	}
}

/**
 * text_clean() - a copy that a terminal shows and does not obey
 * @max_letters: longer text is cut
 *
 * Return: 0 or -ENOMEM.
 */
int text_clean(const char *text, size_t max_letters, char **ret)
{
	size_t n = 0;
	char *copy;

	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	for (char *at = copy; *at; at++) {
		unsigned char c = (unsigned char)*at;

		if ((c & 0xc0) != 0x80 && n++ == max_letters) {
			*at = '\0';
			break;
		}
		/* C0, DEL, and C1 as UTF-8 writes it */
		if (c < 0x20 || c == 0x7f)
			*at = '?';
		if (c == 0xc2 && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] < 0xa0)
			at[0] = at[1] = '?';
	}
	*ret = copy;
	return 0;
}

/** text_size() - "37.5 GiB" */
void text_size(uint64_t bytes, char *out, size_t out_bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t i = 0;

	while (value >= 1024 && i + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		i++;
	}
	if (i == 0)
		(void)snprintf(out, out_bytes, "%" PRIu64 " B", bytes);
	else
		(void)snprintf(out, out_bytes, value < 10 ? "%.1f %s" : "%.0f %s", value, units[i]);
}

/** text_duration() - "2 h 05 min"; negative is unknown and gives "-" */
void text_duration(int64_t seconds, char *out, size_t out_bytes)
{
	if (seconds < 0)
		(void)snprintf(out, out_bytes, "-");
	else if (seconds < 60)
		(void)snprintf(out, out_bytes, "%d s", (int)seconds);
	else if (seconds < 3600)
		(void)snprintf(out, out_bytes, "%d min", (int)(seconds / 60));
	else if (seconds < 48 * 3600)
		(void)snprintf(out, out_bytes, "%d h %02d min", (int)(seconds / 3600),
			       (int)(seconds / 60 % 60));
	else
		(void)snprintf(out, out_bytes, "%" PRId64 " d", seconds / (24 * 3600));
}

static int table_head(struct table *table, const char *const names[], size_t n)
{
	int r = 0;

	table->n_columns = n;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = table_add(table, names[i]);
	return r;
}

static int add_size(struct table *table, struct json_object *object, const char *name,
		    const char *suffix)
{
	int64_t bytes = json_get_int(object, name, -1);
	char size[32], text[40];

	if (bytes < 0)
		return table_add(table, NULL);
	text_size((uint64_t)bytes, size, sizeof(size));
	(void)snprintf(text, sizeof(text), "%s%s", size, suffix);
	return table_add(table, text);
}

static int add_percent(struct table *table, struct json_object *volume)
{
	struct json_object *value;
	char text[32];
	double percent;

	if (!json_object_object_get_ex(volume, "percent", &value) ||
	    !(json_object_is_type(value, json_type_double) ||
	      json_object_is_type(value, json_type_int)))
		return table_add(table, NULL);
	percent = json_object_get_double(value);
	/* 100 is said only when it is all */
	if (percent > 99.9 && percent < 100)
		percent = 99.9;
	(void)snprintf(text, sizeof(text), percent >= 0 && percent <= 100 ? "%.1f %%" : "?",
		       percent);
	return table_add(table, text);
}

/* "kv1/NAME" for https://kv1.vault.azure.net/secrets/NAME/VERSION; anything else as it is. */
static int add_key(struct table *table, const char *key)
{
	_cleanup_(freep) char *text = NULL;
	const char *host, *object = NULL;
	int slashes = 0, r;

	if (!key || strncmp(key, URL_PREFIX, strlen(URL_PREFIX)) != 0)
		return table_add(table, key);
	host = key + strlen(URL_PREFIX);
	for (const char *at = host; *at && slashes < 2; at++)
		if (*at == '/' && ++slashes == 2)
			object = at + 1;
	if (!object)
		return table_add(table, key);
	r = text_format(&text, "%.*s/%.*s", (int)strcspn(host, "./"), host,
			(int)strcspn(object, "/"), object);
	return r < 0 ? r : table_add(table, text);
}

static const char *first_mount(struct json_object *volume)
{
	struct json_object *mounts = json_get_array(volume, "mounts"), *first;

	if (!mounts || json_object_array_length(mounts) == 0)
		return NULL;
	first = json_object_array_get_idx(mounts, 0);
	return json_object_is_type(first, json_type_string) ? json_object_get_string(first) : NULL;
}

/* What a person means by volume: with data of theirs in it, encrypted or not. */
static bool is_shown(struct json_object *volume)
{
	const char *role = json_get_string(volume, "role"), *uuid = json_get_string(volume, "uuid");

	if (json_get_string(volume, "header_uuid"))
		return true;
	return uuid && role && (strcmp(role, "data") == 0 || strcmp(role, "os") == 0) &&
	       json_get_string(volume, "filesystem");
}

static int add_status_row(struct table *table, struct json_object *volume)
{
	const char *uuid = json_get_string(volume, "uuid");
	char left[32];
	int r;

	text_duration(json_get_int(volume, "left_s", -1), left, sizeof(left));
	r = table_add(table, uuid ? uuid : json_get_string(volume, "header_uuid"));
	if (r == 0)
		r = table_add(table, first_mount(volume));
	if (r == 0)
		r = add_size(table, volume, "size_bytes", "");
	if (r == 0)
		r = table_add(table, json_get_string(volume, "state"));
	if (r == 0)
		r = add_percent(table, volume);
	if (r == 0)
		r = add_size(table, volume, "rate_bytes", "/s");
	if (r == 0)
		r = table_add(table, left);
	if (r == 0)
		r = table_add(table, json_get_string(volume, "provider"));
	if (r == 0)
		r = add_key(table, json_get_string(volume, "key"));
	if (r == 0)
		r = table_add(table, json_get_string(volume, "header"));
	return r;
}

static void print_word(const char *label, struct json_object *reply, const char *name, FILE *out)
{
	_cleanup_(freep) char *text = NULL;
	const char *word = json_get_string(reply, name);

	if (text_clean(word ? word : "Unknown", TABLE_CELL_MAX, &text) == 0)
		(void)fprintf(out, "%s %s\n", label, text);
}

/* Jobs that only a boot brings on. */
static void print_restarts(struct json_object *reports, FILE *out)
{
	for (size_t i = 0; reports && i < json_object_array_length(reports); i++) {
		struct json_object *report = json_object_array_get_idx(reports, i);
		_cleanup_(freep) char *text = NULL;
		const char *job = json_get_string(report, "job");

		if (json_get_bool(report, "restart", false) &&
		    text_clean(job ? job : "", TABLE_CELL_MAX, &text) == 0)
			(void)fprintf(out, "Job %s waits for a reboot.\n", text);
	}
}

/** table_print_status() - the reply of Show: the two words, then the volumes. Return: 0 or -ENOMEM.
 */
int table_print_status(struct json_object *reply, bool has_style, FILE *out)
{
	static const char *const names[] = { "VOLUME", "MOUNT", "SIZE",     "STATE", "DONE",
					     "RATE",   "LEFT",  "PROVIDER", "KEY",   "HEADER" };
	_cleanup_(table_clear) struct table table = { 0 };
	struct json_object *volumes = json_get_array(reply, "volumes");
	size_t n = volumes ? json_object_array_length(volumes) : 0;
	int r;

	print_word("OS volume:   ", reply, "os", out);
	print_word("Data volumes:", reply, "data", out);
	print_restarts(json_get_array(reply, "reports"), out);
	r = table_head(&table, names, ARRAY_SIZE(names));
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct json_object *volume = json_object_array_get_idx(volumes, i);

		if (is_shown(volume))
			r = add_status_row(&table, volume);
	}
	if (r < 0)
		return r;
	if (table.n_cells > table.n_columns) {
		(void)fputc('\n', out);
		table_print(&table, has_style, out);
	}
	return 0;
}

static int add_volume_row(struct table *table, struct json_object *volume)
{
	static const char *const texts[] = { "device", "kind", "filesystem", "uuid" };
	const char *reason = json_get_string(volume, "reason");
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++)
		r = table_add(table, json_get_string(volume, texts[i]));
	if (r == 0)
		r = table_add(table, first_mount(volume));
	if (r == 0)
		r = add_size(table, volume, "size_bytes", "");
	if (r == 0)
		r = table_add(table, json_get_bool(volume, "selected", false) ? "yes" : "no");
	if (r == 0)
		r = table_add(table, reason ? reason : json_get_string(volume, "excuse"));
	return r;
}

/** table_print_volumes() - the reply of Volumes, with why each is not selected. Return: 0 or
 * -ENOMEM. */
int table_print_volumes(struct json_object *reply, bool has_style, FILE *out)
{
	static const char *const names[] = { "DEVICE", "KIND", "FILESYSTEM", "VOLUME",
					     "MOUNT",  "SIZE", "SELECTED",   "WHY NOT" };
	_cleanup_(table_clear) struct table table = { 0 };
	struct json_object *volumes = json_get_array(reply, "volumes");
	size_t n = volumes ? json_object_array_length(volumes) : 0;
	int r;

	r = table_head(&table, names, ARRAY_SIZE(names));
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_volume_row(&table, json_object_array_get_idx(volumes, i));
	if (r == 0)
		table_print(&table, has_style, out);
	return r;
}

static int add_plan_row(struct table *table, struct json_object *plan)
{
	int64_t sector_bytes = json_get_int(plan, "sector_bytes", 0);
	char sector[32];
	int r;

	(void)snprintf(sector, sizeof(sector), "%" PRId64 " B", sector_bytes);
	r = table_add(table, json_get_string(plan, "uuid"));
	if (r == 0)
		r = table_add(table, json_get_string(plan, "mount"));
	if (r == 0)
		r = add_size(table, plan, "size_bytes", "");
	if (r == 0)
		r = table_add(table, json_get_string(plan, "action"));
	if (r == 0)
		r = table_add(table, json_get_string(plan, "room"));
	if (r == 0)
		r = table_add(table, sector_bytes > 0 ? sector : NULL);
	return r;
}

/** table_print_plan() - what would be done with each volume. Return: 0 or -ENOMEM. */
int table_print_plan(struct json_object *plan, bool has_style, FILE *out)
{
	static const char *const names[] = {
		"VOLUME", "MOUNT", "SIZE", "ACTION", "ROOM", "SECTOR"
	};
	_cleanup_(table_clear) struct table table = { 0 };
	int r;

	r = table_head(&table, names, ARRAY_SIZE(names));
	for (size_t i = 0; r == 0 && i < json_object_array_length(plan); i++)
		r = add_plan_row(&table, json_object_array_get_idx(plan, i));
	if (r == 0)
		table_print(&table, has_style, out);
	return r;
}

static int add_snapshot_row(struct table *table, struct json_object *snapshot)
{
	static const char *const texts[] = { "name", "time", "kind" };
	struct json_object *volumes = json_get_array(snapshot, "volumes");
	char count[32];
	int r = 0;

	(void)snprintf(count, sizeof(count), "%zu",
		       volumes ? json_object_array_length(volumes) : (size_t)0);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++)
		r = table_add(table, json_get_string(snapshot, texts[i]));
	if (r == 0)
		r = table_add(table, count);
	if (r == 0)
		r = add_size(table, snapshot, "size_bytes", "");
	return r;
}

/** table_print_snapshots() - the reply of SnapshotList. Return: 0 or -ENOMEM. */
int table_print_snapshots(struct json_object *reply, bool has_style, FILE *out)
{
	static const char *const names[] = { "NAME", "TIME", "KIND", "VOLUMES", "SIZE" };
	_cleanup_(table_clear) struct table table = { 0 };
	struct json_object *snapshots = json_get_array(reply, "snapshots");
	size_t n = snapshots ? json_object_array_length(snapshots) : 0;
	int r;

	r = table_head(&table, names, ARRAY_SIZE(names));
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_snapshot_row(&table, json_object_array_get_idx(snapshots, i));
	if (r == 0)
		table_print(&table, has_style, out);
	return r;
}
