/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ipc/varlink-server.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "ipc/varlink-frame.h"
#include "ipc/varlink-service.h"

#define READ_BYTES   (16 * 1024)
#define USEC_PER_SEC 1000000ULL
#define ACCEPTS_A_SECOND                                                                           \
	500 /* more than any client needs; keeps a flood from taking the whole CPU */

/* What a connection is waited for, and so which clock runs. */
enum waiting {
	WAITING_NOTHING, /* a call is being answered, by us */
	WAITING_IDLE,
	WAITING_MESSAGE, /* a message has begun */
	WAITING_OUTPUT,  /* the client has to read */
};

struct varlink_call {
	struct connection *connection;
	bool is_active, is_oneway, wants_more;
	void (*gone)(struct varlink_call *call, void *userdata);
	void *gone_userdata;
};

struct connection {
	struct varlink_server *server;
	struct connection *next;
	int fd;
	uid_t uid;

	struct sd_event_source *io, *timer, *later;
	enum waiting waiting;
	struct frame_input input;
	struct frame_output output;
	struct varlink_call call;
	bool is_read_closed, is_broken;
};

struct varlink_server {
	struct sd_event *event;
	struct sd_event_source *listener;
	int listen_fd;
	const struct varlink_interface *interface;
	void *userdata;
	struct connection *connections;
	struct varlink_service service;
};

static void source_free(struct sd_event_source **source)
{
	if (*source)
		(void)sd_event_source_set_enabled(*source, SD_EVENT_OFF);
	*source = sd_event_source_unref(*source);
}

static void connection_free(struct connection *connection)
{
	struct connection **link = &connection->server->connections;

	while (*link && *link != connection)
		link = &(*link)->next;
	if (*link)
		*link = connection->next;

	source_free(&connection->io);
	source_free(&connection->timer);
	source_free(&connection->later);
	if (connection->call.is_active && connection->call.gone)
		connection->call.gone(&connection->call, connection->call.gone_userdata);
	frame_input_clear(&connection->input);
	frame_output_clear(&connection->output);
	closep(&connection->fd);
	free(connection);
}

static enum waiting connection_waits_for(const struct connection *connection)
{
	if (frame_output_pending(&connection->output) > 0)
		return WAITING_OUTPUT;
	if (connection->call.is_active)
		return WAITING_NOTHING;
	return frame_input_is_partial(&connection->input) ? WAITING_MESSAGE : WAITING_IDLE;
}

static unsigned waiting_seconds(const struct connection *connection, enum waiting waiting)
{
	switch (waiting) {
	case WAITING_NOTHING:
		return 0;
	case WAITING_IDLE:
		return connection->uid == 0 ? 0 : VARLINK_IDLE_TIMEOUT_S;
	case WAITING_MESSAGE:
		return VARLINK_MESSAGE_TIMEOUT_S;
	case WAITING_OUTPUT:
		return VARLINK_OUTPUT_TIMEOUT_S;
	}
	return 0;
}

/**
 * connection_arm() - listen for what can come next, and start the clock for it
 * @has_progress: begin the clock anew even if the connection still waits for the same
 */
static int connection_arm(struct connection *connection, bool has_progress)
{
	enum waiting waiting = connection_waits_for(connection);
	unsigned seconds = waiting_seconds(connection, waiting);
	uint32_t events = 0;
	int r;

	/* no reading while a call is answered: what the client sends meanwhile stays in its socket
	 */
	if (!connection->call.is_active && !connection->is_read_closed)
		events |= EPOLLIN;
	if (frame_output_pending(&connection->output) > 0)
		events |= EPOLLOUT;
	r = sd_event_source_set_io_events(connection->io, events);
	if (r < 0)
		return r;

	if (waiting == connection->waiting && !has_progress)
		return 0;
	connection->waiting = waiting;
	if (seconds == 0)
		return sd_event_source_set_enabled(connection->timer, SD_EVENT_OFF);
	r = sd_event_source_set_time_relative(connection->timer, seconds * USEC_PER_SEC);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(connection->timer, SD_EVENT_ONESHOT);
}

/* Replies are given from anywhere, so nothing is freed or read on there: it happens from the loop.
 */
