/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/crypttab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/table.h"

/* Order of the fields. Source: crypttab(5). */
enum { FIELD_NAME, FIELD_DEVICE, FIELD_KEY, FIELD_OPTIONS };

#define SWAP_OPTIONS "swap,cipher=aes-xts-plain64,size=512,nofail"
#define INITRD       "x-initrd.attach"
#define HEADER       "header="

void crypttab_entries_clear(struct crypttab_entries *entries)
{
	for (size_t i = 0; i < entries->n; i++) {
		free(entries->entries[i].name);
		free(entries->entries[i].device);
		free(entries->entries[i].header);
	}
	free(entries->entries);
	*entries = (struct crypttab_entries){ 0 };
}

/* An option of the comma-separated list: the value behind @option when that ends in "=", else the
 * option itself; or nothing. */
static struct table_field find_option(const struct table_line *line, const char *option)
{
	struct table_field none = { NULL, 0 };
	size_t length = strlen(option);
	bool has_value = option[length - 1] == '=';
	const char *at, *end;

	if (line->n <= FIELD_OPTIONS)
		return none;
	at = line->fields[FIELD_OPTIONS].at;
	end = at + line->fields[FIELD_OPTIONS].size;
	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		size_t size = (size_t)((comma ? comma : end) - at);

		if ((has_value ? size > length : size == length) &&
		    strncmp(at, option, length) == 0)
			return has_value ? (struct table_field){ at + length, size - length }
					 : (struct table_field){ at, size };
		at += size + 1;
	}
	return none;
}

static int take_entry(const struct table_line *line, struct crypttab_entries *entries)
{
	struct table_field header = find_option(line, HEADER);
	struct crypttab_entry *larger, *entry;

	larger = reallocarray(entries->entries, entries->n + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	entries->entries = larger;
	entry = &larger[entries->n++];
	*entry = (struct crypttab_entry){
		.name = table_field_decode(&line->fields[FIELD_NAME]),
		.device = table_field_decode(&line->fields[FIELD_DEVICE]),
		.header = header.at ? table_field_decode(&header) : NULL,
		.is_initrd = find_option(line, INITRD).at != NULL,
		.is_swap = find_option(line, "swap").at != NULL,
	};
	return entry->name && entry->device && (entry->header || !header.at) ? 0 : -ENOMEM;
}

static int read_text(const char *path, char **ret_path, char **ret_text)
{
	int r = table_read(path, CRYPTTAB_MAX_BYTES, ret_path, ret_text);

	return r == -EBADMSG || r == -EFBIG ? CRYPTTAB_E_MALFORMED : r;
}

/**
 * crypttab_read() - all entries
 * @ret: free with crypttab_entries_clear()
 *
 * Return: 0 (also when there is no such file), CRYPTTAB_E_MALFORMED or -errno.
 */
int crypttab_read(const char *path, struct crypttab_entries *ret)
{
	_cleanup_(freep) char *own_path = NULL, *text = NULL;
	_cleanup_(crypttab_entries_clear) struct crypttab_entries entries = { 0 };
	struct table_line line = { 0 };
	int r;

	r = read_text(path, &own_path, &text);
	if (r != 0)
		return r;
	for (const char *at = text; table_next(&at, &line);) {
		if (line.n <= FIELD_DEVICE)
			continue;
		r = take_entry(&line, &entries);
		if (r < 0)
			return r;
	}
	*ret = entries;
	entries = (struct crypttab_entries){ 0 };
	return 0;
}

/* systemd reads fields as they stand, Debian's scripts decode them: so nothing that would need an
 * escape */
static bool is_plain(const char *text, const char *refused)
{
	if (*text == '\0' || *text == '#')
		return false;
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || *text == 0x7f || strchr(refused, *text))
			return false;
	return true;
}

static bool can_stand(const struct crypttab_entry *entry)
{
	return is_plain(entry->name, "/\\") && is_plain(entry->device, "\\") &&
	       (!entry->header || is_plain(entry->header, ",\\"));
}

static bool is_same_device(const char *a, const char *b)
{
	static const char by_uuid[] = "/dev/disk/by-uuid/";
	const char *uuids[2];
	size_t sizes[2];

	for (int i = 0; i < 2; i++) {
		const char *text = i == 0 ? a : b;

		uuids[i] = table_tag_value(text, "UUID", &sizes[i]);
		if (!uuids[i] && strncmp(text, by_uuid, strlen(by_uuid)) == 0) {
			uuids[i] = text + strlen(by_uuid);
			sizes[i] = strlen(uuids[i]);
		}
	}
	if (uuids[0] && uuids[1])
		return sizes[0] == sizes[1] && strncasecmp(uuids[0], uuids[1], sizes[0]) == 0;
	return strcmp(a, b) == 0;
}

