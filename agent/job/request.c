/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/request.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "key/url.h"

#define PROBLEMS_MAX       64  /* nobody reads more; the rest of a hostile request is not listed */
#define SNAPSHOT_NAME_MAX  128 /* ours have 30 letters */
#define ECHO_MAX           80  /* letters of a wrong value that are repeated to its author */
#define VOLUME_MIN_LETTERS 4

enum {
	FOR_ENCRYPT = 1 << REQUEST_ENCRYPT,
	FOR_DECRYPT = 1 << REQUEST_DECRYPT,
	FOR_RESTORE = 1 << REQUEST_RESTORE,
	FOR_GROW = 1 << REQUEST_GROW,
	FOR_CHECK = 1 << REQUEST_CHECK,
	FOR_ALL = FOR_ENCRYPT | FOR_DECRYPT | FOR_RESTORE | FOR_GROW | FOR_CHECK,
};

/* clang-format off */
static const char *const kind_names[] = {
	[REQUEST_ENCRYPT] = "encrypt",
	[REQUEST_DECRYPT] = "decrypt",
	[REQUEST_RESTORE] = "restore",
	[REQUEST_GROW] = "grow",
	[REQUEST_CHECK] = "check",
};

static const struct parameter {
	const char *name;
	enum json_type type;
	unsigned kinds; /* for which kinds of request it has a meaning */
} parameters[] = {
	{ "kind",               json_type_string,  FOR_ALL },
	{ "volume_type",        json_type_string,  FOR_ENCRYPT | FOR_DECRYPT | FOR_GROW },
	{ "provider",           json_type_string,  FOR_ENCRYPT },
	{ "vault",              json_type_string,  FOR_ENCRYPT },
	{ "kek",                json_type_string,  FOR_ENCRYPT },
	{ "algorithm",          json_type_string,  FOR_ENCRYPT },
	{ "client_id",          json_type_string,  FOR_ENCRYPT | FOR_DECRYPT },
	{ "key_directory",      json_type_string,  FOR_ENCRYPT },
	{ "snapshot",           json_type_string,  FOR_RESTORE },
	{ "volumes",            json_type_array,   FOR_ENCRYPT | FOR_DECRYPT | FOR_GROW },
	{ "format_all",         json_type_boolean, FOR_ENCRYPT },
	{ "next_boot",          json_type_boolean, FOR_ENCRYPT | FOR_DECRYPT },
	{ "recovery_key",       json_type_boolean, FOR_ENCRYPT },
	{ "detached_header",    json_type_boolean, FOR_ENCRYPT },
	{ "allow_other_region", json_type_boolean, FOR_ENCRYPT | FOR_DECRYPT },
	{ "reboot",             json_type_boolean, FOR_ENCRYPT | FOR_DECRYPT },
};

static const char *const algorithms[] = { "RSA-OAEP-256", "RSA-OAEP", "RSA1_5" };
/* clang-format on */

struct request *request_free(struct request *request)
{
	if (!request)
		return NULL;
	free(request->vault);
	free(request->kek);
	free(request->algorithm);
	free(request->client_id);
	free(request->key_directory);
	free(request->snapshot);
	for (size_t i = 0; i < request->n_volumes; i++)
		free(request->volumes[i]);
	free(request->volumes);
	free(request);
	return NULL;
}

void request_freep(struct request **request)
{
	(void)request_free(*request);
}

void request_problems_clear(struct request_problems *problems)
{
	for (size_t i = 0; i < problems->n; i++) {
		free(problems->problems[i].what);
		free(problems->problems[i].remedy);
	}
	free(problems->problems);
	*problems = (struct request_problems){ 0 };
}

/**
 * problem() - note one thing that is wrong
 * @parameter: static text
 * @remedy:    one sentence, or NULL for none
 * @format:    one sentence
 *
 * Return: 0 or -ENOMEM; beyond PROBLEMS_MAX nothing is added.
 */
