/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "ipc/varlink-frame.h"
#include "ipc/varlink-server.h"
#include "test.h"

#define TEXT(text) (text), sizeof(text) - 1

static struct varlink_call *kept; /* by the method Keep */

static int on_echo(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	return varlink_reply(call, json_object_get(parameters));
}

static int on_more(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	(void)varlink_reply_more(call, json_object_new_object());
	return varlink_reply(call, NULL);
}

static int on_fail(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	return varlink_error(call, "Bad", NULL);
}

static void on_gone(struct varlink_call *call, void *userdata)
{
	kept = NULL;
}

static int on_keep(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	kept = call;
	varlink_call_on_gone(call, on_gone, NULL);
	return 0;
}

/* clang-format off */
static const struct varlink_parameter text_parameter[] = {
	{ "text", json_type_string, true },
	{ "n",    json_type_int,    false },
};
static const struct varlink_method methods[] = {
	{ "Echo", false, text_parameter, 2, on_echo },
	{ "More", false, NULL,           0, on_more },
	{ "Fail", false, NULL,           0, on_fail },
	{ "Keep", false, NULL,           0, on_keep },
};
/* clang-format on */

static const struct varlink_interface interface = {
	.name = "a.b",
	.description = "interface a.b",
	.vendor = "v",
	.product = "p",
	.version = "1",
	.url = "",
	.methods = methods,
	.n_methods = ARRAY_SIZE(methods),
};

struct house {
	struct sd_event *event;
	struct varlink_server *server;
	int client;
};

static void house_open(struct house *house)
{
	struct sockaddr address = { .sa_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_storage bound;
	socklen_t size = sizeof(bound);

	/* an address of the kernel's choice, in no folder */
	assert_int_equal(bind(listener, &address, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(listener, 4), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&bound, &size), 0);
	assert_true(sd_event_new(&house->event) >= 0);
	assert_int_equal(varlink_server_new(house->event, &interface, NULL, &house->server), 0);
	assert_int_equal(varlink_server_listen(house->server, listener), 0);
	house->client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(house->client, (struct sockaddr *)&bound, size), 0);
}

static void house_close(struct house *house)
{
	closep(&house->client);
	(void)varlink_server_free(house->server);
	(void)sd_event_unref(house->event);
}

static void settle(struct house *house)
{
	for (int i = 0; i < 50; i++)
		(void)sd_event_run(house->event, 0);
}

/* What the client says, what it hears, with NUL written as a newline; "EOF" when it is hung up on.
 */
static void test_conversations(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *says;
		size_t size;
		const char *hears;
	} rows[] = {
		{ "a call", TEXT("{\"method\":\"a.b.Echo\",\"parameters\":{\"text\":\"x\"}}\0"),
		  "{\"parameters\":{\"text\":\"x\"}}\n" },
		{ "two at once, in order", TEXT("{\"method\":\"a.b.Fail\"}\0{\"method\":\"a.b.Echo\",\"parameters\":{\"text\":\"x\"}}\0"),
		  "{\"error\":\"a.b.Bad\",\"parameters\":{}}\n{\"parameters\":{\"text\":\"x\"}}\n" },
		{ "a stream", TEXT("{\"method\":\"a.b.More\",\"more\":true}\0"),
		  "{\"parameters\":{},\"continues\":true}\n{\"parameters\":{}}\n" },
		{ "no stream", TEXT("{\"method\":\"a.b.More\"}\0"), "{\"parameters\":{}}\n" },
		{ "one way", TEXT("{\"method\":\"a.b.More\",\"oneway\":true}\0{\"method\":\"a.b.Fail\"}\0"),
		  "{\"error\":\"a.b.Bad\",\"parameters\":{}}\n" },
		{ "half a message", TEXT("{\"method\":\"a.b.Fail\"}"), "" },
		{ "no such method", TEXT("{\"method\":\"a.b.No\"}\0"),
		  "{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"a.b.No\"}}\n" },
		{ "no such interface", TEXT("{\"method\":\"a.c.No\"}\0"),
		  "{\"error\":\"org.varlink.service.InterfaceNotFound\",\"parameters\":{\"interface\":\"a.c\"}}\n" },
		{ "a longer interface", TEXT("{\"method\":\"a.b.c.Echo\"}\0"),
		  "{\"error\":\"org.varlink.service.InterfaceNotFound\",\"parameters\":{\"interface\":\"a.b.c\"}}\n" },
		{ "a parameter is missing", TEXT("{\"method\":\"a.b.Echo\"}\0"),
		  "{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"text\"}}\n" },
		{ "a parameter of another type", TEXT("{\"method\":\"a.b.Echo\",\"parameters\":{\"text\":\"x\",\"n\":\"1\"}}\0"),
		  "{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"n\"}}\n" },
		{ "a parameter too many", TEXT("{\"method\":\"a.b.More\",\"parameters\":{\"y\":null}}\0"),
		  "{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"y\"}}\n" },
		{ "description", TEXT("{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"a.b\"}}\0"),
		  "{\"parameters\":{\"description\":\"interface a.b\"}}\n" },
		{ "info", TEXT("{\"method\":\"org.varlink.service.GetInfo\"}\0"),
		  "{\"parameters\":{\"vendor\":\"v\",\"product\":\"p\",\"version\":\"1\",\"url\":\"\",\"interfaces\":[\"org.varlink.service\",\"a.b\"]}}\n" },
		{ "an answer, then rubbish", TEXT("{\"method\":\"a.b.Fail\"}\0x\0"),
		  "{\"error\":\"a.b.Bad\",\"parameters\":{}}\nEOF" },
		{ "no object",       TEXT("[]\0"),                                     "EOF" },
		{ "no method",       TEXT("{\"parameters\":{}}\0"),                    "EOF" },
		{ "no dot",          TEXT("{\"method\":\"Echo\"}\0"),                  "EOF" },
		{ "nothing",         TEXT("\0"),                                       "EOF" },
		{ "more and oneway", TEXT("{\"method\":\"a.b.More\",\"more\":true,\"oneway\":true}\0"), "EOF" },
		{ "an upgrade",      TEXT("{\"method\":\"a.b.More\",\"upgrade\":true}\0"), "EOF" },
		{ "a flag of a wrong type", TEXT("{\"method\":\"a.b.More\",\"more\":\"true\"}\0"), "EOF" },
		{ "not UTF-8",       TEXT("{\"method\":\"a.b.\xff\"}\0"),              "EOF" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct house house;
		char heard[4096];
		size_t used = 0;
		ssize_t n;

		house_open(&house);
		assert_int_equal(write(house.client, rows[i].says, rows[i].size), rows[i].size);
		settle(&house);
		while ((n = read(house.client, heard + used, sizeof(heard) - used - 8)) > 0)
			used += (size_t)n;
		for (size_t j = 0; j < used; j++)
			if (heard[j] == '\0')
				heard[j] = '\n';
		(void)snprintf(heard + used, 8, "%s", n == 0 || errno == ECONNRESET ? "EOF" : "");
		if (strcmp(heard, rows[i].hears) != 0)
			fail_msg("%s: heard %s", rows[i].name, heard);
		house_close(&house);
	}
}

