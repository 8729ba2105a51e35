/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both messages of the key service: what is accepted prints, and reads back as the same text. */
#include "fuzz.h"
#include "key/protocol.h"

static struct secret *secret_of(size_t size)
{
	struct secret *secret = NULL;

	if (size == 0)
		return NULL;
	must(secret_new(size, &secret) == 0);
	secret_set_size(secret, size);
	return secret;
}

static void request(const char *text, size_t size)
{
	struct protocol_request one = { 0 }, two = { 0 };
	_cleanup_(json_putp) struct json_object *first = NULL, *second = NULL;

	if (protocol_request_parse(text, size, &one) == 0) {
		must(one.n >= 1 && one.n <= KEY_BATCH_MAX && one.timeout_ms >= 1);
		for (size_t i = 0; i < one.n; i++)
			one.operations[i].passphrase =
				secret_of(one.operations[i].passphrase_bytes);
		must(protocol_request_print(&one, &first) == 0);
		text = json_object_to_json_string(first);
		must(protocol_request_parse(text, strlen(text), &two) == 0);
		for (size_t i = 0; i < two.n; i++)
			two.operations[i].passphrase =
				secret_of(two.operations[i].passphrase_bytes);
		must(protocol_request_print(&two, &second) == 0);
		must(strcmp(text, json_object_to_json_string(second)) == 0);
	}
	protocol_request_clear(&one);
	protocol_request_clear(&two);
}

static void reply(const char *text, size_t size)
{
	struct protocol_reply one = { 0 }, two = { 0 };
	_cleanup_(json_putp) struct json_object *first = NULL, *second = NULL;

	if (protocol_reply_parse(text, size, &one) == 0) {
		must(one.n >= 1 && one.n <= KEY_BATCH_MAX);
		for (size_t i = 0; i < one.n; i++)
			one.results[i].result.passphrase =
				secret_of(one.results[i].passphrase_bytes);
		must(protocol_reply_print(&one, &first) == 0);
		text = json_object_to_json_string(first);
		must(protocol_reply_parse(text, strlen(text), &two) == 0);
		for (size_t i = 0; i < two.n; i++)
			two.results[i].result.passphrase =
				secret_of(two.results[i].passphrase_bytes);
		must(protocol_reply_print(&two, &second) == 0);
		must(strcmp(text, json_object_to_json_string(second)) == 0);
	}
	protocol_reply_clear(&one);
	protocol_reply_clear(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	request((const char *)data, size);
	reply((const char *)data, size);
	return 0;
}