static bool is_same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_line_of(const struct table_line *line, const char *name)
{
	return line->n > FIELD_DEVICE && table_field_is(&line->fields[FIELD_NAME], name);
}

static int find(const char *text, const struct crypttab_entry *entry, bool *ret_is_there)
{
	struct table_line line = { 0 };

	*ret_is_there = false;
	for (const char *at = text; table_next(&at, &line);) {
		_cleanup_(crypttab_entries_clear) struct crypttab_entries found = { 0 };
		int r;

		if (!is_line_of(&line, entry->name))
			continue;
		r = take_entry(&line, &found);
		if (r < 0)
			return r;
		if (!is_same_device(found.entries[0].device, entry->device) ||
		    !is_same_text(found.entries[0].header, entry->header))
			return CRYPTTAB_E_TAKEN;
		*ret_is_there = true;
	}
	return 0;
}

/**
 * crypttab_add_text() - add one line at the end
 * @text:  the table
 * @entry: name, device and header; none may need an escape, and a header no comma
 * @ret:   the new table, equal to @text when the entry stands there; owned by the caller
 *
 * A text without a last newline stays one, so that crypttab_remove_text() can give back every byte.
 *
 * Return: 0, CRYPTTAB_E_TAKEN (the name has another device or header), -EINVAL or -ENOMEM.
 * Source: crypttab(5); nofail, noauto and header= are known to systemd and to Debian's scripts.
 */
int crypttab_add_text(const char *text, const struct crypttab_entry *entry, char **ret)
{
	size_t size = strlen(text);
	bool is_whole = size == 0 || text[size - 1] == '\n', is_there;
	char *copy;
	int r;

	if (!can_stand(entry))
		return -EINVAL;
	r = find(text, entry, &is_there);
	if (r != 0)
		return r;
	if (!is_there && entry->is_swap)
		return text_format(ret, "%s%s%s %s /dev/urandom " SWAP_OPTIONS "%s", text,
				   is_whole ? "" : "\n", entry->name, entry->device,
				   is_whole ? "\n" : "");
	if (!is_there)
		return text_format(ret, "%s%s%s %s none luks,noauto,nofail%s%s%s%s", text,
				   is_whole ? "" : "\n", entry->name, entry->device,
				   entry->is_initrd ? "," INITRD : "",
				   entry->header ? "," HEADER : "",
				   entry->header ? entry->header : "", is_whole ? "\n" : "");
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	*ret = copy;
	return 0;
}

/* The options as they stand, but for the two that the entry decides. */
static void put_options(FILE *out, struct table_field options, const struct crypttab_entry *entry)
{
	const char *at = options.at, *end = options.at + options.size, *comma = "";
	bool is_initrd = false;

	while (at < end) {
		const char *next = memchr(at, ',', (size_t)(end - at));
		struct table_field option = { at, (size_t)((next ? next : end) - at) };
		bool is_attach = table_field_is(&option, INITRD);

		at += option.size + 1;
		if ((is_attach && !entry->is_initrd) ||
		    (option.size >= strlen(HEADER) &&
		     memcmp(option.at, HEADER, strlen(HEADER)) == 0))
			continue;
		is_initrd |= is_attach;
		(void)fputs(comma, out);
		table_put(out, option.at, option.at + option.size);
		comma = ",";
	}
	if (*comma == '\0') {
		(void)fputs("luks", out);
		comma = ",";
	}
	if (entry->is_initrd && !is_initrd)
		(void)fprintf(out, "%s" INITRD, comma);
	if (entry->header)
		(void)fprintf(out, "%s" HEADER "%s", comma, entry->header);
}

static void put_pointed(FILE *out, const struct table_line *line,
			const struct crypttab_entry *entry)
{
	const struct table_field *device = &line->fields[FIELD_DEVICE];
	const char *end = line->at + line->size, *at = device->at + device->size;
	struct table_field options = { end, 0 };

	table_put(out, line->at, device->at);
	(void)fputs(entry->device, out);
	if (line->n > FIELD_OPTIONS)
		options = line->fields[FIELD_OPTIONS];
	table_put(out, at, options.at);
	if (line->n <= FIELD_OPTIONS)
		(void)fputs(line->n <= FIELD_KEY ? " none " : " ", out);
	put_options(out, options, entry);
	table_put(out, options.at + options.size, end);
}

/* Does the line say all that the entry says? Return: 1, 0 or -ENOMEM. */
static int says(const struct table_line *line, const struct crypttab_entry *entry)
{
	_cleanup_(crypttab_entries_clear) struct crypttab_entries found = { 0 };
	int r = take_entry(line, &found);

	if (r < 0)
		return r;
	return is_same_device(found.entries[0].device, entry->device) &&
	       is_same_text(found.entries[0].header, entry->header) &&
	       found.entries[0].is_initrd == entry->is_initrd;
}

