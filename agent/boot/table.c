/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/table.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

/**
 * table_next() - take the next line
 * @at:   where it begins; moved behind its end
 * @line: in: number of the line before (0 at first); out: the line
 *
 * Return: false at the end of the text.
 */
bool table_next(const char **at, struct table_line *line)
{
	const char *end, *field;

	if (**at == '\0')
		return false;
	line->number++;
	line->at = *at;
	line->n = 0;
	line->size = strcspn(*at, "\n");
	line->ending_bytes = (*at)[line->size] == '\n' ? 1 : 0;
	*at += line->size + line->ending_bytes;
	if (line->ending_bytes == 1 && line->size > 0 && line->at[line->size - 1] == '\r') {
		line->size--;
		line->ending_bytes = 2;
	}

	end = line->at + line->size;
	for (field = line->at; line->n < TABLE_FIELDS_MAX; field += line->fields[line->n++].size) {
		while (field < end && (*field == ' ' || *field == '\t'))
			field++;
		if (field == end || (line->n == 0 && *field == '#'))
			break;
		line->fields[line->n].at = field;
		for (line->fields[line->n].size = 0; field + line->fields[line->n].size < end;
		     line->fields[line->n].size++)
			if (strchr(" \t", field[line->fields[line->n].size]))
				break;
	}
	return true;
}

bool table_field_is(const struct table_field *field, const char *text)
{
	return strlen(text) == field->size && memcmp(field->at, text, field->size) == 0;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/**
 * table_field_decode() - with \040 and the like as the bytes that they mean
 *
 * An escape for NUL or for more than a byte is left as it stands.
 *
 * Return: a new string, or NULL when there is no memory.
 * Source: fstab(5), "the second field"; getmntent(3).
 */
char *table_field_decode(const struct table_field *field)
{
	char *text = malloc(field->size + 1), *out = text;

	if (!text)
		return NULL;
	for (size_t i = 0; i < field->size; i++) {
		const char *at = field->at + i;

		if (*at == '\\' && field->size - i > 3 && is_octal(at[1]) && is_octal(at[2]) &&
		    is_octal(at[3])) {
			int value = (at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0');

			if (value > 0 && value < 256) {
				*out++ = (char)value;
				i += 3;
				continue;
			}
		}
		*out++ = *at;
	}
	*out = '\0';
	return text;
}

/** table_field_encode() - write text so that it is one field and decodes to itself. Return: 0 or
 * -errno. */
int table_field_encode(FILE *out, const char *text)
{
	for (const char *at = text; *at; at++) {
		int r = strchr(" \t\r\n\\#", *at) ? fprintf(out, "\\%03o", (unsigned)*at)
						  : fputc(*at, out);

		if (r < 0)
			return -ENOMEM;
	}
	return 0;
}

/** table_put() - write text[from, to) */
void table_put(FILE *out, const char *from, const char *to)
{
	(void)fwrite(from, 1, (size_t)(to - from), out);
}

/** table_finish() - end of a memory stream: its text, or NULL when there was no memory for all of
 * it */
char *table_finish(FILE *out, char **text)
{
	bool is_bad = ferror(out) != 0;

	if (fclose(out) != 0 || is_bad) {
		free(steal(*text));
		return NULL;
	}
	return steal(*text);
}

/**
 * table_tag_value() - the value of UUID=… and its kind, with or without quotes
 * @spec: decoded field
 * @tag:  "UUID", "LABEL", …
 *
 * Return: where the value begins in @spec, or NULL when it is another tag or none.
 */
const char *table_tag_value(const char *spec, const char *tag, size_t *ret_size)
{
	size_t size = strlen(tag);

	if (strncmp(spec, tag, size) != 0 || spec[size] != '=')
		return NULL;
	spec += size + 1;
	size = strlen(spec);
	if (size >= 2 && (*spec == '"' || *spec == '\'') && spec[size - 1] == *spec) {
		spec++;
		size -= 2;
	}
	*ret_size = size;
	return spec;
}

/**
 * table_read() - the whole file, as text
 * @max_bytes: more is refused
 * @ret_path:  the file's own path, links resolved, so that replacing it leaves a link to it alone;
 *             a copy of @path when there is no such file; owned by the caller
 * @ret_text:  empty when there is no such file; owned by the caller
 *
 * Return: 0, -EBADMSG (NUL or other control characters inside), -EFBIG or -errno.
 */
int table_read(const char *path, size_t max_bytes, char **ret_path, char **ret_text)
{
	_cleanup_(freep) char *own_path = NULL, *text = NULL;
	size_t size;
	int r;

	own_path = realpath(path, NULL);
	if (!own_path && errno != ENOENT)
		return -errno;
	if (own_path) {
		r = file_read(own_path, max_bytes, &text, &size);
		if (r < 0)
			return r;
		for (size_t i = 0; i < size; i++)
			if ((unsigned char)text[i] < ' ' &&
			    (text[i] == '\0' || !strchr("\t\n\v\f\r\033", text[i])))
				return -EBADMSG;
	} else {
		own_path = strdup(path);
		text = strdup("");
		if (!own_path || !text)
			return -ENOMEM;
	}
	*ret_path = steal(own_path);
	*ret_text = steal(text);
	return 0;
}
