/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What parses prints as something that parses to the same; getters take any object. */
#include "base/json.h"
#include "fuzz.h"

static void look(struct json_object *object, const char *name)
{
	const char *text = json_get_string(object, name);

	if (text)
		must(json_object_is_type(json_object_object_get(object, name), json_type_string));
	(void)json_get_bool(object, name, true);
	(void)json_get_int(object, name, 7);
	must(!json_get_object(object, name) || !json_get_array(object, name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_putp) struct json_object *object = NULL, *again = NULL;
	const char *text;

	if (json_parse((const char *)data, size, &object) < 0) {
		must(!object);
		return 0;
	}
	must(object);
	look(object, "a");
	if (json_object_is_type(object, json_type_object)) {
		json_object_object_foreach(object, name, value)
		{
			must(value || !json_get_string(object, name));
			look(object, name);
		}
	}
	/* a number alone is not what anybody sends; a double may print with fewer digits than it
	 * has */
	if (!json_object_is_type(object, json_type_object) &&
	    !json_object_is_type(object, json_type_array))
		return 0;
	text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
	must(text);
	/* nor is NaN equal to itself */
	if (strstr(text, "NaN") || memchr(data, '.', size) || memchr(data, 'e', size) ||
	    memchr(data, 'E', size))
		return 0;
	must(json_parse(text, strlen(text), &again) == 0);
	must(json_object_equal(object, again));
	return 0;
}
