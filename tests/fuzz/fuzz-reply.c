/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An answer of a vault, or of whoever answers in its place: where json-c takes it too, both read
 * the same value; and whatever it is, an error's sentence comes out of it.
 */
#include "base/json.h"
#include "fuzz.h"
#include "vault/failure.h"
#include "vault/reply.h"

static void compare(const uint8_t *data, size_t size, const struct secret *value)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	struct json_object *member;

	if (json_parse((const char *)data, size, &object) < 0 ||
	    !json_object_object_get_ex(object, "value", &member) ||
	    !json_object_is_type(member, json_type_string))
		return;
	must((size_t)json_object_get_string_len(member) == secret_size(value));
	must(memcmp(json_object_get_string(member), secret_bytes_const(value),
		    secret_size(value)) == 0);
}

static void describe(struct secret *body, long status)
{
	static const struct vault_object object = { .host = "h", .suffix = "s", .name = "n" };
	struct http_exchange exchange = {
		.answer = { .failure = HTTP_ANSWERED, .status = status, .body = body }
	};
	_cleanup_(freep) char *of_vault = NULL, *of_identity = NULL;

	must(failure_of_vault(&exchange, VAULT_SECRET_GET, &object, &of_vault) > 0);
	must(failure_of_identity(&exchange, NULL, &of_identity) > 0);
	must(of_vault && of_identity);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(secret_freep) struct secret *body = NULL, *value = NULL;
	_cleanup_(freep) char *text = NULL, *challenge = text_from(data, size);

	(void)challenge_fits(challenge, "vault.azure.net");
	if (size == 0 || size > 4096)
		return 0;
	must(secret_new(size, &body) == 0);
	must(secret_append(body, data, size) == 0);
	if (reply_string(body, "value", &value) == 0) {
		must(secret_size(value) > 0 && secret_size(value) < size);
		compare(data, size, value);
	}
	if (reply_text(body, "id", 100, &text) == 0)
		must(strlen(text) > 0 && strlen(text) <= 100);
	describe(body, 401);
	describe(body, 403);
	describe(body, 409);
	return 0;
}
