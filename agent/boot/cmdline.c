/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Source, the last root= wins: Linux, init/do_mounts.c, root_dev_setup(); initramfs-tools, init;
 * dracut, dracut-util.c, getarg(); systemd, fstab-generator.c, parse_proc_cmdline_item(). */
#include "boot/cmdline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/table.h"

#define UUID_MAX_BYTES 36

struct word {
	const char *at;
	size_t size;
};

/* the next argument; blanks between double quotes are no end. Source: Linux, lib/cmdline.c,
 * next_arg() */
static bool next_word(const char **at, const char *end, struct word *ret)
{
	bool is_quoted = false;

	while (*at < end && strchr(" \t\r\n", **at))
		(*at)++;
	ret->at = *at;
	while (*at < end && (is_quoted || !strchr(" \t\r\n", **at)))
		is_quoted ^= *(*at)++ == '"';
	ret->size = (size_t)(*at - ret->at);
	return ret->size > 0;
}

static bool is_root(const struct word *word)
{
	return word->size >= 5 && memcmp(word->at, "root=", 5) == 0;
}

static bool is_root_by(const struct word *word, const char *uuid)
{
	return word->size == strlen(uuid) + 10 && memcmp(word->at, "root=UUID=", 10) == 0 &&
	       strncasecmp(word->at + 10, uuid, word->size - 10) == 0;
}

/* RHEL 8: a variable of GRUB's that holds the root and the rest */
static bool is_kernelopts(const struct word *word)
{
	static const char name[] = "$kernelopts";

	return word->size == strlen(name) && memcmp(word->at, name, word->size) == 0;
}

/** cmdline_is_uuid() - something that may stand for one in a file that sh reads */
bool cmdline_is_uuid(const char *uuid)
{
	size_t size = strlen(uuid);

	return size > 0 && size <= UUID_MAX_BYTES &&
	       strspn(uuid, "0123456789abcdefABCDEF-") == size;
}

/** cmdline_is_by_uuid() - is a root, as cmdline_root_of() gives it, this filesystem's? */
bool cmdline_is_by_uuid(const char *root, const char *uuid)
{
	return root && strncmp(root, "UUID=", 5) == 0 && strcasecmp(root + 5, uuid) == 0;
}

/**
 * cmdline_root_of() - the root that counts among some arguments
 * @ret: "UUID=…", "/dev/…" …, NULL when there is none; owned by the caller
 *
 * Return: 0 or -ENOMEM.
 */
int cmdline_root_of(const char *arguments, size_t size, char **ret)
{
	const char *end = arguments + size;
	struct word word, last = { 0 };
	char *copy = NULL;

	while (next_word(&arguments, end, &word)) {
		if (word.size == 2 && memcmp(word.at, "--", 2) == 0)
			break; /* what follows is for init */
		if (is_root(&word))
			last = word;
	}
	if (last.at) {
		const char *value = last.at + 5;
		size_t value_size = last.size - 5;

		if (value_size >= 2 && value[0] == '"' && value[value_size - 1] == '"') {
			value++;
			value_size -= 2;
		}
		copy = strndup(value, value_size);
		if (!copy)
			return -ENOMEM;
	}
	*ret = copy;
	return 0;
}

/**
 * cmdline_find_root() - the root as the running kernel was told
 * @path: "/proc/cmdline"
 * @ret:  as cmdline_root_of()
 *
 * Return: 0, -EFBIG or -errno.
 */
int cmdline_find_root(const char *path, char **ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t size;
	int r = file_read(path, CMDLINE_MAX_BYTES, &text, &size);

	return r < 0 ? r : cmdline_root_of(text, size, ret);
}

/* The part of a line that holds arguments: behind @key in a loader entry, all of it in
 * /etc/kernel/cmdline (@key NULL); of no bytes when the line has none. */
static struct word arguments_of(const struct table_line *line, const char *key)
{
	struct word none = { NULL, 0 };
	const char *start, *end = line->at + line->size;

	if (line->n == 0)
		return none;
	if (!key) {
		start = line->fields[0].at;
	} else {
		if (!table_field_is(&line->fields[0], key))
			return none;
		start = line->fields[0].at + line->fields[0].size;
	}
	return (struct word){ start, (size_t)(end - start) };
}

/* all arguments of a text, which may stand in several lines: is there a root, and is it ours? */
struct roots {
	bool is_ours;     /* the last one */
	bool has_other;   /* one before it, or a variable that may hold one */
	struct word ours; /* the last one that is by UUID */
	const char *end;  /* of the last argument; NULL when there is none */
	bool is_closed;   /* by "--" */
	bool has_lone_quote;
};

static bool has_lone_quote(const struct word *word)
{
	bool is_odd = false;

	for (size_t i = 0; i < word->size; i++)
		is_odd ^= word->at[i] == '"';
	return is_odd;
}

static struct roots find_roots(const char *text, const char *key, const char *uuid)
{
	struct table_line line = { 0 };
	struct roots roots = { 0 };

	for (const char *at = text; !roots.is_closed && table_next(&at, &line);) {
		struct word arguments = arguments_of(&line, key), word;
		const char *from = arguments.at;

		if (!from)
			continue;
		while (next_word(&from, arguments.at + arguments.size, &word)) {
			/* what follows is for init; what would follow a lone quote is part of it */
			if (word.size == 2 && memcmp(word.at, "--", 2) == 0) {
				roots.is_closed = true;
				break;
			}
			roots.has_lone_quote |= has_lone_quote(&word);
			roots.end = word.at + word.size;
			if (is_root_by(&word, uuid)) {
				roots.has_other |= roots.ours.at != NULL;
				roots.ours = word;
				roots.is_ours = true;
			} else if (is_root(&word)) {
				roots.is_ours = false;
				roots.has_other = true;
			} else if (is_kernelopts(&word) && !roots.ours.at) {
				roots.has_other = true;
			}
		}
	}
	return roots;
}

/**
 * cmdline_add_root() - one more root= at the end of the arguments
 * @text: a loader entry, or /etc/kernel/cmdline
 * @key:  "options" for an entry; NULL: every line that is no comment is arguments
 * @uuid: of the root's filesystem
 * @ret:  the new text, equal to @text when its root is that already; owned by the caller
 *
 * Return: 0, CMDLINE_E_OTHER_ROOT (it names none, or has a quote without its pair) or
 * -ENOMEM.
 */
int cmdline_add_root(const char *text, const char *key, const char *uuid, char **ret)
{
	struct roots roots = find_roots(text, key, uuid);

	if (roots.is_ours)
		return text_copy(text, ret);
	if (!roots.end || !roots.has_other || roots.has_lone_quote)
		return CMDLINE_E_OTHER_ROOT;
	return text_format(ret, "%.*s root=UUID=%s%s", (int)(roots.end - text), text, uuid,
			   roots.end);
}

/**
 * cmdline_remove_root() - take back what cmdline_add_root() added
 * @ret: the new text, equal to @text when the only root= is that; owned by the caller
 *
 * A root= that is followed by others' arguments is found too.
 *
 * Return: 0 or -ENOMEM.
 */
int cmdline_remove_root(const char *text, const char *key, const char *uuid, char **ret)
{
	struct roots roots = find_roots(text, key, uuid);
	const char *start = roots.ours.at;

	if (!roots.is_ours || !roots.has_other || start == text || !strchr(" \t", start[-1]))
		return text_copy(text, ret);
	return text_format(ret, "%.*s%s", (int)(start - 1 - text), text, start + roots.ours.size);
}
