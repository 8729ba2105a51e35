/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ipc/varlink-frame.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

#define CAPACITY_START 4096

void frame_input_clear(struct frame_input *input)
{
	free(input->bytes);
	*input = (struct frame_input){ .max_bytes = input->max_bytes };
}

static int reserve(char **bytes, size_t *capacity, size_t wanted)
{
	size_t larger = *capacity ? *capacity : CAPACITY_START;
	char *grown;

	while (larger < wanted)
		if (__builtin_mul_overflow(larger, 2U, &larger))
			return -ENOMEM;
	if (larger <= *capacity)
		return 0;
	grown = realloc(*bytes, larger);
	if (!grown)
		return -ENOMEM;
	*bytes = grown;
	*capacity = larger;
	return 0;
}

/**
 * frame_input_append() - take what has arrived
 * @bytes: of any content; copied
 *
 * Messages have to be taken out with frame_input_next() until it says 0 before more is added, so
 * that only one message, begun, is ever kept.
 *
 * Return: 0, -EMSGSIZE when a message gets longer than max_bytes, or -ENOMEM.
 */
int frame_input_append(struct frame_input *input, const void *bytes, size_t size_bytes)
{
	const char *end;
	int r;

	end = memchr(bytes, '\0', size_bytes);
	if (input->used + (end ? (size_t)(end - (const char *)bytes) + 1 : size_bytes) >
	    input->max_bytes)
		return -EMSGSIZE;
	r = reserve(&input->bytes, &input->capacity, input->used + size_bytes);
	if (r < 0)
		return r;
	memcpy(input->bytes + input->used, bytes, size_bytes);
	input->used += size_bytes;
	return 0;
}

/**
 * frame_input_next() - the next whole message
 * @ret: an object; owned by the caller; set only with 1
 *
 * Return: 1 with a message, 0 when more bytes are needed, -EBADMSG, -EMSGSIZE or -ENOMEM.
 */
int frame_input_next(struct frame_input *input, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	size_t size_bytes;
	const char *end;
	int r;

	if (input->used == input->searched)
		return 0;
	end = memchr(input->bytes + input->searched, '\0', input->used - input->searched);
	if (!end) {
		input->searched = input->used;
		return input->used >= input->max_bytes ? -EMSGSIZE : 0;
	}
	size_bytes = (size_t)(end - input->bytes);
	if (size_bytes >= input->max_bytes)
		return -EMSGSIZE;
	r = json_parse(input->bytes, size_bytes, &object);
	if (r < 0)
		return r;
	if (!json_object_is_type(object, json_type_object))
		return -EBADMSG;
	input->used -= size_bytes + 1;
	input->searched = 0;
	memmove(input->bytes, end + 1, input->used);
	*ret = steal(object);
	return 1;
}

/** frame_input_is_partial() - has a message begun? */
bool frame_input_is_partial(const struct frame_input *input)
{
	return input->used > 0;
}

void frame_output_clear(struct frame_output *output)
{
	free(output->bytes);
	*output = (struct frame_output){ 0 };
}

size_t frame_output_pending(const struct frame_output *output)
{
	return output->used - output->sent;
}

/** frame_output_append() - queue a message with its NUL. Return: 0 or -ENOMEM. */
int frame_output_append(struct frame_output *output, struct json_object *object)
{
	const char *text;
	size_t size_bytes;
	int r;

	text = json_object_to_json_string_length(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size_bytes);
	if (!text)
		return -ENOMEM;
	if (output->sent == output->used)
		output->sent = output->used = 0;
	r = reserve(&output->bytes, &output->capacity, output->used + size_bytes + 1);
	if (r < 0)
		return r;
	memcpy(output->bytes + output->used, text, size_bytes + 1);
	output->used += size_bytes + 1;
	return 0;
}

/**
 * frame_output_send() - write as much as the socket takes now
 * @fd: stream socket
 *
 * Return: 1 when all has gone, 0 when some waits (only for a socket that does not block), or
 * -errno.
 */
int frame_output_send(struct frame_output *output, int fd)
{
	while (output->sent < output->used) {
		ssize_t n = send(fd, output->bytes + output->sent, output->used - output->sent,
				 MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
		output->sent += (size_t)n;
	}
	return 1;
}

/* Absent and null are false; any other type is not varlink. */
static int read_flag(struct json_object *message, const char *name, bool *ret)
{
	struct json_object *value;

	*ret = false;
	if (!json_object_object_get_ex(message, name, &value) || !value)
		return 0;
	if (!json_object_is_type(value, json_type_boolean))
		return -EBADMSG;
	*ret = json_object_get_boolean(value);
	return 0;
}

static bool is_method_name(const char *text)
{
	const char *dot = strrchr(text, '.');
	size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.");

	return !text[n] && n <= VARLINK_METHOD_MAX_BYTES && dot && dot != text && dot[1];
}

/**
 * varlink_request_parse() - is this object a call, and of what?
 * @message: borrowed; @ret points into it
 *
 * Return: 0, or -EBADMSG: no method, members of a wrong type, more and oneway at once, or an
 * upgrade. Source: https://varlink.org/Method-Call
 */
int varlink_request_parse(struct json_object *message, struct varlink_request *ret)
{
	struct varlink_request request = { 0 };
	struct json_object *parameters;
	bool is_upgrade;

	request.method = json_get_string(message, "method");
	if (!request.method || !is_method_name(request.method))
		return -EBADMSG;
	if (json_object_object_get_ex(message, "parameters", &parameters) && parameters) {
		if (!json_object_is_type(parameters, json_type_object))
			return -EBADMSG;
		request.parameters = parameters;
	}
	if (read_flag(message, "oneway", &request.is_oneway) < 0 ||
	    read_flag(message, "more", &request.wants_more) < 0 ||
	    read_flag(message, "upgrade", &is_upgrade) < 0)
		return -EBADMSG;
	if (is_upgrade || (request.is_oneway && request.wants_more))
		return -EBADMSG;
	*ret = request;
	return 0;
}