/**
 * crypttab_point_text() - an entry gets another device, header and time to be opened
 * @entry: its name says which; as for crypttab_add_text(), which adds it where there is none
 * @ret:   the new table; owned by the caller
 *
 * Its other options, and all other bytes, stay.
 *
 * Return: 0, -EINVAL or -ENOMEM.
 */
int crypttab_point_text(const char *text, const struct crypttab_entry *entry, char **ret)
{
	_cleanup_(freep) char *changed = NULL;
	struct table_line line = { 0 };
	bool is_there = false;
	size_t size;
	FILE *out;
	int r = 0;

	if (!can_stand(entry))
		return -EINVAL;
	out = open_memstream(&changed, &size);
	if (!out)
		return -ENOMEM;
	for (const char *at = text; r >= 0 && table_next(&at, &line);) {
		bool is_meant = is_line_of(&line, entry->name);

		is_there |= is_meant;
		r = is_meant ? says(&line, entry) : 1;
		if (r == 0)
			put_pointed(out, &line, entry);
		else
			table_put(out, line.at, line.at + line.size);
		table_put(out, line.at + line.size, line.at + line.size + line.ending_bytes);
	}
	changed = table_finish(out, &changed);
	if (r < 0 || !changed)
		return r < 0 ? r : -ENOMEM;
	if (!is_there)
		return crypttab_add_text(text, entry, ret);
	*ret = steal(changed);
	return 0;
}

/**
 * crypttab_remove_text() - drop every line with this name
 * @ret: the new table, equal to @text when there is none; owned by the caller
 *
 * Return: 0 or -ENOMEM.
 */
int crypttab_remove_text(const char *text, const char *name, char **ret)
{
	struct table_line line = { 0 };
	char *left = malloc(strlen(text) + 1), *out = left;

	if (!left)
		return -ENOMEM;
	for (const char *at = text; table_next(&at, &line);) {
		size_t size = line.size + line.ending_bytes;

		if (is_line_of(&line, name)) {
			/* the last line, without an end of its own: the newline before it is ours
			 * too */
			if (line.ending_bytes == 0 && out > left)
				out--;
			continue;
		}
		memcpy(out, line.at, size);
		out += size;
	}
	*out = '\0';
	*ret = left;
	return 0;
}

static int edit(const char *path, const struct crypttab_entry *entry,
		int (*edit_text)(const char *text, const struct crypttab_entry *entry, char **ret))
{
	_cleanup_(freep) char *own_path = NULL, *text = NULL, *changed = NULL;
	int r;

	r = read_text(path, &own_path, &text);
	if (r != 0)
		return r;
	r = edit_text(text, entry, &changed);
	if (r != 0 || strcmp(text, changed) == 0)
		return r;
	return file_write_atomic(own_path, changed, strlen(changed), 0600);
}

/**
 * crypttab_add() - add the entry of a volume to the file
 * @path: made with mode 0600 if absent; replaced whole
 *
 * Return: 0 (also when it stands there already), CRYPTTAB_E_MALFORMED, CRYPTTAB_E_TAKEN, -EINVAL or
 * -errno
 * (-EROFS on a read-only /etc); on any but 0 the file is as before.
 */
int crypttab_add(const char *path, const struct crypttab_entry *entry)
{
	return edit(path, entry, crypttab_add_text);
}

/**
 * crypttab_point() - as crypttab_point_text(), in one write: at no moment is there no entry
 *
 * Return: 0 (also when it says so already), CRYPTTAB_E_MALFORMED, -EINVAL or -errno; on any but 0
 * the file is as before.
 */
int crypttab_point(const char *path, const struct crypttab_entry *entry)
{
	return edit(path, entry, crypttab_point_text);
}

/**
 * crypttab_remove() - take the entry of a volume out of the file
 *
 * A file of which nothing is left is removed: before our entry there was none.
 *
 * Return: 0 (also when there is no such entry), CRYPTTAB_E_MALFORMED or -errno.
 */
int crypttab_remove(const char *path, const char *name)
{
	_cleanup_(freep) char *own_path = NULL, *text = NULL, *changed = NULL;
	int r;

	r = read_text(path, &own_path, &text);
	if (r != 0)
		return r;
	r = crypttab_remove_text(text, name, &changed);
	if (r < 0 || strcmp(text, changed) == 0)
		return r;
	if (changed[0] == '\0')
		return file_remove_durably(own_path);
	return file_write_atomic(own_path, changed, strlen(changed), 0600);
}