static void connection_continue_later(struct connection *connection)
{
	(void)sd_event_source_set_enabled(connection->later, SD_EVENT_ONESHOT);
}

static const struct varlink_method *find_method(const struct varlink_interface *interface,
						const char *name)
{
	for (size_t i = 0; i < interface->n_methods; i++)
		if (strcmp(interface->methods[i].name, name) == 0)
			return &interface->methods[i];
	return NULL;
}

/* The name of the first parameter that does not fit the method, or NULL. */
static const char *wrong_parameter(const struct varlink_method *method,
				   struct json_object *parameters)
{
	for (size_t i = 0; i < method->n_parameters; i++) {
		const struct varlink_parameter *parameter = &method->parameters[i];
		struct json_object *value = NULL;

		(void)json_object_object_get_ex(parameters, parameter->name, &value);
		if (value ? !json_object_is_type(value, parameter->type) : parameter->is_required)
			return parameter->name;
	}
	if (!parameters)
		return NULL;
	json_object_object_foreach(parameters, name, value)
	{
		bool is_known = false;

		(void)value;
		for (size_t i = 0; i < method->n_parameters; i++)
			is_known = is_known || strcmp(method->parameters[i].name, name) == 0;
		if (!is_known)
			return name;
	}
	return NULL;
}

static int connection_dispatch(struct connection *connection, struct json_object *message)
{
	const struct varlink_interface *interface = connection->server->interface;
	struct varlink_call *call = &connection->call;
	const struct varlink_method *method;
	struct varlink_request request;
	size_t interface_length;
	const char *wrong;
	int r;

	r = varlink_request_parse(message, &request);
	if (r < 0)
		return r;
	*call = (struct varlink_call){ .connection = connection,
				       .is_active = true,
				       .is_oneway = request.is_oneway,
				       .wants_more = request.wants_more };

	r = varlink_service_answer(&connection->server->service, call, &request);
	if (r != VARLINK_SERVICE_E_OTHER)
		return r;
	interface_length = (size_t)(strrchr(request.method, '.') - request.method);
	if (interface_length != strlen(interface->name) ||
	    strncmp(request.method, interface->name, interface_length) != 0)
		return varlink_service_no_interface(call, request.method);
	method = find_method(interface, request.method + interface_length + 1);
	if (!method)
		return varlink_service_no_method(call, request.method);
	if (method->is_for_root && connection->uid != 0)
		return varlink_error(call, "PermissionDenied", NULL);
	wrong = wrong_parameter(method, request.parameters);
	if (wrong)
		return varlink_error_parameter(call, wrong);
	return method->handle(call, request.parameters, connection->server->userdata);
}

/**
 * connection_advance() - answer the whole messages that are there
 *
 * Return: 1 when the connection goes on, 0 when it has ended in good order, or -errno.
 */
static int connection_advance(struct connection *connection)
{
	bool has_progress = false;
	int r;

	while (!connection->call.is_active && !connection->is_broken) {
		_cleanup_(json_putp) struct json_object *message = NULL;

		r = frame_input_next(&connection->input, &message);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		has_progress = true;
		r = connection_dispatch(connection, message);
		if (r < 0)
			return r;
	}
	if (connection->is_broken)
		return -ECONNRESET;
	if (connection->is_read_closed && !connection->call.is_active &&
	    frame_output_pending(&connection->output) == 0)
		return 0;
	r = connection_arm(connection, has_progress);
	return r < 0 ? r : 1;
}

static void connection_finish(struct connection *connection, int r)
{
	if (r > 0)
		return;
	if (r < 0)
		log_debug("Varlink: connection of user %u ends: %s", (unsigned)connection->uid,
			  strerror(-r));
	connection_free(connection);
}

static int connection_read(struct connection *connection)
{
	char bytes[READ_BYTES];
	ssize_t n;

	n = recv(connection->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0) {
		connection->is_read_closed = true;
		return 0;
	}
	return frame_input_append(&connection->input, bytes, (size_t)n);
}

