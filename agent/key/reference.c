/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/reference.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "key/url.h"

#define REFERENCE_VERSION 1

static const char *const providers[] = {
	[KEY_PROVIDER_KEYVAULT] = "keyvault",
	[KEY_PROVIDER_FILE] = "file",
};

/* Source: Key Vault REST API reference, "Wrap Key", JsonWebKeyEncryptionAlgorithm; RSA keys only.
 */
static const char *const algorithms[] = { "RSA-OAEP-256", "RSA-OAEP", "RSA1_5" };

/* NULL is fine and freed like anything half built. Return: NULL. */
struct key_reference *key_reference_free(struct key_reference *reference)
{
	if (!reference)
		return NULL;
	free(reference->secret);
	free(reference->kek);
	free(reference->algorithm);
	free(reference->wrapped);
	free(reference->client_id);
	free(reference->path);
	free(reference->created);
	free(reference);
	return NULL;
}

void key_reference_freep(struct key_reference **reference)
{
	key_reference_free(*reference);
}

const char *key_provider_to_string(enum key_provider provider)
{
	return providers[provider];
}

/** key_provider_from_string() - by its name in the token. Return: 0, or -EINVAL (also for NULL). */
int key_provider_from_string(const char *text, enum key_provider *ret)
{
	for (size_t i = 0; text && i < ARRAY_SIZE(providers); i++) {
		if (strcmp(text, providers[i]) != 0)
			continue;
		*ret = (enum key_provider)i;
		return 0;
	}
	return -EINVAL;
}

/* each letter of @pattern: x = hexadecimal, 0 = decimal, anything else = itself */
static bool has_form(const char *text, const char *pattern)
{
	static const char hexadecimal[] = "0123456789abcdefABCDEF";

	for (; *pattern; text++, pattern++) {
		if (*text == '\0')
			return false;
		if (*pattern == 'x'   ? !strchr(hexadecimal, *text)
		    : *pattern == '0' ? *text < '0' || *text > '9'
				      : *text != *pattern)
			return false;
	}
	return *text == '\0';
}

static bool is_client_id(const char *text)
{
	return has_form(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
}

static bool is_time(const char *text)
{
	return has_form(text, "0000-00-00T00:00:00Z");
}

static bool is_algorithm(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++)
		if (strcmp(text, algorithms[i]) == 0)
			return true;
	return false;
}

static bool is_versioned(const char *text, enum key_url_kind kind)
{
	struct key_url url;

	return key_url_parse(text, kind, &url) == 0 && url.version[0] != '\0';
}

static bool is_wrapped(const char *text)
{
	uint8_t bytes[BASE64_DECODED_SIZE(KEY_WRAPPED_MAX_LETTERS)];
	size_t letters = strnlen(text, KEY_WRAPPED_MAX_LETTERS + 1), size;

	/* base64_decode() takes the other alphabet and padding too; a token has one form only */
	return letters > 0 && letters <= KEY_WRAPPED_MAX_LETTERS && !strpbrk(text, "+/=") &&
	       base64_decode(text, letters, bytes, &size) == 0;
}

static bool is_path(const char *text)
{
	if (text[0] != '/' || strnlen(text, KEY_PATH_MAX_BYTES) == KEY_PATH_MAX_BYTES)
		return false;
	for (const char *at = text; *at; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			return false;
		if (strncmp(at, "/../", 4) == 0 || strcmp(at, "/..") == 0)
			return false;
	}
	return true;
}

/**
 * key_reference_check() - may this reference be followed?
 * @reference: as parsed from a token, or as it shall be written into one
 *
 * A secret and a KEK must be versioned: "latest" opens no keyslot any more after a rotation.
 *
 * Return: 0 or -EBADMSG.
 */
