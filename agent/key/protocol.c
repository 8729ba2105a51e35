/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static const char *const verbs[] = {
	[PROTOCOL_FETCH] = "fetch",
	[PROTOCOL_STORE] = "store",
	[PROTOCOL_PROBE] = "probe",
};

static void operation_clear(struct protocol_operation *operation)
{
	key_reference_free(operation->reference);
	free(operation->vault);
	free(operation->name);
	free(operation->kek);
	free(operation->algorithm);
	free(operation->client_id);
	free(operation->volume);
	free(operation->machine);
	secret_free(operation->passphrase);
}

/** protocol_request_clear() - release all of it */
void protocol_request_clear(struct protocol_request *request)
{
	for (size_t i = 0; i < ARRAY_SIZE(request->operations); i++)
		operation_clear(&request->operations[i]);
	*request = (struct protocol_request){ 0 };
}

/** protocol_reply_clear() - release all of it */
void protocol_reply_clear(struct protocol_reply *reply)
{
	for (size_t i = 0; i < ARRAY_SIZE(reply->results); i++) {
		struct protocol_result *result = &reply->results[i];

		key_result_clear(&result->result);
		if (result->probe)
			key_probe_clear(result->probe);
		free(result->probe);
	}
	*reply = (struct protocol_reply){ 0 };
}

/* the texts of a store or a probe, by their names in JSON */
#define TEXT_MEMBERS 7
struct text_member {
	const char *name;
	char **field;
	bool is_required;
};

static void text_members(struct protocol_operation *operation,
			 struct text_member members[TEXT_MEMBERS])
{
	/* clang-format off */
	const struct text_member all[TEXT_MEMBERS] = {
		{ "vault",     &operation->vault,     true },
		{ "name",      &operation->name,      true },
		{ "kek",       &operation->kek,       false },
		{ "algorithm", &operation->algorithm, false },
		{ "client_id", &operation->client_id, false },
		{ "volume",    &operation->volume,    false },
		{ "machine",   &operation->machine,   false },
	};
	/* clang-format on */

	memcpy(members, all, sizeof(all));
}

