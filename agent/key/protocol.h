/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* key/protocol.h - what a client and the key service say to each other
 *
 * One request and one reply a connection. Each is a frame: the length of a JSON text (4 bytes,
 * little endian), the text, and behind it the bytes of the secrets that the text announces by size,
 * in its order. The JSON never holds a secret; the bytes are read straight into struct secret.
 * Parsing is pure; what is not exactly of this form is refused whole.
 *
 *   request: {"version":1,"timeout_ms":N,"urgent":N,"operations":[…]}; urgent, absent = 0: when
 *   one of the first N has succeeded, or all of them have failed, the others get only seconds;
 *   each operation one of
 *     {"operation":"fetch","reference":{…}}
 *     {"operation":"store","vault":…,"name":…,"kek":…,"algorithm":…,"client_id":…,"volume":…,
 *      "machine":…,"passphrase_bytes":N}
 *     {"operation":"probe","vault":…,"name":…,"kek":…,"algorithm":…,"client_id":…,"machine":…}
 *   reply: {"version":1,"results":[…]}, in the order of the operations, each
 *     {"condition":"ok"} with "passphrase_bytes", "reference" or "probe", or
 *     {"condition":"denied","message":…}
 */
#pragma once

#include "key/client.h"

#define PROTOCOL_VERSION          1
#define PROTOCOL_JSON_MAX_BYTES   (256 * 1024) /* KEY_BATCH_MAX references of the largest form */
#define PROTOCOL_SECRET_MAX_BYTES (25 * 1024)  /* the vault's limit for a secret */
#define PROTOCOL_TEXT_MAX_BYTES   1024         /* addresses and names; messages are cut */
#define PROTOCOL_TIMEOUT_MAX_MS   600000

enum protocol_verb {
	PROTOCOL_FETCH,
	PROTOCOL_STORE,
	PROTOCOL_PROBE,
};

struct protocol_operation {
	enum protocol_verb verb;
	struct key_reference *reference;                                     /* fetch */
	char *vault, *name, *kek, *algorithm, *client_id, *volume, *machine; /* store, probe */
	size_t passphrase_bytes;                                             /* store */
	struct secret *passphrase;
};

struct protocol_request {
	unsigned timeout_ms;
	size_t n_urgent; /* see key_fetch() */
	size_t n;
	struct protocol_operation operations[KEY_BATCH_MAX];
};

/* One operation's end: @result of a fetch or a store, @probe of a probe (then @result is unused).
 */
struct protocol_result {
	struct key_result result;
	size_t passphrase_bytes;
	struct key_probe *probe;
};

struct protocol_reply {
	size_t n;
	struct protocol_result results[KEY_BATCH_MAX];
};

void protocol_request_clear(struct protocol_request *request);
void protocol_reply_clear(struct protocol_reply *reply);

int protocol_request_parse(const char *text, size_t size_bytes, struct protocol_request *ret);
int protocol_request_print(const struct protocol_request *request, struct json_object **ret);
int protocol_reply_parse(const char *text, size_t size_bytes, struct protocol_reply *ret);
int protocol_reply_print(const struct protocol_reply *reply, struct json_object **ret);

int protocol_request_send(int fd, const struct protocol_request *request);
int protocol_request_receive(int fd, struct protocol_request *ret);
int protocol_reply_send(int fd, const struct protocol_reply *reply);
int protocol_reply_receive(int fd, struct protocol_reply *ret);
