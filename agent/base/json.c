/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/json.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

void json_putp(struct json_object **object)
{
	json_object_put(*object);
}

/**
 * json_parse() - one JSON value, nothing behind it
 * @text:       need not end in NUL
 * @size_bytes: 1..INT_MAX; the caller has bounded it
 *
 * Return: 0, -EBADMSG (not JSON, too deep, trailing bytes, invalid UTF-8) or -ENOMEM.
 */
int json_parse(const char *text, size_t size_bytes, struct json_object **ret)
{
	struct json_tokener *tokener;
	struct json_object *object;
	enum json_tokener_error error;
	size_t end;

	if (size_bytes == 0 || size_bytes > INT_MAX)
		return -EBADMSG;
	tokener = json_tokener_new_ex(JSON_MAX_DEPTH);
	if (!tokener)
		return -ENOMEM;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	object = json_tokener_parse_ex(tokener, text, (int)size_bytes);
	error = json_tokener_get_error(tokener);
	end = json_tokener_get_parse_end(tokener);
	if (!object && error == json_tokener_continue) {
		/* a bare number ends only with the text */
		object = json_tokener_parse_ex(tokener, "", 1);
		error = json_tokener_get_error(tokener);
		end = size_bytes;
	}
	json_tokener_free(tokener);
	while (end < size_bytes && strchr(" \t\r\n", text[end]))
		end++;
	if (error != json_tokener_success || !object || end < size_bytes) {
		json_object_put(object);
		return -EBADMSG;
	}
	*ret = object;
	return 0;
}

/** json_read_file() - parse a file of at most @max_bytes. Return: 0, -EBADMSG, -EFBIG or -errno. */
int json_read_file(const char *path, size_t max_bytes, struct json_object **ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes;
	int r;

	r = file_read(path, max_bytes, &text, &size_bytes);
	if (r < 0)
		return r;
	return json_parse(text, size_bytes, ret);
}

/** json_write_file() - replace a file durably with the object's text. Return: 0 or -errno. */
int json_write_file(const char *path, struct json_object *object, mode_t mode)
{
	_cleanup_(freep) char *line = NULL;
	const char *text;
	int r;

	text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
							      JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text)
		return -ENOMEM;
	r = text_format(&line, "%s\n", text);
	if (r < 0)
		return r;
	return file_write_atomic(path, line, strlen(line), mode);
}

static struct json_object *member(struct json_object *object, const char *name, enum json_type type)
{
	struct json_object *value;

	if (!json_object_is_type(object, json_type_object) ||
	    !json_object_object_get_ex(object, name, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

/** json_get_string() - borrowed text, or NULL when absent, not a string, or with a NUL inside */
const char *json_get_string(struct json_object *object, const char *name)
{
	struct json_object *value = member(object, name, json_type_string);
	const char *text;

	if (!value)
		return NULL;
	text = json_object_get_string(value);
	return strlen(text) == (size_t)json_object_get_string_len(value) ? text : NULL;
}

bool json_get_bool(struct json_object *object, const char *name, bool otherwise)
{
	struct json_object *value = member(object, name, json_type_boolean);

	return value ? json_object_get_boolean(value) : otherwise;
}

int64_t json_get_int(struct json_object *object, const char *name, int64_t otherwise)
{
	struct json_object *value = member(object, name, json_type_int);

	return value ? json_object_get_int64(value) : otherwise;
}

/** json_get_object() - borrowed object, or NULL */
struct json_object *json_get_object(struct json_object *object, const char *name)
{
	return member(object, name, json_type_object);
}

/** json_get_array() - borrowed array, or NULL */
struct json_object *json_get_array(struct json_object *object, const char *name)
{
	return member(object, name, json_type_array);
}

/** json_set() - hand @value over to @object. Return: 0, or -ENOMEM and @value is released. */
int json_set(struct json_object *object, const char *name, struct json_object *value)
{
	if (!value)
		return -ENOMEM;
	if (json_object_object_add(object, name, value) < 0) {
		json_object_put(value);
		return -ENOMEM;
	}
	return 0;
}

/** json_set_string() - a copy of @value; NULL adds nothing. Return: 0 or -ENOMEM. */
int json_set_string(struct json_object *object, const char *name, const char *value)
{
	return value ? json_set(object, name, json_object_new_string(value)) : 0;
}

int json_set_bool(struct json_object *object, const char *name, bool value)
{
	return json_set(object, name, json_object_new_boolean(value));
}

int json_set_int(struct json_object *object, const char *name, int64_t value)
{
	return json_set(object, name, json_object_new_int64(value));
}