__attribute__((format(printf, 4, 5))) static int problem(struct request_problems *problems,
							 const char *parameter, const char *remedy,
							 const char *format, ...)
{
	struct request_problem *larger, *added;
	va_list arguments;
	int n;

	if (problems->n >= PROBLEMS_MAX)
		return 0;
	larger = reallocarray(problems->problems, problems->n + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	problems->problems = larger;
	added = &larger[problems->n];
	*added = (struct request_problem){ .parameter = parameter };
	added->remedy = strdup(remedy ? remedy : "");
	va_start(arguments, format);
	n = vasprintf(&added->what, format, arguments);
	va_end(arguments);
	if (n < 0 || !added->remedy) {
		if (n >= 0)
			free(added->what);
		free(added->remedy);
		return -ENOMEM;
	}
	problems->n++;
	return 0;
}

/** take() - copy a text parameter; absent or of another type gives NULL. Return: 0 or -ENOMEM. */
static int take(struct json_object *object, const char *name, char **ret)
{
	const char *text = json_get_string(object, name);

	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

static int read_kind(struct json_object *object, enum request_kind *ret,
		     struct request_problems *problems)
{
	const char *text = json_get_string(object, "kind");

	for (unsigned kind = 0; text && kind < ARRAY_SIZE(kind_names); kind++)
		if (strcmp(text, kind_names[kind]) == 0) {
			*ret = (enum request_kind)kind;
			return 0;
		}
	*ret = REQUEST_ENCRYPT;
	return problem(problems, "kind", "Say encrypt, decrypt, restore, grow or check.",
		       "The kind of the request, \"%.*s\", is not known.", ECHO_MAX,
		       text ? text : "");
}

static int check_name(enum request_kind kind, const char *name, struct json_object *value,
		      struct request_problems *problems)
{
	const char *text;

	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++) {
		const struct parameter *parameter = &parameters[i];

		if (strcmp(parameter->name, name) != 0)
			continue;
		if (!value) /* null is absent */
			return 0;
		if (!json_object_is_type(value, parameter->type))
			return problem(problems, parameter->name, NULL,
				       "The parameter %s is not a %s.", parameter->name,
				       json_type_to_name(parameter->type));
		if (parameter->type == json_type_string) {
			text = json_object_get_string(value);
			if (strlen(text) != (size_t)json_object_get_string_len(value))
				return problem(problems, parameter->name, NULL,
					       "The parameter %s has a NUL in it.",
					       parameter->name);
		}
		/* a switch that is off changes nothing, wherever it stands */
		if (parameter->type == json_type_boolean && !json_object_get_boolean(value))
			return 0;
		if (!(parameter->kinds & (1U << kind)))
			return problem(problems, parameter->name, "Leave it out.",
				       "The parameter %s has no meaning in a request of kind %s.",
				       parameter->name, kind_names[kind]);
		return 0;
	}
	return problem(problems, "unknown", "Check the spelling.",
		       "The parameter \"%.*s\" is not known.", ECHO_MAX, name);
}

static int read_volume_type(struct json_object *object, struct request *request,
			    struct request_problems *problems)
{
	const char *text = json_get_string(object, "volume_type");

	if (request->kind == REQUEST_RESTORE || request->kind == REQUEST_CHECK)
		return 0;
	if (!text && request->kind == REQUEST_ENCRYPT)
		return problem(problems, "volume_type", "Say Data, OS or All.",
			       "The volume type is missing.");
	if (!text) /* Data: as "az vm encryption disable" does on Linux */
		text = request->kind == REQUEST_GROW ? "All" : "Data";
	if (strcasecmp(text, "All") == 0)
		request->wants_os = request->wants_data = true;
	else if (strcasecmp(text, "OS") == 0)
		request->wants_os = true;
	else if (strcasecmp(text, "Data") == 0)
		request->wants_data = true;
	else
		return problem(problems, "volume_type", "Say Data, OS or All.",
			       "The volume type \"%.*s\" is not known.", ECHO_MAX, text);
	return 0;
}

static int check_url(const char *parameter, const char *text, enum key_url_kind kind,
		     const char *remedy, struct request_problems *problems)
{
	struct key_url url;
	int r;

	r = key_url_parse(text, kind, &url);
	if (r <= 0)
		return r;
	return problem(problems, parameter, remedy, "The address \"%.*s\" is not usable: %s",
		       ECHO_MAX, text, key_url_problem(r));
}

/* The KEK and its algorithm belong together; names are written as the service writes them. */
static int read_kek(struct json_object *object, struct request *request,
		    struct request_problems *problems)
{
	const char *algorithm = json_get_string(object, "algorithm");
	int r;

	r = take(object, "kek", &request->kek);
	if (r < 0)
		return r;
	if (!request->kek && algorithm)
		return problem(problems, "algorithm",
			       "Name the key encryption key too, or leave the algorithm out.",
			       "There is a key encryption algorithm, but no key encryption key.");
	if (!request->kek)
		return 0;
	r = check_url("kek", request->kek, KEY_URL_KEY,
		      "Give the identifier of a key, https://VAULT.vault.azure.net/keys/NAME.",
		      problems);
	if (r < 0)
		return r;
	if (!algorithm)
		algorithm = algorithms[0];
	for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++)
		if (strcasecmp(algorithm, algorithms[i]) == 0) {
			request->algorithm = strdup(algorithms[i]);
			return request->algorithm ? 0 : -ENOMEM;
		}
	return problem(problems, "algorithm", "Say RSA-OAEP-256, RSA-OAEP or RSA1_5.",
		       "The key encryption algorithm \"%.*s\" is not known.", ECHO_MAX, algorithm);
}

