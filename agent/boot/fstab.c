/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/fstab.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/table.h"

/* Order of the fields. Source: fstab(5). */
enum { FIELD_SPEC, FIELD_TARGET, FIELD_TYPE, FIELD_OPTIONS };

/* Which entries are meant. Only a real file's specs are looked up below /dev; a text stands for
 * itself. */
struct search {
	const struct fstab_device *device;
	bool resolves;
};

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

/* does udev's name for a link, with \x20 and the like, stand for this value? Source: udev(7),
 * ENV{ID_FS_LABEL_ENC} */
static bool is_encoded(const char *name, const char *value)
{
	for (; *name && *value; value++) {
		unsigned byte;

		if (name[0] == '\\' && name[1] == 'x' &&
		    strspn(name + 2, "0123456789abcdefABCDEF") >= 2 &&
		    sscanf(name + 2, "%2x", &byte) == 1) {
			if (byte != (unsigned char)*value)
				return false;
			name += 4;
		} else if (*name++ != *value) {
			return false;
		}
	}
	return *name == '\0' && *value == '\0';
}

static bool is_named(const char *spec, const struct fstab_device *device)
{
	/* clang-format off */
	const struct {
		const char *tag, *folder, *value;
		bool has_case;
	} names[] = {
		{ "UUID",      "/dev/disk/by-uuid/",      device->uuid,            false },
		{ "LABEL",     "/dev/disk/by-label/",     device->label,           true  },
		{ "PARTUUID",  "/dev/disk/by-partuuid/",  device->partition_uuid,  false },
		{ "PARTLABEL", "/dev/disk/by-partlabel/", device->partition_label, true  },
		{ NULL,        "/dev/mapper/",            device->mapping,         true  },
		{ NULL,        "/dev/disk/by-id/dm-name-", device->mapping,        true  },
		{ NULL,        "",                        device->path,            true  },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = names[i].value, *tagged = NULL, *link;
		size_t size, folder_letters = strlen(names[i].folder);

		if (!value || !*value)
			continue;
		if (names[i].tag)
			tagged = table_tag_value(spec, names[i].tag, &size);
		if (tagged && size == strlen(value) &&
		    (names[i].has_case ? strncmp(tagged, value, size)
				       : strncasecmp(tagged, value, size)) == 0)
			return true;
		if (strncmp(spec, names[i].folder, folder_letters) != 0)
			continue;
		link = spec + folder_letters;
		if (is_encoded(link, value) || (!names[i].has_case && strcasecmp(link, value) == 0))
			return true;
	}
	return false;
}

/* do two paths lead to one device, by links or by number? */
static bool is_same_device(const char *spec, const char *path)
{
	_cleanup_(freep) char *a = realpath(spec, NULL), *b = realpath(path, NULL);
	struct stat first, second;

	if (a && b && strcmp(a, b) == 0)
		return true;
	return stat(spec, &first) == 0 && stat(path, &second) == 0 && S_ISBLK(first.st_mode) &&
	       S_ISBLK(second.st_mode) && first.st_rdev == second.st_rdev;
}

/* 1 when the line is an entry of the volume, 0 when not, or -ENOMEM */
static int is_meant(const struct search *search, const struct table_line *line)
{
	_cleanup_(freep) char *spec = NULL;

	if (line->n <= FIELD_TYPE)
		return 0;
	spec = table_field_decode(&line->fields[FIELD_SPEC]);
	if (!spec)
		return -ENOMEM;
	if (is_named(spec, search->device))
		return 1;
	/* only below /dev: another path may lie on a server that does not answer */
	return search->resolves && search->device->path && strncmp(spec, "/dev/", 5) == 0 &&
	       is_same_device(spec, search->device->path);
}

/* the options, or a field of no letters behind the type when there are none */
static struct table_field options_of(const struct table_line *line)
{
	const struct table_field *type = &line->fields[FIELD_TYPE];

	if (line->n > FIELD_OPTIONS && line->fields[FIELD_OPTIONS].at[0] != '#')
		return line->fields[FIELD_OPTIONS];
	return (struct table_field){ type->at + type->size, 0 };
}

