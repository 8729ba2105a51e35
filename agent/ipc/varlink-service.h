/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ipc/varlink-service.h - org.varlink.service: who is there, and what it offers
 *
 * The part of every varlink server that is the same everywhere. Source: https://varlink.org/Service
 */
#pragma once

#include "ipc/varlink-frame.h"
#include "ipc/varlink-server.h"

enum {
	VARLINK_SERVICE_E_OTHER = 1, /* not a method of this interface */
};

struct varlink_service {
	const struct varlink_interface *interface;
};

int varlink_service_answer(const struct varlink_service *service, struct varlink_call *call,
			   const struct varlink_request *request);
int varlink_service_refuse(struct varlink_call *call, const char *error, const char *name,
			   const char *value);
int varlink_service_no_interface(struct varlink_call *call, const char *method);
int varlink_service_no_method(struct varlink_call *call, const char *method);