static bool is_clean_path(const char *path)
{
	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return false;
	for (const char *at = path; (at = strstr(at, "/..")); at += 3)
		if (at[3] == '/' || at[3] == '\0')
			return false;
	for (const char *at = path; *at; at++)
		if (iscntrl((unsigned char)*at))
			return false;
	return true;
}

static int refuse_with_file(const char *parameter, const char *value,
			    struct request_problems *problems)
{
	if (!value)
		return 0;
	return problem(problems, parameter, "Leave it out, or choose the provider keyvault.",
		       "The key provider file has no use for the parameter %s.", parameter);
}

static int read_provider(struct json_object *object, struct request *request,
			 struct request_problems *problems)
{
	const char *provider = json_get_string(object, "provider");
	int r;

	if (request->kind != REQUEST_ENCRYPT)
		return 0;
	if (provider && strcasecmp(provider, "file") == 0)
		request->provider = KEY_PROVIDER_FILE;
	else if (!provider || strcasecmp(provider, "keyvault") == 0)
		request->provider = KEY_PROVIDER_KEYVAULT;
	else
		return problem(problems, "provider", "Say keyvault or file.",
			       "The key provider \"%.*s\" is not known.", ECHO_MAX, provider);

	r = take(object, "vault", &request->vault);
	if (r < 0)
		return r;
	r = take(object, "key_directory", &request->key_directory);
	if (r < 0)
		return r;

	switch (request->provider) {
	case KEY_PROVIDER_KEYVAULT:
		if (!request->vault)
			r = problem(problems, "vault",
				    "Give the vault's address, https://NAME.vault.azure.net, "
				    "or choose the provider file.",
				    "No key vault is named to keep the passphrases.");
		else
			r = check_url("vault", request->vault, KEY_URL_VAULT,
				      "Give the vault's address, https://NAME.vault.azure.net.",
				      problems);
		if (r == 0 && request->key_directory)
			r = problem(problems, "key_directory",
				    "Leave it out, or choose the provider file.",
				    "A key directory belongs to the key provider file.");
		return r < 0 ? r : read_kek(object, request, problems);
	case KEY_PROVIDER_FILE:
		r = refuse_with_file("vault", request->vault, problems);
		if (r == 0)
			r = refuse_with_file("kek", json_get_string(object, "kek"), problems);
		if (r == 0)
			r = refuse_with_file("algorithm", json_get_string(object, "algorithm"),
					     problems);
		if (r == 0 && request->key_directory && !is_clean_path(request->key_directory))
			r = problem(problems, "key_directory",
				    "Give a path that begins with / and has no \"..\" in it.",
				    "The key directory \"%.*s\" is not an absolute, plain path.",
				    ECHO_MAX, request->key_directory);
		return r;
	}
	return -EINVAL;
}

static bool is_guid(const char *text)
{
	size_t i;

	for (i = 0; text[i] && i < 36; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-'
							    : !isxdigit((unsigned char)text[i]))
			return false;
	return i == 36 && !text[i];
}

static bool is_volume_uuid(const char *text)
{
	size_t n = strspn(text, "0123456789abcdefABCDEF-");

	return !text[n] && n >= VOLUME_MIN_LETTERS && n <= REQUEST_VOLUME_MAX_BYTES;
}

static bool names_volume(const struct request *request, const char *uuid)
{
	for (size_t i = 0; i < request->n_volumes; i++)
		if (strcasecmp(request->volumes[i], uuid) == 0)
			return true;
	return false;
}

static int read_volumes(struct json_object *object, struct request *request,
			struct request_problems *problems)
{
	struct json_object *array = json_get_array(object, "volumes");
	size_t n = array ? json_object_array_length(array) : 0;

	if (!array)
		return 0;
	/* an empty list must not come to mean everything */
	if (n == 0)
		return problem(problems, "volumes", "Name a volume, or leave the list out.",
			       "The list of volumes is empty.");
	if (n > REQUEST_MAX_VOLUMES)
		return problem(problems, "volumes", "Leave the list out to take all volumes.",
			       "The list of volumes has more than %d entries.",
			       REQUEST_MAX_VOLUMES);
	request->volumes = calloc(n, sizeof(*request->volumes));
	if (!request->volumes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_object *value = json_object_array_get_idx(array, i);
		const char *text;
		int r;

		text = json_object_is_type(value, json_type_string) ? json_object_get_string(value)
								    : "";
		if (!is_volume_uuid(text)) {
			r = problem(problems, "volumes",
				    "Name volumes by UUID, as \"vmcryptctl volumes\" shows them.",
				    "\"%.*s\" is not the UUID of a volume.", ECHO_MAX, text);
			if (r < 0)
				return r;
			continue;
		}
		if (names_volume(request, text))
			continue;
		request->volumes[request->n_volumes] = strdup(text);
		if (!request->volumes[request->n_volumes])
			return -ENOMEM;
		request->n_volumes++;
	}
	return 0;
}