/* where an option stands in a comma-separated list; a comma between quotes (SELinux contexts) is no
 * end */
static const char *find_option(const struct table_field *options, const char *name)
{
	const char *start = options->at, *end = options->at + options->size;
	bool is_quoted = false, has_pairs = true;

	for (const char *at = start; at < end; at++)
		has_pairs ^= *at == '"';
	for (const char *at = start; at <= end; at++) {
		if (at < end && *at == '"' && has_pairs)
			is_quoted = !is_quoted;
		if (at < end && (*at != ',' || is_quoted))
			continue;
		if ((size_t)(at - start) == strlen(name) && memcmp(start, name, strlen(name)) == 0)
			return start;
		start = at + 1;
	}
	return NULL;
}

static int take_entry(const struct table_line *line, struct fstab_entries *entries)
{
	struct table_field options = options_of(line);
	struct fstab_entry *larger, *entry;

	larger = reallocarray(entries->entries, entries->n + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	entries->entries = larger;
	entry = &larger[entries->n++];
	*entry = (struct fstab_entry){
		.line = line->number,
		.original = strndup(line->at, line->size),
		.spec = table_field_decode(&line->fields[FIELD_SPEC]),
		.target = table_field_decode(&line->fields[FIELD_TARGET]),
		.type = table_field_decode(&line->fields[FIELD_TYPE]),
		.options = options.size > 0 ? table_field_decode(&options) : strdup("defaults"),
	};
	return entry->original && entry->spec && entry->target && entry->type && entry->options
		       ? 0
		       : -ENOMEM;
}

/* write text[from, to) */
static void put(FILE *out, const char *from, const char *to)
{
	(void)fwrite(from, 1, (size_t)(to - from), out);
}

/* a machine whose root is not there has failed, whatever an option says */
static bool may_fail(const struct table_line *line)
{
	static const char *const vital[] = { "/", "/usr" };
	const struct table_field *target = &line->fields[FIELD_TARGET];

	for (size_t i = 0; i < ARRAY_SIZE(vital); i++)
		if (target->size == strlen(vital[i]) &&
		    memcmp(target->at, vital[i], target->size) == 0)
			return false;
	return true;
}

/* the line as fstab_encrypt() leaves it, without its end; @raw_spec is a field as it stands, or
 * NULL */
static void put_encrypted(FILE *out, const struct table_line *line,
			  const struct table_field *raw_spec)
{
	const struct table_field *spec = &line->fields[FIELD_SPEC];
	struct table_field options = options_of(line);
	const char *end = options.at + options.size;

	put(out, line->at, spec->at);
	if (!raw_spec)
		raw_spec = spec;
	put(out, raw_spec->at, raw_spec->at + raw_spec->size);
	put(out, spec->at + spec->size, end);
	if (may_fail(line) && !find_option(&options, "nofail") && !find_option(&options, "noauto"))
		(void)fputs(options.size > 0 ? ",nofail" : " nofail", out);
	put(out, end, line->at + line->size);
}

/* end of a memory stream: its text, or NULL when there was no memory for all of it */
static char *finish(FILE *out, char **text)
{
	bool is_bad = ferror(out) != 0;

	if (fclose(out) != 0 || is_bad) {
		free(steal(*text));
		return NULL;
	}
	return steal(*text);
}

static char *encrypted_line(const struct table_line *line, const struct table_field *raw_spec)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	put_encrypted(out, line, raw_spec);
	return finish(out, &text);
}

static char *encode_spec(const char *spec)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	(void)table_field_encode(out, spec);
	return finish(out, &text);
}

static int find_text(const char *text, const struct search *search, struct fstab_entries *ret)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries entries = { 0 };
	struct table_line line = { 0 };

	for (const char *at = text; table_next(&at, &line);) {
		int r = is_meant(search, &line);

		if (r == 1)
			r = take_entry(&line, &entries);
		if (r < 0)
			return r;
	}
	*ret = entries;
	entries = (struct fstab_entries){ 0 };
	return 0;
}

