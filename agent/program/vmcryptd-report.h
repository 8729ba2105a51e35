/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptd-report.h - what the daemon itself tells of a job
 *
 * The worker makes the reports; the daemon has a word of its own only before the first and after
 * the last. Both are varlink type Report.
 */
#pragma once

#include "job/report.h"
#include "job/request.h"

int daemon_report_blank(const char *id, const struct request *request, struct json_object **ret);
int daemon_report_override(struct json_object *last, enum job_state state, const char *code,
			   const char *remedy, const char *what, struct json_object **ret);
bool daemon_report_has(struct json_object *report, const char *code);
bool daemon_report_names_all(struct json_object *report, const char *code,
			     const struct request *request);
