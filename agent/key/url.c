/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/url.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

/* Source: Key Vault REST API reference, "Keys, secrets, and certificates overview", vault and
 * object names. */
#define VAULT_NAME_MIN_LETTERS 3
#define VAULT_NAME_MAX_LETTERS 24
#define VERSION_LETTERS        32 /* hexadecimal, made by the service */

/* The hosts of all clouds. A Managed HSM keeps keys only. */
/* clang-format off */
static const struct suffix {
	const char *suffix;
	bool has_secrets;
} suffixes[] = {
	{ "vault.azure.net",            true  },
	{ "vault.usgovcloudapi.net",    true  },
	{ "vault.azure.cn",             true  },
	{ "vault.microsoftazure.de",    true  },
	{ "managedhsm.azure.net",       false },
	{ "managedhsm.usgovcloudapi.net", false },
	{ "managedhsm.azure.cn",        false },
};
/* clang-format on */

static const char digits[] = "0123456789";
static const char upper[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
static const char lower[] = "abcdefghijklmnopqrstuvwxyz";

static bool is_name_letter(char c)
{
	return c != '\0' && (strchr(digits, c) || strchr(upper, c) || strchr(lower, c) || c == '-');
}

static bool is_hex_letter(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* the letters up to the next slash or the end, after any slashes; an empty segment is the end */
static size_t next_segment(const char **at, const char **ret)
{
	size_t size;

	*at += strspn(*at, "/");
	size = strcspn(*at, "/");
	*ret = *at;
	*at += size;
	return size;
}

static int parse_host(const char *host, size_t size, enum key_url_kind kind, struct key_url *ret)
{
	const char *dot = memchr(host, '.', size), *port = memchr(host, ':', size);
	size_t name_letters, suffix_letters;

	if (port) {
		if (host + size - port != 4 || memcmp(port, ":443", 4) != 0)
			return KEY_URL_E_HOST;
		size = (size_t)(port - host);
	}
	if (!dot || size >= sizeof(ret->vault))
		return KEY_URL_E_HOST;
	name_letters = (size_t)(dot - host);
	if (name_letters < VAULT_NAME_MIN_LETTERS || name_letters > VAULT_NAME_MAX_LETTERS ||
	    host[0] == '-' || dot[-1] == '-')
		return KEY_URL_E_HOST;
	for (size_t i = 0; i < name_letters; i++)
		if (!is_name_letter(host[i]))
			return KEY_URL_E_HOST;

	suffix_letters = size - name_letters - 1;
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		const char *suffix = suffixes[i].suffix;

		if (strlen(suffix) != suffix_letters ||
		    strncasecmp(dot + 1, suffix, suffix_letters) != 0)
			continue;
		if (kind == KEY_URL_SECRET && !suffixes[i].has_secrets)
			return KEY_URL_E_HOST;
		for (size_t j = 0; j < size; j++) {
			const char *capital = strchr(upper, host[j]);

			ret->vault[j] = capital ? lower[capital - upper] : host[j];
		}
		memcpy(ret->suffix, suffix, suffix_letters);
		return 0;
	}
	return KEY_URL_E_HOST;
}

static int parse_object(const char *path, const char *collection, struct key_url *ret)
{
	const char *segment;
	size_t size;

	size = next_segment(&path, &segment);
	if (size != strlen(collection) || strncasecmp(segment, collection, size) != 0)
		return KEY_URL_E_PATH;

	size = next_segment(&path, &segment);
	if (size == 0 || size >= sizeof(ret->name))
		return KEY_URL_E_PATH;
	for (size_t i = 0; i < size; i++)
		if (!is_name_letter(segment[i]))
			return KEY_URL_E_PATH;
	memcpy(ret->name, segment, size);

	size = next_segment(&path, &segment);
	if (size != 0 && size != VERSION_LETTERS)
		return KEY_URL_E_PATH;
	for (size_t i = 0; i < size; i++)
		if (!is_hex_letter(segment[i]))
			return KEY_URL_E_PATH;
	memcpy(ret->version, segment, size);

	return next_segment(&path, &segment) == 0 ? 0 : KEY_URL_E_PATH;
}

/**
 * key_url_parse() - take the address of a vault, a secret or a key apart
 * @text: borrowed; several slashes count as one, as the service and its own clients have it
 * @kind: what the address must name; a vault's has no path
 * @ret:  all strings end in NUL; untouched unless 0 is returned
 *
 * Return: 0 or KEY_URL_E_*.
 */
int key_url_parse(const char *text, enum key_url_kind kind, struct key_url *ret)
{
	static const char scheme[] = "https://";
	struct key_url url = { 0 };
	const char *host, *path, *segment;
	int r = 0;

	if (text[0] == '\0' || strnlen(text, KEY_URL_MAX_BYTES + 1) > KEY_URL_MAX_BYTES)
		return KEY_URL_E_LENGTH;
	if (strncasecmp(text, scheme, strlen(scheme)) != 0)
		return KEY_URL_E_SCHEME;
	host = text + strlen(scheme);
	path = host + strcspn(host, "/");

	r = parse_host(host, (size_t)(path - host), kind, &url);
	if (r != 0)
		return r;
	switch (kind) {
	case KEY_URL_VAULT:
		r = next_segment(&path, &segment) == 0 ? 0 : KEY_URL_E_PATH;
		break;
	case KEY_URL_SECRET:
		r = parse_object(path, "secrets", &url);
		break;
	case KEY_URL_KEY:
		r = parse_object(path, "keys", &url);
		break;
	}
	if (r != 0)
		return r;
	*ret = url;
	return 0;
}

/** key_url_problem() - what a KEY_URL_E_* condition means, as the end of a sentence. Return: text.
 */
const char *key_url_problem(int condition)
{
	switch (condition) {
	case 0:
		return "is well formed";
	case KEY_URL_E_SCHEME:
		return "does not begin with https://";
	case KEY_URL_E_HOST:
		return "does not name a key vault (such as https://NAME.vault.azure.net)";
	case KEY_URL_E_PATH:
		return "does not have the path of such an object, /secrets/NAME/VERSION or /keys/NAME/VERSION";
	case KEY_URL_E_LENGTH:
		return "is empty or too long";
	}
	return "is not an address";
}
