/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/socket.h>

#include "key/protocol.h"
#include "test.h"

#define V32    "0123456789abcdef0123456789abcdef"
#define SECRET "https://kv1.vault.azure.net/secrets/s1/" V32
#define FETCH                                                                                      \
	"{\"operation\":\"fetch\",\"reference\":{\"version\":1,\"provider\":\"keyvault\","         \
	"\"secret\":\"" SECRET "\"}}"
#define STORE(more)                                                                                \
	"{\"operation\":\"store\",\"vault\":\"https://kv1.vault.azure.net\",\"name\":\"s1\"" more  \
	"}"
#define REQUEST(operations) "{\"version\":1,\"timeout_ms\":1000,\"operations\":[" operations "]}"
#define REPLY(results)      "{\"version\":1,\"results\":[" results "]}"
#define PROBE                                                                                      \
	"{\"set\":{\"condition\":\"ok\"},\"get\":{\"condition\":\"denied\",\"message\":\"No.\"},"  \
	"\"wrap\":{\"condition\":\"ok\"},\"unwrap\":{\"condition\":\"ok\"},"                       \
	"\"metadata\":{\"condition\":\"ok\"},\"machine_name\":\"vm1\",\"kek_is_expired\":true}"

static void test_requests(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		int r;
		size_t n;
	} rows[] = {
		{ "fetch",               REQUEST(FETCH),                     0, 1 },
		{ "two",                 REQUEST(FETCH "," FETCH),           0, 2 },
		{ "store",               REQUEST(STORE(",\"passphrase_bytes\":43")), 0, 1 },
		{ "store, all texts",    REQUEST(STORE(",\"passphrase_bytes\":43,\"kek\":\"k\",\"algorithm\":\"a\",\"client_id\":\"c\",\"volume\":\"v\",\"machine\":\"m\"")), 0, 1 },
		{ "largest secret",      REQUEST(STORE(",\"passphrase_bytes\":25600")), 0, 1 },
		{ "probe",               REQUEST("{\"operation\":\"probe\",\"vault\":\"v\",\"name\":\"n\"}"), 0, 1 },
		{ "one is urgent",       "{\"version\":1,\"timeout_ms\":9,\"urgent\":1,\"operations\":[" FETCH "," FETCH "]}", 0, 2 },
		{ "all are urgent",      "{\"version\":1,\"timeout_ms\":9,\"urgent\":2,\"operations\":[" FETCH "," FETCH "]}", 0, 2 },

		{ "nothing",             "",                                 -EBADMSG, 0 },
		{ "an array",            "[]",                               -EBADMSG, 0 },
		{ "no version",          "{\"timeout_ms\":1000,\"operations\":[" FETCH "]}", -EBADMSG, 0 },
		{ "another version",     "{\"version\":2,\"timeout_ms\":1000,\"operations\":[" FETCH "]}", -EBADMSG, 0 },
		{ "no time",             "{\"version\":1,\"operations\":[" FETCH "]}", -EBADMSG, 0 },
		{ "time 0",              "{\"version\":1,\"timeout_ms\":0,\"operations\":[" FETCH "]}", -EBADMSG, 0 },
		{ "more than 10 minutes", "{\"version\":1,\"timeout_ms\":600001,\"operations\":[" FETCH "]}", -EBADMSG, 0 },
		{ "time as text",        "{\"version\":1,\"timeout_ms\":\"9\",\"operations\":[" FETCH "]}", -EBADMSG, 0 },
		{ "urgent: none",        "{\"version\":1,\"timeout_ms\":9,\"urgent\":0,\"operations\":[" FETCH "]}", -EBADMSG, 0 },
		{ "urgent: too many",    "{\"version\":1,\"timeout_ms\":9,\"urgent\":2,\"operations\":[" FETCH "]}", -EBADMSG, 0 },
		{ "urgent: not a number", "{\"version\":1,\"timeout_ms\":9,\"urgent\":true,\"operations\":[" FETCH "]}", -EBADMSG, 0 },
		{ "no operations",       "{\"version\":1,\"timeout_ms\":1000}", -EBADMSG, 0 },
		{ "an empty batch",      REQUEST(""),                        -EBADMSG, 0 },
		{ "operations: object",  "{\"version\":1,\"timeout_ms\":9,\"operations\":{}}", -EBADMSG, 0 },
		{ "operation: null",     REQUEST("null"),                    -EBADMSG, 0 },
		{ "operation: nested",   REQUEST("[" FETCH "]"),             -EBADMSG, 0 },
		{ "unknown verb",        REQUEST("{\"operation\":\"delete\"}"), -EBADMSG, 0 },
		{ "verb: number",        REQUEST("{\"operation\":0}"),       -EBADMSG, 0 },
		{ "no reference",        REQUEST("{\"operation\":\"fetch\"}"), -EBADMSG, 0 },
		{ "bad reference",       REQUEST("{\"operation\":\"fetch\",\"reference\":{\"version\":1,\"provider\":\"keyvault\",\"secret\":\"https://evil.example/secrets/s/" V32 "\"}}"), -EBADMSG, 0 },
		{ "store, no secret",    REQUEST(STORE("")),                 -EBADMSG, 0 },
		{ "store, size 0",       REQUEST(STORE(",\"passphrase_bytes\":0")), -EBADMSG, 0 },
		{ "store, size -1",      REQUEST(STORE(",\"passphrase_bytes\":-1")), -EBADMSG, 0 },
		{ "store, too large",    REQUEST(STORE(",\"passphrase_bytes\":25601")), -EBADMSG, 0 },
		{ "store, size as text", REQUEST(STORE(",\"passphrase_bytes\":\"43\"")), -EBADMSG, 0 },
		{ "store, no vault",     REQUEST("{\"operation\":\"store\",\"name\":\"s\",\"passphrase_bytes\":4}"), -EBADMSG, 0 },
		{ "store, vault empty",  REQUEST("{\"operation\":\"store\",\"vault\":\"\",\"name\":\"s\",\"passphrase_bytes\":4}"), -EBADMSG, 0 },
		{ "store, kek null",     REQUEST(STORE(",\"passphrase_bytes\":4,\"kek\":null")), -EBADMSG, 0 },
		{ "store, kek object",   REQUEST(STORE(",\"passphrase_bytes\":4,\"kek\":{}")), -EBADMSG, 0 },
		{ "NUL in a name",       REQUEST("{\"operation\":\"probe\",\"vault\":\"v\\u0000w\",\"name\":\"n\"}"), -EBADMSG, 0 },
		{ "bytes behind",        REQUEST(FETCH) "x",                 -EBADMSG, 0 },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct protocol_request request = { 0 };

		assert_row(rows[i].name, protocol_request_parse(rows[i].text, strlen(rows[i].text),
								&request) == rows[i].r);
		assert_row(rows[i].name, rows[i].r < 0 || request.n == rows[i].n);
		protocol_request_clear(&request);
	}
}

