/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "volume/header.h"

#define TOKEN_VERSION          1
#define TOKEN_UUID_MAX_BYTES   64  /* a UUID has 36 letters, vfat's 9, ntfs's 16 */
#define TOKEN_NAME_MAX_BYTES   127 /* DM_NAME_LEN without its NUL */
#define TOKEN_DEVICE_MAX_BYTES 255

struct header_token *header_token_free(struct header_token *token)
{
	if (!token)
		return NULL;
	json_object_put(token->reference);
	free(token->filesystem_uuid);
	free(token->mapping);
	free(token->device);
	free(token);
	return NULL;
}

void header_token_freep(struct header_token **token)
{
	header_token_free(*token);
}

static bool consists_of(const char *text, const char *also, size_t max_bytes)
{
	size_t length = strlen(text);

	if (length == 0 || length > max_bytes)
		return false;
	for (const char *c = text; *c; c++)
		if (!(*c >= '0' && *c <= '9') && !(*c >= 'a' && *c <= 'z') &&
		    !(*c >= 'A' && *c <= 'Z') && !strchr(also, *c))
			return false;
	return true;
}

/* These end in paths, in crypttab and on command lines: nothing but what such names are made of. */
static bool is_sound(const struct header_token *token)
{
	if (!token->filesystem_uuid || !token->mapping ||
	    !consists_of(token->filesystem_uuid, "-", TOKEN_UUID_MAX_BYTES) ||
	    !consists_of(token->mapping, "-_.+", TOKEN_NAME_MAX_BYTES) ||
	    token->mapping[0] == '.' || token->mapping[0] == '-')
		return false;
	if (!token->device)
		return token->device_bytes == 0;
	return token->device_bytes > 0 && strncmp(token->device, "/dev/", 5) == 0 &&
	       !strstr(token->device, "/..") &&
	       consists_of(token->device, "/-_.+:@=\\", TOKEN_DEVICE_MAX_BYTES);
}

static int copy_string(struct json_object *object, const char *name, char **ret)
{
	const char *text = json_get_string(object, name);

	if (!text)
		return 0;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

/**
 * header_token_from_json() - parse a token of our type
 * @object: the token as in the header, or anything else: it may come from a disk that anybody wrote
 * @ret:    owned by the caller; its reference is @object, of which nothing but our own names was
 * checked
 *
 * Return: 0, HEADER_E_MALFORMED or -ENOMEM.
 */
int header_token_from_json(struct json_object *object, struct header_token **ret)
{
	_cleanup_(header_token_freep) struct header_token *token = NULL;
	const char *type = json_get_string(object, "type");
	int64_t device_bytes;

	if (!type || strcmp(type, HEADER_TOKEN_TYPE) != 0 ||
	    json_get_int(object, "version", 0) != TOKEN_VERSION)
		return HEADER_E_MALFORMED;
	token = calloc(1, sizeof(*token));
	if (!token)
		return -ENOMEM;
	if (copy_string(object, "filesystem", &token->filesystem_uuid) < 0 ||
	    copy_string(object, "mapping", &token->mapping) < 0 ||
	    copy_string(object, "device", &token->device) < 0)
		return -ENOMEM;
	device_bytes = json_get_int(object, "device_bytes", 0);
	if (device_bytes < 0)
		return HEADER_E_MALFORMED;
	token->device_bytes = (uint64_t)device_bytes;
	if (!is_sound(token))
		return HEADER_E_MALFORMED;
	token->reference = json_object_get(object);
	*ret = steal(token);
	return 0;
}

/**
 * header_token_to_json() - a token object with no keyslots assigned yet
 * @ret: owned by the caller
 *
 * Return: 0, -EINVAL when header_token_from_json() would refuse it, or -ENOMEM.
 */
int header_token_to_json(const struct header_token *token, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = NULL;

	if (!token->reference || !is_sound(token) || token->device_bytes > INT64_MAX)
		return -EINVAL;
	object = json_object_new_object();
	if (!object)
		return -ENOMEM;
	if (json_set_string(object, "type", HEADER_TOKEN_TYPE) < 0 ||
	    json_set(object, "keyslots", json_object_new_array()) < 0 ||
	    json_set_int(object, "version", TOKEN_VERSION) < 0 ||
	    json_set_string(object, "filesystem", token->filesystem_uuid) < 0 ||
	    json_set_string(object, "mapping", token->mapping) < 0 ||
	    json_set_string(object, "device", token->device) < 0)
		return -ENOMEM;
	if (token->device && json_set_int(object, "device_bytes", (int64_t)token->device_bytes) < 0)
		return -ENOMEM;
	json_object_object_foreach(token->reference, name,
				   value) if (!json_object_object_get_ex(object, name, NULL) &&
					      json_set(object, name, json_object_get(value)) <
						      0) return -ENOMEM;
	*ret = steal(object);
	return 0;
}
