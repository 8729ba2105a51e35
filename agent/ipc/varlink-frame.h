/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ipc/varlink-frame.h - bytes of a stream to JSON objects that end in NUL, and back
 *
 * Keeps what has arrived of the next message, with a bound; knows no socket. A message that is not
 * one JSON object within the depth limit is an error of the whole stream: there is no way to go on
 * after it. Source: https://varlink.org/Wire-Format (the text "message" below is one object with
 * its NUL).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

#define VARLINK_METHOD_MAX_BYTES 255 /* interface and method name; ours has 31 letters */

struct frame_input {
	size_t max_bytes; /* of one message with its NUL; set by the owner, the rest starts as 0 */
	char *bytes;
	size_t used, capacity, searched;
};

struct frame_output {
	char *bytes;
	size_t used, capacity, sent;
};

void frame_input_clear(struct frame_input *input);
int frame_input_append(struct frame_input *input, const void *bytes, size_t size_bytes);
int frame_input_next(struct frame_input *input, struct json_object **ret);
bool frame_input_is_partial(const struct frame_input *input);

void frame_output_clear(struct frame_output *output);
int frame_output_append(struct frame_output *output, struct json_object *object);
size_t frame_output_pending(const struct frame_output *output);
int frame_output_send(struct frame_output *output, int fd);

/* A call as it stands on the wire; borrows from its message. */
struct varlink_request {
	const char *method;
	struct json_object *parameters; /* NULL = none */
	bool is_oneway, wants_more;
};

int varlink_request_parse(struct json_object *message, struct varlink_request *ret);