static void test_replies(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		int r, condition;
	} rows[] = {
		{ "a passphrase",      REPLY("{\"condition\":\"ok\",\"passphrase_bytes\":43}"), 0, 0 },
		{ "a reference",       REPLY("{\"condition\":\"ok\",\"reference\":{\"version\":1,\"provider\":\"keyvault\",\"secret\":\"" SECRET "\"}}"), 0, 0 },
		{ "a probe",           REPLY("{\"condition\":\"ok\",\"probe\":" PROBE "}"), 0, 0 },
		{ "denied",            REPLY("{\"condition\":\"denied\",\"message\":\"No.\"}"), 0, KEY_E_DENIED },
		{ "without words",     REPLY("{\"condition\":\"unreachable\"}"), 0, KEY_E_UNREACHABLE },
		{ "gone",              REPLY("{\"condition\":\"gone\"}"), 0, KEY_E_GONE },
		{ "disabled",          REPLY("{\"condition\":\"disabled\"}"), 0, KEY_E_DISABLED },
		{ "configuration",     REPLY("{\"condition\":\"configuration\"}"), 0, KEY_E_CONFIG },
		{ "corrupt",           REPLY("{\"condition\":\"corrupt\"}"), 0, KEY_E_CORRUPT },

		{ "unknown condition", REPLY("{\"condition\":\"maybe\"}"), -EBADMSG, 0 },
		{ "a number",          REPLY("{\"condition\":1}"), -EBADMSG, 0 },
		{ "ok, but nothing",   REPLY("{\"condition\":\"ok\"}"), -EBADMSG, 0 },
		{ "too large",         REPLY("{\"condition\":\"ok\",\"passphrase_bytes\":25601}"), -EBADMSG, 0 },
		{ "bad reference",     REPLY("{\"condition\":\"ok\",\"reference\":{\"version\":1}}"), -EBADMSG, 0 },
		{ "half a probe",      REPLY("{\"condition\":\"ok\",\"probe\":{\"set\":{\"condition\":\"ok\"}}}"), -EBADMSG, 0 },
		{ "message: number",   REPLY("{\"condition\":\"denied\",\"message\":5}"), -EBADMSG, 0 },
		{ "no results",        REPLY(""), -EBADMSG, 0 },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct protocol_reply reply = { 0 };

		assert_row(rows[i].name, protocol_reply_parse(rows[i].text, strlen(rows[i].text),
							      &reply) == rows[i].r);
		assert_row(rows[i].name,
			   rows[i].r < 0 || reply.results[0].result.condition == rows[i].condition);
		protocol_reply_clear(&reply);
	}
}

