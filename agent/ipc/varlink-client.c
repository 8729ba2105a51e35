/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ipc/varlink-client.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/cleanup.h"
#include "ipc/varlink-frame.h"

#define READ_BYTES   (16 * 1024)
#define MSEC_PER_SEC 1000

struct varlink_client {
	int fd;
	struct frame_input input;
};

void varlink_answer_clear(struct varlink_answer *answer)
{
	free(answer->error);
	json_object_put(answer->parameters);
	*answer = (struct varlink_answer){ 0 };
}

/**
 * varlink_client_connect() - reach a service
 * @path: of its socket
 * @ret:  owned by the caller
 *
 * Return: 0 or -errno: -ENOENT and -ECONNREFUSED mean that nobody is there.
 */
int varlink_client_connect(const char *path, struct varlink_client **ret)
{
	_cleanup_(varlink_client_freep) struct varlink_client *client = NULL;
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	client->input.max_bytes = VARLINK_REPLY_MAX_BYTES;
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		return -errno;
	if (connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret = steal(client);
	return 0;
}

struct varlink_client *varlink_client_free(struct varlink_client *client)
{
	if (!client)
		return NULL;
	closep(&client->fd);
	frame_input_clear(&client->input);
	free(client);
	return NULL;
}

void varlink_client_freep(struct varlink_client **client)
{
	(void)varlink_client_free(*client);
}

/** varlink_client_fd() - to wait for, beside something else */
int varlink_client_fd(const struct varlink_client *client)
{
	return client->fd;
}

/**
 * varlink_client_call() - send a call
 * @method:     whole name
 * @parameters: borrowed; NULL = none
 *
 * Return: 0 or -errno.
 */
int varlink_client_call(struct varlink_client *client, const char *method,
			struct json_object *parameters, bool wants_more)
{
	_cleanup_(json_putp) struct json_object *message = json_object_new_object();
	_cleanup_(frame_output_clear) struct frame_output output = { 0 };
	int r;

	if (!message)
		return -ENOMEM;
	r = json_set_string(message, "method", method);
	if (r == 0 && parameters)
		r = json_set(message, "parameters", json_object_get(parameters));
	if (r == 0 && wants_more)
		r = json_set_bool(message, "more", true);
	if (r == 0)
		r = frame_output_append(&output, message);
	if (r < 0)
		return r;
	r = frame_output_send(&output, client->fd);
	return r < 0 ? r : 0;
}

static int read_answer(struct json_object *message, struct varlink_answer *ret)
{
	struct json_object *parameters = NULL;
	const char *error = json_get_string(message, "error");

	if (json_object_object_get_ex(message, "parameters", &parameters) && parameters &&
	    !json_object_is_type(parameters, json_type_object))
		return -EBADMSG;
	ret->parameters = parameters ? json_object_get(parameters) : json_object_new_object();
	ret->error = error ? strdup(error) : NULL;
	ret->continues = json_get_bool(message, "continues", false);
	if (!ret->parameters || (error && !ret->error)) {
		varlink_answer_clear(ret);
		return -ENOMEM;
	}
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * MSEC_PER_SEC + now.tv_nsec / (1000 * 1000);
}

/**
 * varlink_client_receive() - wait for the next reply
 * @timeout_ms: -1 = for ever
 * @ret:        clear with varlink_answer_clear(); set only with 0
 *
 * Return: 0, -ETIMEDOUT, -ECONNRESET (the service has gone), -EBADMSG or -errno.
 */
int varlink_client_receive(struct varlink_client *client, int timeout_ms,
			   struct varlink_answer *ret)
{
	int64_t deadline_ms = now_ms() + timeout_ms;

	for (;;) {
		_cleanup_(json_putp) struct json_object *message = NULL;
		struct pollfd poll_fd = { .fd = client->fd, .events = POLLIN };
		int64_t left_ms = timeout_ms < 0 ? -1 : deadline_ms - now_ms();
		char bytes[READ_BYTES];
		ssize_t n;
		int r;

		r = frame_input_next(&client->input, &message);
		if (r < 0)
			return r;
		if (r > 0)
			return read_answer(message, ret);
		if (timeout_ms >= 0 && left_ms < 0)
			left_ms = 0;
		r = poll(&poll_fd, 1, (int)left_ms);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0)
			return -ETIMEDOUT;
		if (r < 0)
			continue;
		n = recv(client->fd, bytes, sizeof(bytes), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		r = frame_input_append(&client->input, bytes, (size_t)n);
		if (r < 0)
			return r;
	}
}