int key_reference_check(const struct key_reference *reference)
{
	const struct key_reference *it = reference;

	if (it->created && !is_time(it->created))
		return -EBADMSG;
	switch (it->provider) {
	case KEY_PROVIDER_FILE:
		if (it->secret || it->kek || it->algorithm || it->wrapped || it->client_id)
			return -EBADMSG;
		return it->path && is_path(it->path) ? 0 : -EBADMSG;
	case KEY_PROVIDER_KEYVAULT:
		if (it->path || !it->secret || !is_versioned(it->secret, KEY_URL_SECRET))
			return -EBADMSG;
		if (it->client_id && !is_client_id(it->client_id))
			return -EBADMSG;
		if (!it->kek)
			return it->algorithm || it->wrapped ? -EBADMSG : 0;
		if (!it->algorithm || !it->wrapped)
			return -EBADMSG;
		return is_versioned(it->kek, KEY_URL_KEY) && is_algorithm(it->algorithm) &&
				       is_wrapped(it->wrapped)
			       ? 0
			       : -EBADMSG;
	}
	return -EBADMSG;
}

/* a copy of a text member; absent is fine, another type (or a NUL inside) is not */
static int take_string(struct json_object *object, const char *name, char **ret)
{
	struct json_object *value;
	const char *text;

	if (!json_object_object_get_ex(object, name, &value))
		return 0;
	text = json_get_string(object, name);
	if (!text || strnlen(text, KEY_REFERENCE_MAX_BYTES) == KEY_REFERENCE_MAX_BYTES)
		return -EBADMSG;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

/**
 * key_reference_from_json() - read the reference from a token's object
 * @object: borrowed; members that are not a reference's are left to others
 * @ret:    checked; owned by the caller
 *
 * Return: 0, -EBADMSG (not an object, another version, or refused by key_reference_check()) or
 * -ENOMEM.
 */
int key_reference_from_json(struct json_object *object, struct key_reference **ret)
{
	_cleanup_(key_reference_freep) struct key_reference *reference = NULL;
	struct json_object *identity;
	int r;

	if (json_get_int(object, "version", 0) != REFERENCE_VERSION)
		return -EBADMSG;
	reference = calloc(1, sizeof(*reference));
	if (!reference)
		return -ENOMEM;
	if (key_provider_from_string(json_get_string(object, "provider"), &reference->provider) < 0)
		return -EBADMSG;

	const struct {
		const char *name;
		char **field;
	} members[] = {
		{ "secret", &reference->secret },       { "kek", &reference->kek },
		{ "algorithm", &reference->algorithm }, { "wrapped", &reference->wrapped },
		{ "path", &reference->path },           { "created", &reference->created },
	};

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		r = take_string(object, members[i].name, members[i].field);
		if (r < 0)
			return r;
	}
	if (json_object_object_get_ex(object, "identity", &identity)) {
		if (!json_object_is_type(identity, json_type_object))
			return -EBADMSG;
		r = take_string(identity, "client_id", &reference->client_id);
		if (r < 0)
			return r;
	}

	r = key_reference_check(reference);
	if (r < 0)
		return r;
	*ret = steal(reference);
	return 0;
}

/**
 * key_reference_to_json() - add the reference's members to a token's object
 * @object: gets version, provider and what there is; on failure it may hold some of them
 *
 * Return: 0, -EBADMSG (refused by key_reference_check()) or -ENOMEM.
 */
int key_reference_to_json(const struct key_reference *reference, struct json_object *object)
{
	int r;

	r = key_reference_check(reference);
	if (r < 0)
		return r;
	r = json_set_int(object, "version", REFERENCE_VERSION);
	if (r == 0)
		r = json_set_string(object, "provider",
				    key_provider_to_string(reference->provider));
	if (r == 0)
		r = json_set_string(object, "secret", reference->secret);
	if (r == 0)
		r = json_set_string(object, "kek", reference->kek);
	if (r == 0)
		r = json_set_string(object, "algorithm", reference->algorithm);
	if (r == 0)
		r = json_set_string(object, "wrapped", reference->wrapped);
	if (r == 0)
		r = json_set_string(object, "path", reference->path);
	if (r == 0)
		r = json_set_string(object, "created", reference->created);
	if (r == 0 && reference->client_id) {
		struct json_object *identity = json_object_new_object();

		r = json_set(object, "identity", identity);
		if (r == 0)
			r = json_set_string(identity, "client_id", reference->client_id);
	}
	return r;
}

/** key_reference_id() - what names the passphrase to people and in logs. Return: borrowed text. */
const char *key_reference_id(const struct key_reference *reference)
{
	const char *id =
		reference->provider == KEY_PROVIDER_FILE ? reference->path : reference->secret;

	return id ? id : "";
}
