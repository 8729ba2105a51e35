/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/json.h"
#include "test.h"
#include "volume/header.h"

#define FILE_KEY                                                                                   \
	"\"provider\":\"file\",\"path\":\"/etc/vmcrypt/keys/a\",\"created\":\"2026-01-02T03:04:05Z\""
#define HEAD      "{\"type\":\"vmcrypt\",\"keyslots\":[\"0\"],\"version\":1," FILE_KEY
#define NAMES     ",\"filesystem\":\"0f4c-3a6e\",\"mapping\":\"vmcrypt-0f4c-3a6e\""
#define WITH(...) HEAD __VA_ARGS__ "}"

static const struct {
	const char *name, *text;
	bool is_good;
} rows[] = {
	{ "attached header", WITH(NAMES), true },
	{ "detached header",
	  WITH(NAMES ",\"device\":\"/dev/disk/azure/scsi1/lun0\",\"device_bytes\":1048576"), true },
	{ "udev's escapes in a link",
	  WITH(NAMES ",\"device\":\"/dev/disk/by-id/a\\\\x20b\",\"device_bytes\":1"), true },
	{ "no names", WITH(""), false },
	{ "no mapping", WITH(",\"filesystem\":\"0f4c\""), false },
	{ "mapping with a slash", WITH(",\"filesystem\":\"0f4c\",\"mapping\":\"../sda\""), false },
	{ "mapping that is an option", WITH(",\"filesystem\":\"0f4c\",\"mapping\":\"-rf\""),
	  false },
	{ "mapping with a blank", WITH(",\"filesystem\":\"0f4c\",\"mapping\":\"a b\""), false },
	{ "empty uuid", WITH(",\"filesystem\":\"\",\"mapping\":\"a\""), false },
	{ "uuid with a newline", WITH(",\"filesystem\":\"a\\nb\",\"mapping\":\"a\""), false },
	{ "uuid with a NUL", WITH(",\"filesystem\":\"a\\u0000b\",\"mapping\":\"a\""), false },
	{ "device without size", WITH(NAMES ",\"device\":\"/dev/sda\""), false },
	{ "size without device", WITH(NAMES ",\"device_bytes\":5"), false },
	{ "negative size", WITH(NAMES ",\"device\":\"/dev/sda\",\"device_bytes\":-5"), false },
	{ "device outside /dev", WITH(NAMES ",\"device\":\"/etc/passwd\",\"device_bytes\":5"),
	  false },
	{ "device that climbs", WITH(NAMES ",\"device\":\"/dev/../etc/passwd\",\"device_bytes\":5"),
	  false },
	{ "another type", "{\"type\":\"clevis\",\"keyslots\":[],\"version\":1," FILE_KEY NAMES "}",
	  false },
	{ "a later version",
	  "{\"type\":\"vmcrypt\",\"keyslots\":[],\"version\":2," FILE_KEY NAMES "}", false },
	{ "a key reference of whatever kind: key/reference.h decides",
	  "{\"type\":\"vmcrypt\",\"keyslots\":[],\"version\":1" NAMES "}", true },
	{ "not an object", "[1,2]", false },
};

static void accepts_only_what_is_sound(void **unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_putp) struct json_object *object = NULL;
		_cleanup_(header_token_freep) struct header_token *token = NULL;
		int r;

		assert_int_equal(json_parse(rows[i].text, strlen(rows[i].text), &object), 0);
		r = header_token_from_json(object, &token);
		assert_row(rows[i].name, r == (rows[i].is_good ? 0 : HEADER_E_MALFORMED));
		assert_row(rows[i].name, (token != NULL) == rows[i].is_good);
	}
}

static void writes_what_it_reads(void **unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_putp) struct json_object *object = NULL, *written = NULL;
		_cleanup_(header_token_freep) struct header_token *token = NULL, *again = NULL;

		if (!rows[i].is_good)
			continue;
		assert_int_equal(json_parse(rows[i].text, strlen(rows[i].text), &object), 0);
		assert_int_equal(header_token_from_json(object, &token), 0);
		assert_int_equal(header_token_to_json(token, &written), 0);
		assert_int_equal(json_object_array_length(json_get_array(written, "keyslots")), 0);
		assert_int_equal(header_token_from_json(written, &again), 0);
		assert_string_equal(again->mapping, token->mapping);
		assert_string_equal(again->filesystem_uuid, token->filesystem_uuid);
		assert_int_equal(again->device_bytes, token->device_bytes);
		assert_int_equal(again->device != NULL, token->device != NULL);
		assert_true(json_object_equal(json_object_object_get(again->reference, "path"),
					      json_object_object_get(token->reference, "path")));
	}
}

static void refuses_to_write_what_it_would_not_read(void **unused)
{
	_cleanup_(json_putp) struct json_object *reference = json_object_new_object();
	struct header_token token = { .reference = reference,
				      .filesystem_uuid = "0f4c",
				      .mapping = "a/b" };
	struct json_object *object = NULL;

	assert_int_equal(header_token_to_json(&token, &object), -EINVAL);
	assert_null(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_only_what_is_sound),
		cmocka_unit_test(writes_what_it_reads),
		cmocka_unit_test(refuses_to_write_what_it_would_not_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
