/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/fstab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/fstab-line.h"

static void entry_clear(struct fstab_entry *entry)
{
	free(entry->original);
	free(entry->spec);
	free(entry->target);
	free(entry->type);
	free(entry->options);
}

void fstab_entries_clear(struct fstab_entries *entries)
{
	for (size_t i = 0; i < entries->n; i++)
		entry_clear(&entries->entries[i]);
	free(entries->entries);
	*entries = (struct fstab_entries){ 0 };
}

static int take_entry(const struct table_line *line, struct fstab_entries *entries)
{
	struct table_field options = fstab_line_options(line);
	struct fstab_entry *larger, *entry;

	larger = reallocarray(entries->entries, entries->n + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	entries->entries = larger;
	entry = &larger[entries->n++];
	*entry = (struct fstab_entry){
		.line = line->number,
		.original = strndup(line->at, line->size),
		.spec = table_field_decode(&line->fields[FSTAB_SPEC]),
		.target = table_field_decode(&line->fields[FSTAB_TARGET]),
		.type = table_field_decode(&line->fields[FSTAB_TYPE]),
		.options = options.size > 0 ? table_field_decode(&options) : strdup("defaults"),
	};
	return entry->original && entry->spec && entry->target && entry->type && entry->options
		       ? 0
		       : -ENOMEM;
}

static char *encode_spec(const char *spec)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	(void)table_field_encode(out, spec);
	return table_finish(out, &text);
}

static int find_text(const char *text, const struct fstab_search *search, struct fstab_entries *ret)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries entries = { 0 };
	struct table_line line = { 0 };

	for (const char *at = text; table_next(&at, &line);) {
		int r = fstab_line_is_meant(search, &line);

		if (r == 1)
			r = take_entry(&line, &entries);
		if (r < 0)
			return r;
	}
	*ret = entries;
	entries = (struct fstab_entries){ 0 };
	return 0;
}

static int encrypt_text(const char *text, const struct fstab_search *search, const char *spec,
			char **ret, struct fstab_entries *ret_before)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 };
	_cleanup_(freep) char *raw = NULL, *changed = NULL;
	struct table_field raw_spec = { 0 };
	struct table_line line = { 0 };
	size_t size;
	FILE *out;
	int r = 0;

	if (spec) {
		if (*spec == '\0')
			return -EINVAL;
		raw = encode_spec(spec);
		if (!raw)
			return -ENOMEM;
		raw_spec = (struct table_field){ raw, strlen(raw) };
	}
	out = open_memstream(&changed, &size);
	if (!out)
		return -ENOMEM;
	for (const char *at = text; r == 0 && table_next(&at, &line);) {
		_cleanup_(freep) char *now = NULL;

		r = fstab_line_is_meant(search, &line);
		if (r == 1) {
			now = fstab_line_encrypted(&line, spec ? &raw_spec : NULL);
			r = now ? 0 : -ENOMEM;
		}
		if (now && (strlen(now) != line.size || memcmp(now, line.at, line.size) != 0))
			r = take_entry(&line, &before);
		if (now)
			(void)fputs(now, out);
		else
			table_put(out, line.at, line.at + line.size);
		table_put(out, line.at + line.size, line.at + line.size + line.ending_bytes);
	}
	changed = table_finish(out, &changed);
	if (r < 0 || !changed)
		return r < 0 ? r : -ENOMEM;

	r = before.n > 0;
	*ret = steal(changed);
	*ret_before = before;
	before = (struct fstab_entries){ 0 };
	return r;
}

/**
 * fstab_encrypt_text() - as fstab_encrypt(), on a text; specs are compared as they stand
 * @ret:        the new text; owned by the caller
 * @ret_before: the entries that were changed, as they were
 *
 * Return: 1 when something changed, 0 when not, -EINVAL (empty @spec) or -ENOMEM.
 */
int fstab_encrypt_text(const char *text, const struct fstab_device *device, const char *spec,
		       char **ret, struct fstab_entries *ret_before)
{
	return encrypt_text(text, &(struct fstab_search){ device, false }, spec, ret, ret_before);
}

/* where the first nofail that we may have added stands; none when the entry had one before */
static const char *find_added(const struct table_line *line, const struct table_line *original)
{
	struct table_field before = fstab_line_options(original), now = fstab_line_options(line);

	if (!fstab_line_may_fail(original) || fstab_option_find(&before, "nofail") ||
	    fstab_option_find(&before, "noauto"))
		return NULL;
	return fstab_option_find(&now, "nofail");
}

