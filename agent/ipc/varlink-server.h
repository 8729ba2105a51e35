/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ipc/varlink-server.h - one varlink interface on a listening socket
 *
 * Accepts, bounds and times connections, checks who may call what, answers introspection; the
 * methods themselves are rows of the owner's table. Everything that arrives is hostile until
 * checked: a malformed message ends its connection and nothing else. Never blocks; never logs above
 * debug.
 *
 * A connection has one call at a time; further ones wait in the socket, and replies keep their
 * order. The interface has to have an error PermissionDenied. Source: https://varlink.org/Service,
 * https://varlink.org/Method-Call.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/json.h"

#define VARLINK_MESSAGE_MAX_BYTES     (256 * 1024) /* four times the largest request that we take */
#define VARLINK_OUTPUT_MAX_BYTES      (4 * 1024 * 1024) /* replies that a slow client leaves unread */
#define VARLINK_CONNECTIONS_MAX       64
#define VARLINK_CONNECTIONS_MAX_USERS 48 /* of all users but root, so that root always gets in */
#define VARLINK_CONNECTIONS_MAX_USER  16 /* of one user */
#define VARLINK_MESSAGE_TIMEOUT_S     10 /* from the first byte of a message to its NUL */
#define VARLINK_OUTPUT_TIMEOUT_S      30 /* without the client reading anything */
#define VARLINK_IDLE_TIMEOUT_S        60 /* without a call, for users but root */

enum {
	VARLINK_E_BUSY = 1, /* earlier replies are still unread: this one was left out */
};

struct varlink_server;
struct varlink_call;

struct varlink_parameter {
	const char *name;
	enum json_type type;
	bool is_required;
};

struct varlink_method {
	const char *name; /* without the interface */
	bool is_for_root;
	const struct varlink_parameter *parameters;
	size_t n_parameters;
	/* Answers now or keeps @call and answers later; @parameters is borrowed, maybe NULL.
	 * Negative: the connection ends. */
	int (*handle)(struct varlink_call *call, struct json_object *parameters, void *userdata);
};

struct varlink_interface {
	const char *name, *description;
	const char *vendor, *product, *version, *url;
	const struct varlink_method *methods;
	size_t n_methods;
};

int varlink_server_new(struct sd_event *event, const struct varlink_interface *interface,
		       void *userdata, struct varlink_server **ret);
int varlink_server_listen(struct varlink_server *server, int fd);
struct varlink_server *varlink_server_free(struct varlink_server *server);
void varlink_server_freep(struct varlink_server **server);

bool varlink_call_wants_more(const struct varlink_call *call);
uid_t varlink_call_uid(const struct varlink_call *call);
void varlink_call_on_gone(struct varlink_call *call,
			  void (*gone)(struct varlink_call *call, void *userdata), void *userdata);

int varlink_reply(struct varlink_call *call, struct json_object *parameters);
int varlink_reply_more(struct varlink_call *call, struct json_object *parameters);
int varlink_error(struct varlink_call *call, const char *error, struct json_object *parameters);
int varlink_error_parameter(struct varlink_call *call, const char *parameter);