static int on_io(struct sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct connection *connection = userdata;
	int r = 0;

	if (events & EPOLLOUT) {
		r = frame_output_send(&connection->output, connection->fd);
		if (r >= 0)
			r = connection_arm(connection, true);
	}
	if (r >= 0 && (events & EPOLLIN) && !connection->call.is_active)
		r = connection_read(connection);
	/* gone in both directions: nobody will read the replies */
	if (r >= 0 && (events & (EPOLLHUP | EPOLLERR)) && !(events & EPOLLIN))
		r = -ECONNRESET;
	if (r >= 0)
		r = connection_advance(connection);
	connection_finish(connection, r);
	return 0;
}

static int on_timeout(struct sd_event_source *source, uint64_t usec, void *userdata)
{
	connection_finish(userdata, -ETIMEDOUT);
	return 0;
}

static int on_later(struct sd_event_source *source, void *userdata)
{
	struct connection *connection = userdata;

	connection_finish(connection, connection_advance(connection));
	return 0;
}

static bool server_has_room(const struct varlink_server *server, uid_t uid)
{
	size_t all = 0, users = 0, own = 0;

	for (const struct connection *at = server->connections; at; at = at->next) {
		all++;
		users += at->uid != 0;
		own += at->uid == uid;
	}
	if (uid != 0 &&
	    (users >= VARLINK_CONNECTIONS_MAX_USERS || own >= VARLINK_CONNECTIONS_MAX_USER))
		return false;
	return all < VARLINK_CONNECTIONS_MAX;
}

static int connection_new(struct varlink_server *server, int fd, uid_t uid)
{
	struct connection *connection;
	int r;

	connection = calloc(1, sizeof(*connection));
	if (!connection)
		return -ENOMEM;
	*connection = (struct connection){
		.server = server, .fd = fd, .uid = uid, .input.max_bytes = VARLINK_MESSAGE_MAX_BYTES
	};
	connection->next = server->connections;
	server->connections = connection;

	r = sd_event_add_io(server->event, &connection->io, fd, EPOLLIN, on_io, connection);
	if (r >= 0)
		r = sd_event_add_time_relative(server->event, &connection->timer, CLOCK_MONOTONIC,
					       USEC_PER_SEC, 0, on_timeout, connection);
	if (r >= 0)
		r = sd_event_add_defer(server->event, &connection->later, on_later, connection);
	if (r >= 0)
		r = sd_event_source_set_enabled(connection->later, SD_EVENT_OFF);
	if (r >= 0)
		r = connection_arm(connection, true);
	if (r < 0)
		connection_free(connection);
	return r < 0 ? r : 0;
}

static int on_accept(struct sd_event_source *source, int listen_fd, uint32_t events, void *userdata)
{
	struct varlink_server *server = userdata;
	_cleanup_(closep) int fd = -EBADF;
	struct ucred peer;
	socklen_t size = sizeof(peer);
	int r;

	fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return 0; /* the client has gone, or there are no descriptors: the next event tells
			   */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return 0;
	if (!server_has_room(server, peer.uid)) {
		log_debug("Varlink: user %u has too many connections.", (unsigned)peer.uid);
		return 0;
	}
	r = connection_new(server, fd, peer.uid);
	fd = -EBADF; /* it belongs to the connection, or has been closed with it */
	if (r < 0)
		log_debug("Varlink: cannot take a connection: %s", strerror(-r));
	return 0;
}

/**
 * varlink_server_new() - a server without a socket
 * @interface: kept, not copied
 * @userdata:  for the methods
 * @ret:       owned by the caller
 *
 * Return: 0 or -ENOMEM.
 */
int varlink_server_new(struct sd_event *event, const struct varlink_interface *interface,
		       void *userdata, struct varlink_server **ret)
{
	struct varlink_server *server = calloc(1, sizeof(*server));

	if (!server)
		return -ENOMEM;
	*server = (struct varlink_server){ .event = sd_event_ref(event),
					   .listen_fd = -EBADF,
					   .interface = interface,
					   .service.interface = interface,
					   .userdata = userdata };
	*ret = server;
	return 0;
}

/** varlink_server_listen() - serve @fd, a listening stream socket that is ours from now on */
int varlink_server_listen(struct varlink_server *server, int fd)
{
	int r;

	server->listen_fd = fd;
	r = sd_event_add_io(server->event, &server->listener, fd, EPOLLIN, on_accept, server);
	if (r < 0)
		return r;
	r = sd_event_source_set_ratelimit(server->listener, USEC_PER_SEC, ACCEPTS_A_SECOND);
	return r < 0 ? r : 0;
}