static void test_later(void **state)
{
	static const char call[] = "{\"method\":\"a.b.Keep\"}";
	struct house house;
	char heard[64];

	house_open(&house);
	for (int i = 0; i < 2; i++)
		assert_int_equal(write(house.client, call, sizeof(call)), sizeof(call));
	settle(&house);
	assert_non_null(kept);
	assert_true(read(house.client, heard, sizeof(heard)) < 0);
	assert_int_equal(varlink_reply(kept, NULL), 0);
	assert_true(read(house.client, heard, sizeof(heard)) > 0);
	/* the second call comes only now; its client leaves before the reply */
	kept = NULL;
	settle(&house);
	assert_non_null(kept);
	closep(&house.client);
	house.client = -EBADF;
	settle(&house);
	assert_null(kept);
	house_close(&house);
}

/* A client that has said all and reads on is answered. */
static void test_half_closed(void **state)
{
	static const char call[] = "{\"method\":\"a.b.Keep\"}";
	struct house house;
	char heard[64];

	house_open(&house);
	assert_int_equal(write(house.client, call, sizeof(call)), sizeof(call));
	assert_int_equal(shutdown(house.client, SHUT_WR), 0);
	settle(&house);
	assert_non_null(kept);
	assert_int_equal(varlink_reply(kept, NULL), 0);
	settle(&house);
	assert_true(read(house.client, heard, sizeof(heard)) > 0);
	assert_int_equal(read(house.client, heard, sizeof(heard)), 0);
	house_close(&house);
}

static void test_frames(void **state)
{
	static const char stream[] = "{\"a\":1}\0 {\"a\":2} \0{\"a\":3}";

	/* however the bytes are cut, the same messages come */
	for (size_t cut = 1; cut < sizeof(stream); cut++) {
		_cleanup_(frame_input_clear) struct frame_input input = { .max_bytes = 32 };
		int64_t sum = 0;

		for (size_t at = 0; at < sizeof(stream); at += cut) {
			size_t n = sizeof(stream) - at < cut ? sizeof(stream) - at : cut;
			struct json_object *object;

			assert_int_equal(frame_input_append(&input, stream + at, n), 0);
			while (frame_input_next(&input, &object) == 1) {
				sum = sum * 10 + json_get_int(object, "a", 0);
				json_object_put(object);
			}
		}
		assert_int_equal(sum, 123);
		assert_false(frame_input_is_partial(&input));
	}
}

static void test_bounds(void **state)
{
	_cleanup_(frame_input_clear) struct frame_input input = { .max_bytes = 9 };
	struct json_object *object;

	assert_int_equal(frame_input_append(&input, TEXT("{\"ab\":1}\0")), 0);
	assert_int_equal(frame_input_next(&input, &object), 1);
	json_object_put(object);
	assert_int_equal(frame_input_append(&input, TEXT("{\"abc\":1}\0")), -EMSGSIZE);
	assert_int_equal(frame_input_append(&input, TEXT("{\"abc\":1")), 0);
	assert_int_equal(frame_input_next(&input, &object), 0);
	assert_int_equal(frame_input_append(&input, TEXT("  ")), -EMSGSIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conversations), cmocka_unit_test(test_later),
		cmocka_unit_test(test_half_closed),   cmocka_unit_test(test_frames),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