/* a line that a person has edited since: only the spec and our nofail go back */
static void put_partly(FILE *out, const struct table_line *line, const struct table_line *original)
{
	const struct table_field *spec = &line->fields[FSTAB_SPEC],
				 *old = &original->fields[FSTAB_SPEC];
	const char *added = find_added(line, original), *end = line->at + line->size;
	struct table_field options = fstab_line_options(line);

	table_put(out, line->at, spec->at);
	table_put(out, old->at, old->at + old->size);
	if (!added) {
		table_put(out, spec->at + spec->size, end);
		return;
	}
	if (options.size == strlen("nofail")) {
		table_put(out, spec->at + spec->size, added);
		(void)fputs("defaults", out);
		table_put(out, added + strlen("nofail"), end);
		return;
	}
	/* with the comma before it, or the one behind when it comes first */
	if (added > options.at) {
		table_put(out, spec->at + spec->size, added - 1);
		table_put(out, added + strlen("nofail"), end);
	} else {
		table_put(out, spec->at + spec->size, added);
		table_put(out, added + strlen("nofail,"), end);
	}
}

/* 1 when the line is what fstab_encrypt() made of the original, 0 when it was edited since, or
 * -ENOMEM */
static int is_untouched(const struct table_line *line, const struct table_line *original)
{
	_cleanup_(freep) char *made = fstab_line_encrypted(original, &line->fields[FSTAB_SPEC]);

	if (!made)
		return -ENOMEM;
	return strlen(made) == line->size && memcmp(made, line->at, line->size) == 0;
}

/* the line of @before's entry @i, taken apart again; false when it is none */
static bool take_apart(const struct fstab_entries *before, size_t i, struct table_line *ret)
{
	const char *at = before->entries[i].original;

	*ret = (struct table_line){ 0 };
	return table_next(&at, ret) && ret->n > FSTAB_TYPE;
}

/* How sure one can be of which entry a line was; asked of all lines in this order. */
enum likeness {
	LIKENESS_IN_PLACE, /* what we made of it, at the same line */
	LIKENESS_MADE,     /* what we made of it, elsewhere */
	LIKENESS_TARGET,   /* of the same target, and edited since */
};

/**
 * find_original() - which of the entries before became this line?
 * @lines: for each entry before the number of the line that it was given to, or 0
 *
 * Return: 0 or -ENOMEM; an entry that fits has the line's number in @lines then.
 */
static int find_original(const struct table_line *line, const struct fstab_entries *before,
			 enum likeness likeness, size_t *lines)
{
	_cleanup_(freep) char *target = table_field_decode(&line->fields[FSTAB_TARGET]);

	if (!target)
		return -ENOMEM;
	for (size_t i = 0; i < before->n; i++)
		if (lines[i] == line->number)
			return 0;
	for (size_t i = 0; i < before->n; i++) {
		struct table_line original;
		int r = 1;

		if (lines[i] != 0 || strcmp(before->entries[i].target, target) != 0 ||
		    !take_apart(before, i, &original))
			continue;
		if (likeness == LIKENESS_IN_PLACE && before->entries[i].line != line->number)
			continue;
		if (likeness != LIKENESS_TARGET)
			r = is_untouched(line, &original);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		lines[i] = line->number;
		return 0;
	}
	return 0;
}

/* a line that somebody has added since, by the mapping, which goes: it finds the filesystem by its
 * UUID */
static int put_added(FILE *out, const struct table_line *line, const struct fstab_device *device)
{
	const struct table_field *spec = &line->fields[FSTAB_SPEC];
	const struct fstab_search mapping = { &(struct fstab_device){ .mapping = device->mapping },
					      false };
	int r = device->uuid ? fstab_line_is_meant(&mapping, line) : 0;

	if (r < 0)
		return r;
	if (r == 0) {
		table_put(out, line->at, line->at + line->size);
		return 0;
	}
	table_put(out, line->at, spec->at);
	(void)fprintf(out, "UUID=%s", device->uuid);
	table_put(out, spec->at + spec->size, line->at + line->size);
	return 0;
}

static int put_restored(FILE *out, const struct table_line *line, const struct fstab_device *device,
			const struct fstab_entries *before, const size_t *lines)
{
	struct table_line original;

	for (size_t i = 0; i < before->n; i++) {
		int r;

		if (lines[i] != line->number || !take_apart(before, i, &original))
			continue;
		r = is_untouched(line, &original);
		if (r < 0)
			return r;
		if (r == 1)
			table_put(out, original.at, original.at + original.size);
		else
			put_partly(out, line, &original);
		return 0;
	}
	return put_added(out, line, device);
}

