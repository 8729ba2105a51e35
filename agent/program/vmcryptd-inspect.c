/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptd-inspect.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "ipc/varlink-frame.h"

#define READ_BYTES    (16 * 1024)
#define USEC_PER_SEC  1000000ULL
#define USEC_PER_MSEC 1000ULL
#define LOOKS_MAX     80 /* more than connections: each has one call at most */

struct listener {
	struct listener *next;
	inspect_done done;
	void *userdata;
};

/* One question to the helper, and who waits for the answer. */
struct look {
	struct inspector *inspector;
	struct look *next;
	char *volume_type; /* NULL: a check, which is not shared */
	int fd;
	struct sd_event_source *io, *timer;
	struct frame_input input;
	struct frame_output output;
	struct listener *listeners;
	struct json_object *reply; /* kept for INSPECT_SHARED_MS */
};

struct inspector {
	struct sd_event *event;
	struct look *looks;
	size_t n_looks;
};

static struct look *look_free(struct look *look)
{
	struct look **link = &look->inspector->looks;

	while (*link && *link != look)
		link = &(*link)->next;
	if (*link) {
		*link = look->next;
		look->inspector->n_looks--;
	}
	(void)sd_event_source_disable_unref(look->io);
	(void)sd_event_source_disable_unref(look->timer);
	while (look->listeners) {
		struct listener *listener = look->listeners;

		look->listeners = listener->next;
		free(listener);
	}
	closep(&look->fd);
	frame_input_clear(&look->input);
	frame_output_clear(&look->output);
	json_object_put(look->reply);
	free(look->volume_type);
	free(look);
	return NULL;
}

static int on_stale(struct sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)look_free(userdata);
	return 0;
}

/* Tell all who wait; a look at the volumes stays for a moment, for those who ask next. */
static void look_finish(struct look *look, int r, struct json_object *reply)
{
	struct sd_event *event = look->inspector->event;

	look->io = sd_event_source_disable_unref(look->io);
	look->timer = sd_event_source_disable_unref(look->timer);
	look->reply = reply;
	while (look->listeners) {
		struct listener *listener = look->listeners;

		look->listeners = listener->next;
		listener->done(r, reply, listener->userdata);
		free(listener);
	}
	if (r < 0 || !look->volume_type ||
	    sd_event_add_time_relative(event, &look->timer, CLOCK_MONOTONIC,
				       INSPECT_SHARED_MS * USEC_PER_MSEC, 0, on_stale, look) < 0)
		(void)look_free(look);
}

static int on_timeout(struct sd_event_source *source, uint64_t usec, void *userdata)
{
	look_finish(userdata, -ETIMEDOUT, NULL);
	return 0;
}