static void test_too_many(void **state)
{
	struct protocol_request request = { 0 };
	_cleanup_(freep) char *text = NULL;
	size_t used;

	text = calloc(1, 65 * (strlen(FETCH) + 1) + 100);
	strcpy(text, "{\"version\":1,\"timeout_ms\":1000,\"operations\":[" FETCH);
	for (int i = 1; i < KEY_BATCH_MAX; i++)
		strcat(text, "," FETCH);
	used = strlen(text);
	strcat(text, "]}");
	assert_int_equal(protocol_request_parse(text, strlen(text), &request), 0);
	assert_int_equal(request.n, KEY_BATCH_MAX);
	protocol_request_clear(&request);
	strcpy(text + used, "," FETCH "]}");
	assert_int_equal(protocol_request_parse(text, strlen(text), &request), -EBADMSG);
	protocol_request_clear(&request);
}

static void test_urgent_round_trip(void **state)
{
	static const char in[] =
		"{\"version\":1,\"timeout_ms\":9,\"urgent\":1,\"operations\":[" FETCH "," FETCH
		"]}";
	struct protocol_request one = { 0 }, two = { 0 };
	_cleanup_(json_putp) struct json_object *printed = NULL;
	const char *text;

	assert_int_equal(protocol_request_parse(in, strlen(in), &one), 0);
	assert_int_equal(protocol_request_print(&one, &printed), 0);
	text = json_object_to_json_string(printed);
	assert_int_equal(protocol_request_parse(text, strlen(text), &two), 0);
	assert_int_equal(two.n_urgent, 1);
	protocol_request_clear(&one);
	protocol_request_clear(&two);
}