static int restore_text(const char *text, const struct fstab_search *search,
			const struct fstab_entries *before, char **ret)
{
	_cleanup_(freep) char *changed = NULL;
	_cleanup_(freep) size_t *lines = calloc(before->n + 1, sizeof(*lines));
	struct table_line line = { 0 };
	size_t size;
	FILE *out;
	int r = 0;

	if (!lines)
		return -ENOMEM;
	/* first the lines that nobody touched, so that a copy cannot take their place */
	for (enum likeness likeness = LIKENESS_IN_PLACE; likeness <= LIKENESS_TARGET; likeness++) {
		line = (struct table_line){ 0 };
		for (const char *at = text; table_next(&at, &line);) {
			r = fstab_line_is_meant(search, &line);
			if (r == 1)
				r = find_original(&line, before, likeness, lines);
			if (r < 0)
				return r;
		}
	}

	out = open_memstream(&changed, &size);
	if (!out)
		return -ENOMEM;
	line = (struct table_line){ 0 };
	for (const char *at = text; r >= 0 && table_next(&at, &line);) {
		r = put_restored(out, &line, search->device, before, lines);
		table_put(out, line.at + line.size, line.at + line.size + line.ending_bytes);
	}
	changed = table_finish(out, &changed);
	if (r < 0 || !changed)
		return r < 0 ? r : -ENOMEM;
	r = strcmp(changed, text) != 0;
	*ret = steal(changed);
	return r;
}

/**
 * fstab_restore_text() - as fstab_restore(), on a text; specs are compared as they stand
 * @before: from fstab_encrypt_text(); of several with one target, each is used once
 * @ret:    the new text; owned by the caller
 *
 * Return: 1 when something changed, 0 when not, or -ENOMEM.
 */
int fstab_restore_text(const char *text, const struct fstab_device *device,
		       const struct fstab_entries *before, char **ret)
{
	return restore_text(text, &(struct fstab_search){ device, false }, before, ret);
}

static int read_text(const char *path, char **ret_path, char **ret_text)
{
	int r = table_read(path, FSTAB_MAX_BYTES, ret_path, ret_text);

	return r == -EBADMSG || r == -EFBIG ? FSTAB_E_MALFORMED : r;
}

/**
 * fstab_find() - the entries that name a volume
 * @path:   "/etc/fstab"
 * @device: what it may be called
 * @ret:    free with fstab_entries_clear()
 *
 * Return: 0 (also when there is no such file), FSTAB_E_MALFORMED or -errno.
 */
int fstab_find(const char *path, const struct fstab_device *device, struct fstab_entries *ret)
{
	_cleanup_(freep) char *own_path = NULL, *text = NULL;
	int r;

	r = read_text(path, &own_path, &text);
	if (r != 0)
		return r;
	return find_text(text, &(struct fstab_search){ device, true }, ret);
}

/**
 * fstab_encrypt() - point the entries of a volume at @spec, and let a boot go on without it
 * @path:       "/etc/fstab"; replaced whole, when there is something to change
 * @device:     what the volume may be called; with its mapping, a second call changes nothing
 * @spec:       new first field, not yet encoded; NULL keeps what stands there
 * @ret_before: the entries that were changed, as they were; free with fstab_entries_clear()
 *
 * Return: 0, FSTAB_E_MALFORMED, -EINVAL or -errno (-EROFS on a read-only /etc); on any but 0 the
 * file is as before.
 */
int fstab_encrypt(const char *path, const struct fstab_device *device, const char *spec,
		  struct fstab_entries *ret_before)
{
	_cleanup_(freep) char *own_path = NULL, *text = NULL, *changed = NULL;
	_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 };
	int r;

	r = read_text(path, &own_path, &text);
	if (r != 0)
		return r;
	r = encrypt_text(text, &(struct fstab_search){ device, true }, spec, &changed, &before);
	if (r == 1)
		r = file_write_atomic(own_path, changed, strlen(changed), 0644);
	if (r < 0)
		return r;
	*ret_before = before;
	before = (struct fstab_entries){ 0 };
	return 0;
}

/**
 * fstab_restore() - put the entries of a volume back
 * @device: what the volume may be called, with the mapping that the entries may name now; without a
 *          UUID, entries that @before knows nothing of are left alone
 * @before: from fstab_encrypt()
 *
 * Return: 0, FSTAB_E_MALFORMED or -errno; on any but 0 the file is as before.
 */
int fstab_restore(const char *path, const struct fstab_device *device,
		  const struct fstab_entries *before)
{
	_cleanup_(freep) char *own_path = NULL, *text = NULL, *changed = NULL;
	int r;

	r = read_text(path, &own_path, &text);
	if (r != 0)
		return r;
	r = restore_text(text, &(struct fstab_search){ device, true }, before, &changed);
	if (r <= 0)
		return r;
	return file_write_atomic(own_path, changed, strlen(changed), 0644);
}