/* Return: 1 and the reply, 0 when more is needed, or -errno. */
static int look_advance(struct look *look, uint32_t events, struct json_object **ret)
{
	char bytes[READ_BYTES];
	ssize_t n;
	int r;

	if (frame_output_pending(&look->output) > 0) {
		r = frame_output_send(&look->output, look->fd);
		if (r <= 0)
			return r;
		r = sd_event_source_set_io_events(look->io, EPOLLIN);
		if (r < 0)
			return r;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	n = recv(look->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	r = frame_input_append(&look->input, bytes, (size_t)n);
	return r < 0 ? r : frame_input_next(&look->input, ret);
}

static int on_io(struct sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct json_object *reply = NULL;
	int r;

	r = look_advance(userdata, events, &reply);
	if (r != 0)
		look_finish(userdata, r < 0 ? r : 0, reply);
	return 0;
}

static int look_connect(struct look *look, unsigned timeout_s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = INSPECT_SOCKET };
	struct sd_event *event = look->inspector->event;
	int r;

	look->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (look->fd < 0)
		return -errno;
	if (connect(look->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	r = sd_event_add_io(event, &look->io, look->fd, EPOLLIN | EPOLLOUT, on_io, look);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &look->timer, CLOCK_MONOTONIC,
					       timeout_s * USEC_PER_SEC, 0, on_timeout, look);
	return r < 0 ? r : 0;
}

static int look_new(struct inspector *inspector, struct json_object *question, unsigned timeout_s,
		    struct look **ret)
{
	struct look *look;
	int r;

	if (inspector->n_looks >= LOOKS_MAX)
		return -EBUSY;
	look = calloc(1, sizeof(*look));
	if (!look)
		return -ENOMEM;
	look->inspector = inspector;
	look->fd = -EBADF;
	look->input.max_bytes = INSPECT_REPLY_MAX_BYTES;
	look->next = inspector->looks;
	inspector->looks = look;
	inspector->n_looks++;

	r = frame_output_append(&look->output, question);
	if (r == 0)
		r = look_connect(look, timeout_s);
	if (r < 0) {
		(void)look_free(look);
		return r;
	}
	*ret = look;
	return 0;
}

static int look_listen(struct look *look, inspect_done done, void *userdata)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return -ENOMEM;
	*listener =
		(struct listener){ .next = look->listeners, .done = done, .userdata = userdata };
	look->listeners = listener;
	return 0;
}

int inspector_new(struct sd_event *event, struct inspector **ret)
{
	struct inspector *inspector = calloc(1, sizeof(*inspector));

	if (!inspector)
		return -ENOMEM;
	inspector->event = sd_event_ref(event);
	*ret = inspector;
	return 0;
}

struct inspector *inspector_free(struct inspector *inspector)
{
	if (!inspector)
		return NULL;
	while (inspector->looks)
		(void)look_free(inspector->looks);
	(void)sd_event_unref(inspector->event);
	free(inspector);
	return NULL;
}

void inspector_freep(struct inspector **inspector)
{
	(void)inspector_free(*inspector);
}

static struct look *find_shared(struct inspector *inspector, const char *volume_type)
{
	for (struct look *at = inspector->looks; at; at = at->next)
		if (at->volume_type && strcmp(at->volume_type, volume_type) == 0)
			return at;
	return NULL;
}

/**
 * inspect_volumes() - every volume, and what @volume_type selects
 * @volume_type: "All", "OS" or "Data"
 * @done:        called once, from the loop or from here; @userdata has to live until then
 *
 * Return: 0, or -errno with @done never called.
 */
int inspect_volumes(struct inspector *inspector, const char *volume_type, inspect_done done,
		    void *userdata)
{
	_cleanup_(json_putp) struct json_object *question = NULL;
	struct look *look = find_shared(inspector, volume_type);
	int r;

	if (look && look->reply) {
		done(0, look->reply, userdata);
		return 0;
	}
	if (look)
		return look_listen(look, done, userdata);
	question = json_object_new_object();
	if (!question)
		return -ENOMEM;
	r = json_set_string(question, "method", "volumes");
	if (r == 0)
		r = json_set_string(question, "volume_type", volume_type);
	if (r == 0)
		r = look_new(inspector, question, INSPECT_VOLUMES_TIMEOUT_S, &look);
	if (r < 0)
		return r;
	look->volume_type = strdup(volume_type);
	r = look->volume_type ? look_listen(look, done, userdata) : -ENOMEM;
	if (r < 0)
		(void)look_free(look);
	return r;
}

/**
 * inspect_check() - what stands in the way of a request, and the plan
 * @request: as request_to_json() makes it; borrowed
 *
 * Return: as inspect_volumes().
 */
int inspect_check(struct inspector *inspector, struct json_object *request, inspect_done done,
		  void *userdata)
{
	_cleanup_(json_putp) struct json_object *question = json_object_new_object();
	struct look *look;
	int r;

	if (!question)
		return -ENOMEM;
	r = json_set_string(question, "method", "check");
	if (r == 0)
		r = json_set(question, "request", json_object_get(request));
	if (r == 0)
		r = look_new(inspector, question, INSPECT_CHECK_TIMEOUT_S, &look);
	if (r < 0)
		return r;
	r = look_listen(look, done, userdata);
	if (r < 0)
		(void)look_free(look);
	return r;
}