static void test_probe_round_trip(void **state)
{
	static const char in[] = REPLY("{\"condition\":\"ok\",\"probe\":" PROBE "}");
	struct protocol_reply one = { 0 }, two = { 0 };
	_cleanup_(json_putp) struct json_object *printed = NULL;
	const char *text;

	assert_int_equal(protocol_reply_parse(in, strlen(in), &one), 0);
	assert_int_equal(protocol_reply_print(&one, &printed), 0);
	text = json_object_to_json_string(printed);
	assert_int_equal(protocol_reply_parse(text, strlen(text), &two), 0);
	assert_int_equal(two.results[0].probe->get.condition, KEY_E_DENIED);
	assert_string_equal(two.results[0].probe->get.message, "No.");
	assert_string_equal(two.results[0].probe->machine_name, "vm1");
	assert_true(two.results[0].probe->kek_is_expired);
	assert_false(two.results[0].probe->kek_is_disabled);
	assert_null(two.results[0].probe->vault_region);
	protocol_reply_clear(&one);
	protocol_reply_clear(&two);
}

static void fill_store(struct protocol_operation *operation, const char *passphrase)
{
	operation->verb = PROTOCOL_STORE;
	operation->vault = strdup("https://kv1.vault.azure.net");
	operation->name = strdup("s1");
	assert_int_equal(secret_new(64, &operation->passphrase), 0);
	assert_int_equal(secret_append(operation->passphrase, passphrase, strlen(passphrase)), 0);
}

/* two secrets behind one text, in its order; then the same cut short at every byte */
static void test_frames(void **state)
{
	struct protocol_request sent = { .timeout_ms = 5, .n = 2 }, received = { 0 };
	char frame[4096];
	ssize_t size;
	int pair[2];

	fill_store(&sent.operations[0], "first");
	fill_store(&sent.operations[1], "the second");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(protocol_request_send(pair[0], &sent), 0);
	size = recv(pair[1], frame, sizeof(frame), MSG_PEEK);
	assert_true(size > 15);
	assert_memory_equal(frame + size - 15, "firstthe second", 15);
	assert_null(memmem(frame, (size_t)size - 15, "first", 5));
	assert_int_equal(protocol_request_receive(pair[1], &received), 0);
	for (size_t i = 0; i < 2; i++)
		assert_true(secret_equal(sent.operations[i].passphrase,
					 received.operations[i].passphrase));
	protocol_request_clear(&sent);
	protocol_request_clear(&received);
	assert_int_equal(close(pair[0]), 0);
	assert_int_equal(close(pair[1]), 0);

	for (ssize_t cut = 0; cut < size; cut++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		assert_int_equal(send(pair[0], frame, (size_t)cut, 0), cut);
		assert_int_equal(shutdown(pair[0], SHUT_WR), 0);
		assert_int_equal(protocol_request_receive(pair[1], &received), -EBADMSG);
		protocol_request_clear(&received);
		assert_int_equal(close(pair[0]), 0);
		assert_int_equal(close(pair[1]), 0);
	}
}

/* a length that no frame has: refused before anything is read or made room for */
static void test_lengths(void **state)
{
	static const uint8_t lengths[][4] = {
		{ 0, 0, 0, 0 }, { 1, 0, 4, 0 }, { 0, 0, 0, 128 }, { 255, 255, 255, 255 }
	};

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct protocol_request request = { 0 };
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		assert_int_equal(send(pair[0], lengths[i], 4, 0), 4);
		assert_int_equal(protocol_request_receive(pair[1], &request), -EBADMSG);
		protocol_request_clear(&request);
		assert_int_equal(close(pair[0]), 0);
		assert_int_equal(close(pair[1]), 0);
	}
}

static void test_conditions(void **state)
{
	assert_string_equal(key_condition_to_string(0), "ok");
	assert_string_equal(key_condition_to_string(KEY_E_CORRUPT), "corrupt");
	assert_string_equal(key_condition_to_string(KEY_E_CORRUPT + 1), "unknown");
	assert_string_equal(key_condition_to_string(-1), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),          cmocka_unit_test(test_replies),
		cmocka_unit_test(test_too_many),          cmocka_unit_test(test_probe_round_trip),
		cmocka_unit_test(test_urgent_round_trip), cmocka_unit_test(test_frames),
		cmocka_unit_test(test_lengths),           cmocka_unit_test(test_conditions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
