/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A token from any disk: what is accepted passes its own check, prints, and reads back as the same.
 */
#include "fuzz.h"
#include "key/reference.h"

static void must_be_same(const char *a, const char *b)
{
	must(!a == !b);
	must(!a || strcmp(a, b) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_putp) struct json_object *in = NULL, *out = NULL, *parsed = NULL;
	_cleanup_(key_reference_freep) struct key_reference *one = NULL, *two = NULL;
	const char *text;

	if (size > KEY_REFERENCE_MAX_BYTES || json_parse((const char *)data, size, &in) < 0)
		return 0;
	if (key_reference_from_json(in, &one) < 0) {
		must(!one);
		return 0;
	}
	must(key_reference_check(one) == 0);
	must(key_reference_id(one)[0] != '\0');
	out = json_object_new_object();
	must(out && key_reference_to_json(one, out) == 0);
	text = json_object_to_json_string_ext(out, JSON_C_TO_STRING_PLAIN);
	must(strlen(text) <= KEY_REFERENCE_MAX_BYTES);
	must(json_parse(text, strlen(text), &parsed) == 0);
	must(key_reference_from_json(parsed, &two) == 0);
	must(one->provider == two->provider);
	must_be_same(one->secret, two->secret);
	must_be_same(one->kek, two->kek);
	must_be_same(one->algorithm, two->algorithm);
	must_be_same(one->wrapped, two->wrapped);
	must_be_same(one->client_id, two->client_id);
	must_be_same(one->path, two->path);
	must_be_same(one->created, two->created);
	return 0;
}