static int encrypt_text(const char *text, const struct search *search, const char *spec, char **ret,
			struct fstab_entries *ret_before)
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

		r = is_meant(search, &line);
		if (r == 1) {
			now = encrypted_line(&line, spec ? &raw_spec : NULL);
			r = now ? 0 : -ENOMEM;
		}
		if (now && (strlen(now) != line.size || memcmp(now, line.at, line.size) != 0))
			r = take_entry(&line, &before);
		if (now)
			(void)fputs(now, out);
		else
			put(out, line.at, line.at + line.size);
		put(out, line.at + line.size, line.at + line.size + line.ending_bytes);
	}
	changed = finish(out, &changed);
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
	return encrypt_text(text, &(struct search){ device, false }, spec, ret, ret_before);
}

/* where the first nofail that we may have added stands; none when the entry had one before */
static const char *find_added(const struct table_line *line, const struct table_line *original)
{
	struct table_field before = options_of(original), now = options_of(line);

	if (!may_fail(original) || find_option(&before, "nofail") || find_option(&before, "noauto"))
		return NULL;
	return find_option(&now, "nofail");
}

/* a line that a person has edited since: only the spec and our nofail go back */
static void put_partly(FILE *out, const struct table_line *line, const struct table_line *original)
{
	const struct table_field *spec = &line->fields[FIELD_SPEC],
				 *old = &original->fields[FIELD_SPEC];
	const char *added = find_added(line, original), *end = line->at + line->size;
	struct table_field options = options_of(line);

	put(out, line->at, spec->at);
	put(out, old->at, old->at + old->size);
	if (!added) {
		put(out, spec->at + spec->size, end);
		return;
	}
	if (options.size == strlen("nofail")) {
		put(out, spec->at + spec->size, added);
		(void)fputs("defaults", out);
		put(out, added + strlen("nofail"), end);
		return;
	}
	/* with the comma before it, or the one behind when it comes first */
	if (added > options.at) {
		put(out, spec->at + spec->size, added - 1);
		put(out, added + strlen("nofail"), end);
	} else {
		put(out, spec->at + spec->size, added);
		put(out, added + strlen("nofail,"), end);
	}
}

/* 1 when the line is what fstab_encrypt() made of the original, 0 when it was edited since, or
 * -ENOMEM */
static int is_untouched(const struct table_line *line, const struct table_line *original)
{
	_cleanup_(freep) char *made = encrypted_line(original, &line->fields[FIELD_SPEC]);

	if (!made)
		return -ENOMEM;
	return strlen(made) == line->size && memcmp(made, line->at, line->size) == 0;
}

/* the line of @before's entry @i, taken apart again; false when it is none */
static bool take_apart(const struct fstab_entries *before, size_t i, struct table_line *ret)
{
	const char *at = before->entries[i].original;

	*ret = (struct table_line){ 0 };
	return table_next(&at, ret) && ret->n > FIELD_TYPE;
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
	_cleanup_(freep) char *target = table_field_decode(&line->fields[FIELD_TARGET]);

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

static int put_restored(FILE *out, const struct table_line *line,
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
			put(out, original.at, original.at + original.size);
		else
			put_partly(out, line, &original);
		return 0;
	}
	put(out, line->at, line->at + line->size);
	return 0;
}

static int restore_text(const char *text, const struct search *search,
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
			r = is_meant(search, &line);
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
		r = put_restored(out, &line, before, lines);
		put(out, line.at + line.size, line.at + line.size + line.ending_bytes);
	}
	changed = finish(out, &changed);
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
	return restore_text(text, &(struct search){ device, false }, before, ret);
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
	return find_text(text, &(struct search){ device, true }, ret);
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
	r = encrypt_text(text, &(struct search){ device, true }, spec, &changed, &before);
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
 * @device: what the volume may be called, with the mapping that the entries may name now
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
	r = restore_text(text, &(struct search){ device, true }, before, &changed);
	if (r <= 0)
		return r;
	return file_write_atomic(own_path, changed, strlen(changed), 0644);
}