struct varlink_server *varlink_server_free(struct varlink_server *server)
{
	if (!server)
		return NULL;
	while (server->connections)
		connection_free(server->connections);
	source_free(&server->listener);
	closep(&server->listen_fd);
	(void)sd_event_unref(server->event);
	free(server);
	return NULL;
}

void varlink_server_freep(struct varlink_server **server)
{
	(void)varlink_server_free(*server);
}

bool varlink_call_wants_more(const struct varlink_call *call)
{
	return call->wants_more;
}

uid_t varlink_call_uid(const struct varlink_call *call)
{
	return call->connection->uid;
}

/** varlink_call_on_gone() - be told when the client leaves before its last reply; @call ends then
 */
void varlink_call_on_gone(struct varlink_call *call,
			  void (*gone)(struct varlink_call *call, void *userdata), void *userdata)
{
	call->gone = gone;
	call->gone_userdata = userdata;
}

static int connection_queue(struct connection *connection, struct json_object *message)
{
	int r;

	r = frame_output_append(&connection->output, message);
	if (r == 0 && frame_output_pending(&connection->output) > VARLINK_OUTPUT_MAX_BYTES)
		r = -ENOBUFS;
	if (r == 0)
		r = frame_output_send(&connection->output, connection->fd);
	if (r >= 0)
		r = connection_arm(connection, false);
	if (r < 0)
		connection->is_broken = true;
	return r < 0 ? r : 0;
}

static int send_message(struct varlink_call *call, const char *error, bool continues,
			struct json_object *parameters)
{
	_cleanup_(json_putp) struct json_object *message = json_object_new_object();
	struct connection *connection = call->connection;
	int r;

	if (!parameters)
		parameters = json_object_new_object();
	if (!message) {
		json_object_put(parameters);
		r = -ENOMEM;
	} else {
		r = json_set_string(message, "error", error);
		if (r == 0)
			r = json_set(message, "parameters", parameters);
		else
			json_object_put(parameters);
	}
	if (r == 0 && continues)
		r = json_set_bool(message, "continues", true);

	if (!continues)
		call->is_active = false;
	if (r == 0 && !call->is_oneway)
		r = connection_queue(connection, message);
	if (r < 0)
		connection->is_broken = true;
	if (!continues || connection->is_broken)
		connection_continue_later(connection);
	return r;
}

/**
 * varlink_reply() - the last reply to a call, which ends here
 * @parameters: given away, also on failure; NULL = none
 *
 * Return: 0 or -errno, of which the caller need not do anything: the connection ends by itself.
 */
int varlink_reply(struct varlink_call *call, struct json_object *parameters)
{
	return send_message(call, NULL, false, parameters);
}

/**
 * varlink_reply_more() - a reply that others follow
 * @parameters: given away, also on failure
 *
 * Return: 0, VARLINK_E_BUSY or -errno as with varlink_reply().
 */
int varlink_reply_more(struct varlink_call *call, struct json_object *parameters)
{
	if (!call->wants_more || frame_output_pending(&call->connection->output) > 0 ||
	    call->connection->is_broken) {
		json_object_put(parameters);
		return VARLINK_E_BUSY;
	}
	return send_message(call, NULL, true, parameters);
}

/**
 * varlink_error() - the last reply, an error
 * @error:      with a dot, a whole name; without, an error of the interface
 * @parameters: given away, also on failure; NULL = none
 *
 * Return: as varlink_reply().
 */
int varlink_error(struct varlink_call *call, const char *error, struct json_object *parameters)
{
	_cleanup_(freep) char *name = NULL;
	int r;

	if (strchr(error, '.'))
		return send_message(call, error, false, parameters);
	r = text_format(&name, "%s.%s", call->connection->server->interface->name, error);
	if (r < 0) {
		json_object_put(parameters);
		return r;
	}
	return send_message(call, name, false, parameters);
}

/** varlink_error_parameter() - refuse a parameter of the call by its name. Return: as
 * varlink_reply(). */
int varlink_error_parameter(struct varlink_call *call, const char *parameter)
{
	return varlink_service_refuse(call, "InvalidParameter", "parameter", parameter);
}
