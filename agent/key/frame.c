/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "key/protocol.h"

#define LENGTH_BYTES 4

static int send_all(int fd, const void *bytes, size_t size_bytes)
{
	const char *at = bytes;

	while (size_bytes > 0) {
		/* a peer that has gone is an error, not the end of the process */
		ssize_t n = send(fd, at, size_bytes, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

static int receive_all(int fd, void *bytes, size_t size_bytes)
{
	char *at = bytes;

	while (size_bytes > 0) {
		ssize_t n = recv(fd, at, size_bytes, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (n == 0)
			return -EBADMSG;
		at += n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

static int send_message(int fd, struct json_object *message)
{
	const char *text = json_object_to_json_string_ext(
		message, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	size_t size_bytes = text ? strlen(text) : 0;
	uint8_t length[LENGTH_BYTES];
	int r;

	if (!text)
		return -ENOMEM;
	if (size_bytes > PROTOCOL_JSON_MAX_BYTES)
		return -E2BIG;
	for (size_t i = 0; i < LENGTH_BYTES; i++)
		length[i] = (uint8_t)(size_bytes >> (8 * i));
	r = send_all(fd, length, sizeof(length));
	return r < 0 ? r : send_all(fd, text, size_bytes);
}

static int receive_message(int fd, char **ret, size_t *ret_size)
{
	_cleanup_(freep) char *text = NULL;
	uint8_t length[LENGTH_BYTES];
	size_t size_bytes = 0;
	int r;

	r = receive_all(fd, length, sizeof(length));
	if (r < 0)
		return r;
	for (size_t i = 0; i < LENGTH_BYTES; i++)
		size_bytes |= (size_t)length[i] << (8 * i);
	if (size_bytes == 0 || size_bytes > PROTOCOL_JSON_MAX_BYTES)
		return -EBADMSG;
	text = malloc(size_bytes);
	if (!text)
		return -ENOMEM;
	r = receive_all(fd, text, size_bytes);
	if (r < 0)
		return r;
	*ret = steal(text);
	*ret_size = size_bytes;
	return 0;
}

static int receive_secret(int fd, size_t size_bytes, struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *secret = NULL;
	int r;

	r = secret_new(size_bytes, &secret);
	if (r == 0)
		r = receive_all(fd, secret_bytes(secret), size_bytes);
	if (r < 0)
		return r;
	secret_set_size(secret, size_bytes);
	*ret = steal(secret);
	return 0;
}

static int send_secret(int fd, const struct secret *secret)
{
	return send_all(fd, secret_bytes_const(secret), secret_size(secret));
}

/** protocol_request_send() - the whole frame. Return: 0, -E2BIG, or -errno (-EPIPE: gone). */
int protocol_request_send(int fd, const struct protocol_request *request)
{
	_cleanup_(json_putp) struct json_object *message = NULL;
	int r;

	r = protocol_request_print(request, &message);
	if (r == 0)
		r = send_message(fd, message);
	for (size_t i = 0; i < request->n && r == 0; i++)
		if (request->operations[i].passphrase)
			r = send_secret(fd, request->operations[i].passphrase);
	return r;
}

/**
 * protocol_request_receive() - the whole frame
 * @fd:  stream socket; its SO_RCVTIMEO bounds each read
 * @ret: zeroed by the caller; to be cleared, also on failure
 *
 * Return: 0, -EBADMSG (cut short, or not of our form), -ETIMEDOUT, or -errno.
 */
int protocol_request_receive(int fd, struct protocol_request *ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes;
	int r;

	r = receive_message(fd, &text, &size_bytes);
	if (r == 0)
		r = protocol_request_parse(text, size_bytes, ret);
	for (size_t i = 0; r == 0 && i < ret->n; i++)
		if (ret->operations[i].passphrase_bytes > 0)
			r = receive_secret(fd, ret->operations[i].passphrase_bytes,
					   &ret->operations[i].passphrase);
	return r;
}

/** protocol_reply_send() - the whole frame. Return: as protocol_request_send(). */
int protocol_reply_send(int fd, const struct protocol_reply *reply)
{
	_cleanup_(json_putp) struct json_object *message = NULL;
	int r;

	r = protocol_reply_print(reply, &message);
	if (r == 0)
		r = send_message(fd, message);
	for (size_t i = 0; i < reply->n && r == 0; i++)
		if (reply->results[i].result.passphrase)
			r = send_secret(fd, reply->results[i].result.passphrase);
	return r;
}

/** protocol_reply_receive() - the whole frame. Return: as protocol_request_receive(). */
int protocol_reply_receive(int fd, struct protocol_reply *ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes;
	int r;

	r = receive_message(fd, &text, &size_bytes);
	if (r == 0)
		r = protocol_reply_parse(text, size_bytes, ret);
	for (size_t i = 0; r == 0 && i < ret->n; i++)
		if (ret->results[i].passphrase_bytes > 0)
			r = receive_secret(fd, ret->results[i].passphrase_bytes,
					   &ret->results[i].result.passphrase);
	return r;
}
