/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/json.h"
#include "test.h"
#include "volume/segments.h"

#define MIB            (1024ULL * 1024)
#define DEVICE         (96 * MIB)
#define SLOTS          "{\"keyslots\":{\"0\":{\"type\":\"luks2\"}"
#define PLAIN(from, n) "{\"type\":\"linear\",\"offset\":\"" from "\",\"size\":\"" n "\"}"
#define CRYPT(from, n, flags)                                                                      \
	"{\"type\":\"crypt\",\"offset\":\"" from "\",\"size\":\"" n                                \
	"\",\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\",\"sector_size\":4096" flags "}"
#define BACKUP(from, n, kind)                                                                      \
	"{\"type\":\"linear\",\"offset\":\"" from "\",\"size\":\"" n                               \
	"\",\"flags\":[\"backup-" kind "\"]}"
#define HOT ",\"flags\":[\"in-reencryption\"]"

static const struct {
	const char *name, *text;
	uint64_t data, encrypted, moved;
	bool is_decrypting;
} good[] = {
	{ "whole, attached", SLOTS "},\"segments\":{\"0\":" CRYPT("16777216", "dynamic", "") "}}",
	  80 * MIB, 80 * MIB, 0, false },
	{ "whole, detached", SLOTS "},\"segments\":{\"0\":" CRYPT("0", "dynamic", "") "}}", DEVICE,
	  DEVICE, 0, false },
	/* first segment parked in the last 16 MiB, 16 of 64 MiB encrypted */
	{ "encrypting with shift",
	  SLOTS
	  ",\"2\":{\"type\":\"reencrypt\",\"mode\":\"encrypt\"}},\"segments\":{"
	  "\"0\":" PLAIN("83886080", "16777216") ",\"1\":" PLAIN(
		  "16777216",
		  "33554432") ","
			      "\"2\":" CRYPT("67108864", "16777216",
					     "") ","
						 "\"3\":" BACKUP(
							 "83886080", "16777216",
							 "moved-segment") ","
									  "\"4\":" BACKUP(
										  "0", "dynamic",
										  "previous") "}}",
	  64 * MIB, 16 * MIB, 80 * MIB, false },
	{ "a hotzone while encrypting is still plain",
	  SLOTS ",\"2\":{\"type\":\"reencrypt\",\"mode\":\"encrypt\"}},\"segments\":{"
		"\"0\":" CRYPT("0", "1048576", "") ",\"1\":" CRYPT(
			"1048576", "1048576", HOT) ","
						   "\"2\":" PLAIN("2097152", "dynamic") "}}",
	  DEVICE, 1 * MIB, 0, false },
	{ "a hotzone while decrypting is still encrypted",
	  SLOTS ",\"2\":{\"type\":\"reencrypt\",\"mode\":\"decrypt\"}},\"segments\":{"
		"\"0\":" CRYPT("0", "1048576", "") ",\"1\":" CRYPT(
			"1048576", "1048576", HOT) ","
						   "\"2\":" PLAIN("2097152", "dynamic") "}}",
	  DEVICE, 2 * MIB, 0, true },
	{ "decrypted", "{\"keyslots\":{},\"segments\":{\"0\":" PLAIN("0", "dynamic") "}}", DEVICE,
	  0, 0, false },
	{ "beyond the end of a shrunken device",
	  SLOTS "},\"segments\":{\"0\":" CRYPT("1099511627776", "dynamic", "") "}}", 0, 0, 0,
	  false },
};

static const struct {
	const char *name, *text;
} bad[] = {
	{ "empty", "{}" },
	{ "no keyslots", "{\"segments\":{}}" },
	{ "keyslot without type", "{\"keyslots\":{\"0\":{}},\"segments\":{}}" },
	{ "segment without size",
	  SLOTS "},\"segments\":{\"0\":{\"type\":\"linear\",\"offset\":\"0\"}}}" },
	{ "offset as a number",
	  SLOTS "},\"segments\":{\"0\":{\"type\":\"linear\",\"offset\":0,\"size\":\"1\"}}}" },
	{ "negative offset", SLOTS "},\"segments\":{\"0\":" PLAIN("-1", "1") "}}" },
	{ "offset beyond all disks",
	  SLOTS "},\"segments\":{\"0\":" PLAIN("99999999999999999999", "1") "}}" },
	{ "sizes that overflow",
	  SLOTS "},\"segments\":{\"0\":" PLAIN("0", "9223372036854775807") ",\"1\":" PLAIN(
		  "1", "9223372036854775807") ",\"2\":" PLAIN("2", "9223372036854775807") "}}" },
	{ "unknown type",
	  SLOTS "},\"segments\":{\"0\":{\"type\":\"zero\",\"offset\":\"0\",\"size\":\"1\"}}}" },
	{ "segments as an array", SLOTS "},\"segments\":[]}" },
	{ "flag that is no text", SLOTS
	  "},\"segments\":{\"0\":{\"type\":\"linear\",\"offset\":\"0\",\"size\":\"1\",\"flags\":[1]}}}" },
};

static void sums_up(void **unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_(json_putp) struct json_object *object = NULL;
		struct segments segments;

		assert_int_equal(json_parse(good[i].text, strlen(good[i].text), &object), 0);
		assert_row(good[i].name, segments_from_json(object, DEVICE, &segments) == 0);
		assert_row(good[i].name, segments.data_bytes == good[i].data);
		assert_row(good[i].name, segments.encrypted_bytes == good[i].encrypted);
		assert_row(good[i].name, segments.moved_offset_bytes == good[i].moved);
		assert_row(good[i].name, segments.is_decrypting == good[i].is_decrypting);
		assert_row(good[i].name, segments.keyslots <= 1);
	}
}

static void refuses_what_is_no_header(void **unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_(json_putp) struct json_object *object = NULL;
		struct segments segments;

		assert_int_equal(json_parse(bad[i].text, strlen(bad[i].text), &object), 0);
		assert_row(bad[i].name, segments_from_json(object, DEVICE, &segments) == -EBADMSG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_up),
		cmocka_unit_test(refuses_what_is_no_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