/* a copy of a text that may be absent; every other type, and one that is too long, is refused */
static int take_text(struct json_object *object, const char *name, bool is_required, char **ret)
{
	const char *text = json_get_string(object, name);

	if (!text)
		return is_required || json_object_object_get_ex(object, name, NULL) ? -EBADMSG : 0;
	if (text[0] == '\0' || strlen(text) > PROTOCOL_TEXT_MAX_BYTES)
		return -EBADMSG;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

/* a number within bounds. Return: 0 or -EBADMSG. */
static int take_size(struct json_object *object, const char *name, int64_t maximum, size_t *ret)
{
	int64_t value = json_get_int(object, name, -1);

	if (value < 1 || value > maximum)
		return -EBADMSG;
	*ret = (size_t)value;
	return 0;
}

static int operation_parse(struct json_object *object, struct protocol_operation *ret)
{
	const char *verb = json_get_string(object, "operation");
	struct text_member members[TEXT_MEMBERS];
	size_t i = 0;
	int r = 0;

	while (verb && i < ARRAY_SIZE(verbs) && strcmp(verb, verbs[i]) != 0)
		i++;
	if (!verb || i == ARRAY_SIZE(verbs))
		return -EBADMSG;
	ret->verb = (enum protocol_verb)i;
	if (ret->verb == PROTOCOL_FETCH)
		return key_reference_from_json(json_get_object(object, "reference"),
					       &ret->reference);
	text_members(ret, members);
	for (i = 0; i < ARRAY_SIZE(members) && r == 0; i++)
		r = take_text(object, members[i].name, members[i].is_required, members[i].field);
	if (r == 0 && ret->verb == PROTOCOL_STORE)
		r = take_size(object, "passphrase_bytes", PROTOCOL_SECRET_MAX_BYTES,
			      &ret->passphrase_bytes);
	return r;
}

/* the array of that name, of a message of our version, with 1..KEY_BATCH_MAX members */
static struct json_object *checked_array(struct json_object *message, const char *name)
{
	struct json_object *array = json_get_array(message, name);

	if (json_get_int(message, "version", 0) != PROTOCOL_VERSION || !array ||
	    json_object_array_length(array) < 1 || json_object_array_length(array) > KEY_BATCH_MAX)
		return NULL;
	return array;
}

/**
 * protocol_request_parse() - a request's JSON
 * @ret: zeroed by the caller; its passphrases are announced (passphrase_bytes) but not yet there.
 * To be cleared by the caller, also on failure
 *
 * Return: 0, -EBADMSG or -ENOMEM.
 */
int protocol_request_parse(const char *text, size_t size_bytes, struct protocol_request *ret)
{
	_cleanup_(json_putp) struct json_object *message = NULL;
	struct json_object *array;
	size_t timeout_ms;
	int r;

	if (size_bytes > PROTOCOL_JSON_MAX_BYTES)
		return -EBADMSG;
	r = json_parse(text, size_bytes, &message);
	if (r < 0)
		return r;
	array = checked_array(message, "operations");
	if (!array || take_size(message, "timeout_ms", PROTOCOL_TIMEOUT_MAX_MS, &timeout_ms) < 0)
		return -EBADMSG;
	ret->timeout_ms = (unsigned)timeout_ms;
	ret->n = json_object_array_length(array);
	for (size_t i = 0; i < ret->n; i++) {
		r = operation_parse(json_object_array_get_idx(array, i), &ret->operations[i]);
		if (r < 0)
			return r;
	}
	if (json_object_object_get_ex(message, "urgent", NULL))
		return take_size(message, "urgent", (int64_t)ret->n, &ret->n_urgent);
	return 0;
}

static int operation_print(const struct protocol_operation *operation, struct json_object *object)
{
	struct text_member members[TEXT_MEMBERS];
	struct protocol_operation copy = *operation;
	struct json_object *reference;
	int r;

	r = json_set_string(object, "operation", verbs[operation->verb]);
	if (r < 0)
		return r;
	if (operation->verb == PROTOCOL_FETCH) {
		reference = json_object_new_object();
		r = json_set(object, "reference", reference);
		return r < 0 ? r : key_reference_to_json(operation->reference, reference);
	}
	text_members(&copy, members);
	for (size_t i = 0; i < ARRAY_SIZE(members) && r == 0; i++)
		r = json_set_string(object, members[i].name, *members[i].field);
	if (r == 0 && operation->passphrase)
		r = json_set_int(object, "passphrase_bytes",
				 (int64_t)secret_size(operation->passphrase));
	return r;
}

/* {"version":1,NAME:[]}. Return: 0 or -ENOMEM. */
static int message_new(const char *name, struct json_object **ret, struct json_object **ret_array)
{
	_cleanup_(json_putp) struct json_object *message = json_object_new_object();
	struct json_object *array = json_object_new_array();
	int r;

	r = message ? json_set(message, name, array) : -ENOMEM;
	if (r == 0)
		r = json_set_int(message, "version", PROTOCOL_VERSION);
	if (r < 0)
		return r;
	*ret = steal(message);
	*ret_array = array;
	return 0;
}

/* a new object at the end of the array, or NULL */
static struct json_object *array_add_object(struct json_object *array)
{
	struct json_object *object = json_object_new_object();

	if (object && json_object_array_add(array, object) < 0) {
		json_object_put(object);
		return NULL;
	}
	return object;
}

/** protocol_request_print() - a request's JSON. Return: 0, -EBADMSG (a bad reference) or -ENOMEM.
 */
int protocol_request_print(const struct protocol_request *request, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *message = NULL;
	struct json_object *array, *object;
	int r;

	r = message_new("operations", &message, &array);
	if (r == 0)
		r = json_set_int(message, "timeout_ms", request->timeout_ms);
	if (r == 0 && request->n_urgent > 0)
		r = json_set_int(message, "urgent", (int64_t)request->n_urgent);
	for (size_t i = 0; i < request->n && r == 0; i++) {
		object = array_add_object(array);
		r = object ? operation_print(&request->operations[i], object) : -ENOMEM;
	}
	if (r == 0)
		*ret = steal(message);
	return r;
}

static int condition_parse(struct json_object *object, struct key_result *ret)
{
	const char *word = json_get_string(object, "condition");

	if (!word)
		return -EBADMSG;
	for (int condition = 0; condition <= KEY_E_CORRUPT; condition++)
		if (strcmp(word, key_condition_to_string(condition)) == 0) {
			ret->condition = condition;
			return take_text(object, "message", false, &ret->message);
		}
	return -EBADMSG;
}

static int condition_print(const struct key_result *result, struct json_object *object)
{
	char message[PROTOCOL_TEXT_MAX_BYTES + 1];
	int r;

	r = json_set_string(object, "condition", key_condition_to_string(result->condition));
	if (r < 0 || !result->message || !result->message[0])
		return r;
	(void)snprintf(message, sizeof(message), "%s", result->message);
	return json_set_string(object, "message", message);
}

/* the rows that parsing and printing of a probe share */
#define PROBE_RESULTS 5
#define PROBE_TEXTS   5
#define PROBE_FACTS   3

struct probe_members {
	struct {
		const char *name;
		struct key_result *result;
	} results[PROBE_RESULTS];
	struct {
		const char *name;
		char **text;
	} texts[PROBE_TEXTS];
	struct {
		const char *name;
		bool *fact;
	} facts[PROBE_FACTS];
};

static struct probe_members probe_members(struct key_probe *probe)
{
	/* clang-format off */
	return (struct probe_members){
		.results = {
			{ "set",      &probe->set },
			{ "get",      &probe->get },
			{ "wrap",     &probe->wrap },
			{ "unwrap",   &probe->unwrap },
			{ "metadata", &probe->metadata },
		},
		.texts = {
			{ "vault_region",         &probe->vault_region },
			{ "vault_recovery_level", &probe->vault_recovery_level },
			{ "kek_recovery_level",   &probe->kek_recovery_level },
			{ "machine_location",     &probe->machine_location },
			{ "machine_name",         &probe->machine_name },
		},
		.facts = {
			{ "kek_is_disabled",        &probe->kek_is_disabled },
			{ "kek_is_expired",         &probe->kek_is_expired },
			{ "has_encryption_at_host", &probe->has_encryption_at_host },
		},
	};
	/* clang-format on */
}

static int probe_parse(struct json_object *object, struct key_probe *probe)
{
	struct probe_members members = probe_members(probe);
	int r = 0;

	for (size_t i = 0; i < PROBE_RESULTS && r == 0; i++)
		r = condition_parse(json_get_object(object, members.results[i].name),
				    members.results[i].result);
	for (size_t i = 0; i < PROBE_TEXTS && r == 0; i++)
		r = take_text(object, members.texts[i].name, false, members.texts[i].text);
	for (size_t i = 0; i < PROBE_FACTS && r == 0; i++)
		*members.facts[i].fact = json_get_bool(object, members.facts[i].name, false);
	return r;
}

static int probe_print(const struct key_probe *probe, struct json_object *object)
{
	struct key_probe copy = *probe;
	struct probe_members members = probe_members(&copy);
	struct json_object *result;
	int r = 0;

	for (size_t i = 0; i < PROBE_RESULTS && r == 0; i++) {
		result = json_object_new_object();
		r = json_set(object, members.results[i].name, result);
		if (r == 0)
			r = condition_print(members.results[i].result, result);
	}
	for (size_t i = 0; i < PROBE_TEXTS && r == 0; i++)
		r = json_set_string(object, members.texts[i].name, *members.texts[i].text);
	for (size_t i = 0; i < PROBE_FACTS && r == 0; i++)
		r = json_set_bool(object, members.facts[i].name, *members.facts[i].fact);
	return r;
}

static int result_parse(struct json_object *object, struct protocol_result *ret)
{
	struct json_object *reference, *probe;
	int r;

	r = condition_parse(object, &ret->result);
	if (r < 0 || ret->result.condition != 0)
		return r;
	if (json_object_object_get_ex(object, "passphrase_bytes", NULL))
		return take_size(object, "passphrase_bytes", PROTOCOL_SECRET_MAX_BYTES,
				 &ret->passphrase_bytes);
	reference = json_get_object(object, "reference");
	if (reference)
		return key_reference_from_json(reference, &ret->result.reference);
	probe = json_get_object(object, "probe");
	if (!probe)
		return -EBADMSG;
	ret->probe = calloc(1, sizeof(*ret->probe));
	return ret->probe ? probe_parse(probe, ret->probe) : -ENOMEM;
}

/** protocol_reply_parse() - a reply's JSON; @ret as in protocol_request_parse(). Return: as there.
 */
int protocol_reply_parse(const char *text, size_t size_bytes, struct protocol_reply *ret)
{
	_cleanup_(json_putp) struct json_object *message = NULL;
	struct json_object *array;
	int r;

	if (size_bytes > PROTOCOL_JSON_MAX_BYTES)
		return -EBADMSG;
	r = json_parse(text, size_bytes, &message);
	if (r < 0)
		return r;
	array = checked_array(message, "results");
	if (!array)
		return -EBADMSG;
	ret->n = json_object_array_length(array);
	for (size_t i = 0; i < ret->n; i++) {
		r = result_parse(json_object_array_get_idx(array, i), &ret->results[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int result_print(const struct protocol_result *result, struct json_object *object)
{
	struct json_object *member;
	int r;

	r = condition_print(&result->result, object);
	if (r < 0 || result->result.condition != 0)
		return r;
	if (result->result.passphrase)
		return json_set_int(object, "passphrase_bytes",
				    (int64_t)secret_size(result->result.passphrase));
	member = json_object_new_object();
	r = json_set(object, result->probe ? "probe" : "reference", member);
	if (r < 0)
		return r;
	if (result->probe)
		return probe_print(result->probe, member);
	return result->result.reference ? key_reference_to_json(result->result.reference, member)
					: -EINVAL;
}

/** protocol_reply_print() - a reply's JSON. Return: 0, -EINVAL, -EBADMSG or -ENOMEM. */
int protocol_reply_print(const struct protocol_reply *reply, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *message = NULL;
	struct json_object *array, *object;
	int r;

	r = message_new("results", &message, &array);
	for (size_t i = 0; i < reply->n && r == 0; i++) {
		object = array_add_object(array);
		r = object ? result_print(&reply->results[i], object) : -ENOMEM;
	}
	if (r == 0)
		*ret = steal(message);
	return r;
}
