/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way back: a request as the text that request_from_json() takes. */
#include <errno.h>

#include "base/cleanup.h"
#include "job/request.h"

static int set_switch(struct json_object *object, const char *name, bool value)
{
	return value ? json_set_bool(object, name, true) : 0;
}

static int add_volumes(const struct request *request, struct json_object *object)
{
	_cleanup_(json_putp) struct json_object *array = NULL;

	if (request->n_volumes == 0)
		return 0;
	array = json_object_new_array();
	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < request->n_volumes; i++) {
		struct json_object *text = json_object_new_string(request->volumes[i]);

		if (!text || json_object_array_add(array, text) < 0) {
			json_object_put(text);
			return -ENOMEM;
		}
	}
	return json_set(object, "volumes", steal(array));
}

static const char *volume_type(const struct request *request)
{
	if (request->wants_os)
		return request->wants_data ? "All" : "OS";
	return request->wants_data ? "Data" : NULL;
}

/**
 * request_to_json() - the form that request_from_json() takes
 * @ret: owned by the caller; untouched on failure
 *
 * Return: 0 or -ENOMEM.
 */
int request_to_json(const struct request *request, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	bool is_encrypt = request->kind == REQUEST_ENCRYPT;
	bool is_file = request->provider == KEY_PROVIDER_FILE;
	int r;

	if (!object)
		return -ENOMEM;
	r = json_set_string(object, "kind", request_kind_to_string(request->kind));
	if (r == 0)
		r = json_set_string(object, "volume_type", volume_type(request));
	if (r == 0 && is_encrypt)
		r = json_set_string(object, "provider", is_file ? "file" : "keyvault");
	if (r == 0)
		r = json_set_string(object, "vault", request->vault);
	if (r == 0)
		r = json_set_string(object, "kek", request->kek);
	if (r == 0)
		r = json_set_string(object, "algorithm", request->algorithm);
	if (r == 0)
		r = json_set_string(object, "client_id", request->client_id);
	if (r == 0)
		r = json_set_string(object, "key_directory", request->key_directory);
	if (r == 0)
		r = json_set_string(object, "snapshot", request->snapshot);
	if (r == 0)
		r = add_volumes(request, object);
	if (r == 0)
		r = set_switch(object, "format_all", request->is_format_all);
	if (r == 0)
		r = set_switch(object, "next_boot", request->is_next_boot);
	if (r == 0)
		r = set_switch(object, "recovery_key", request->has_recovery_key);
	if (r == 0)
		r = set_switch(object, "detached_header", request->has_detached_header);
	if (r == 0)
		r = set_switch(object, "allow_other_region", request->allows_other_region);
	if (r == 0)
		r = set_switch(object, "reboot", request->wants_reboot);
	if (r < 0)
		return r;
	*ret = steal(object);
	return 0;
}