static int read_snapshot(struct json_object *object, struct request *request,
			 struct request_problems *problems)
{
	int r;

	if (request->kind != REQUEST_RESTORE)
		return 0;
	r = take(object, "snapshot", &request->snapshot);
	if (r < 0)
		return r;
	if (!request->snapshot || !request_is_snapshot_name(request->snapshot))
		return problem(problems, "snapshot",
			       "Name a snapshot, as \"vmcryptctl snapshot list\" shows them.",
			       "\"%.*s\" is not the name of a snapshot.", ECHO_MAX,
			       request->snapshot ? request->snapshot : "");
	return 0;
}

static int read_switches(struct json_object *object, struct request *request,
			 struct request_problems *problems)
{
	int r = 0;

	request->is_format_all = json_get_bool(object, "format_all", false);
	request->is_next_boot = json_get_bool(object, "next_boot", false);
	request->has_recovery_key = json_get_bool(object, "recovery_key", false);
	request->has_detached_header = json_get_bool(object, "detached_header", false);
	request->allows_other_region = json_get_bool(object, "allow_other_region", false);
	request->wants_reboot = json_get_bool(object, "reboot", false);

	if (request->is_format_all && request->is_next_boot)
		r = problem(problems, "next_boot", "Choose one of the two.",
			    "Volumes are formatted at once, not at the next boot.");
	if (r == 0 && request->is_format_all && request->has_detached_header)
		r = problem(problems, "detached_header", "Choose one of the two.",
			    "A volume that is formatted has room for its header.");
	return r;
}

/** request_is_snapshot_name() - one path component of plain letters that is not hidden */
bool request_is_snapshot_name(const char *text)
{
	size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				"0123456789._-");

	return !text[n] && n >= 1 && n <= SNAPSHOT_NAME_MAX && text[0] != '.' && text[0] != '-';
}

const char *request_kind_to_string(enum request_kind kind)
{
	return kind_names[kind];
}

/**
 * request_from_json() - parse and check a request, saying all that is wrong at once
 * @object:   borrowed; null members count as absent
 * @ret:      owned by the caller; NULL when there are problems
 * @problems: empty on entry; clear with request_problems_clear(), also on failure
 *
 * Return: 0, also with problems, or -ENOMEM.
 */
int request_from_json(struct json_object *object, struct request **ret,
		      struct request_problems *problems)
{
	_cleanup_(request_freep) struct request *request = NULL;
	const char *client_id;
	int r;

	*ret = NULL;
	if (!json_object_is_type(object, json_type_object))
		return problem(problems, "request", NULL, "The request is not an object.");
	request = calloc(1, sizeof(*request));
	if (!request)
		return -ENOMEM;
	r = read_kind(object, &request->kind, problems);
	if (r < 0)
		return r;
	json_object_object_foreach(object, name, value)
	{
		r = check_name(request->kind, name, value, problems);
		if (r < 0)
			return r;
	}

	r = read_volume_type(object, request, problems);
	if (r == 0)
		r = read_provider(object, request, problems);
	if (r == 0)
		r = take(object, "client_id", &request->client_id);
	client_id = request->client_id;
	if (r == 0 && client_id && !is_guid(client_id))
		r = problem(problems, "client_id",
			    "Give the client id of the identity, a GUID of 36 letters.",
			    "The encryption identity \"%.*s\" is not a client id.", ECHO_MAX,
			    client_id);
	if (r == 0)
		r = read_volumes(object, request, problems);
	if (r == 0)
		r = read_snapshot(object, request, problems);
	if (r == 0)
		r = read_switches(object, request, problems);
	if (r < 0)
		return r;
	if (problems->n == 0)
		*ret = steal(request);
	return 0;
}

/**
 * request_may_overlap() - could both want the same volume?
 *
 * Known only when both name their volumes, or neither does; a restore may touch every volume.
 */
bool request_may_overlap(const struct request *a, const struct request *b)
{
	if (a->kind == REQUEST_RESTORE || b->kind == REQUEST_RESTORE)
		return true;
	if (a->n_volumes == 0 && b->n_volumes == 0)
		return (a->wants_os && b->wants_os) || (a->wants_data && b->wants_data);
	if (a->n_volumes == 0 || b->n_volumes == 0)
		return true;
	for (size_t i = 0; i < a->n_volumes; i++)
		if (names_volume(b, a->volumes[i]))
			return true;
	return false;
}
