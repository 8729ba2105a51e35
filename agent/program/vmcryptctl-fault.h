/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptctl-fault.h - what went wrong, and the exit code that says so
 *
 * First what happened, then what to do about it; several reasons as a list.
 */
#pragma once

#include <stdio.h>

#include "base/json.h"

/* The program's exit codes; the manual page lists them. */
enum {
	CTL_OK = 0,
	CTL_FAILED = 1,     /* also a command line that makes no sense */
	CTL_DENIED = 2,     /* only root may do this */
	CTL_REFUSED = 4,    /* something stands in the way, nothing has been changed */
	CTL_BUSY = 5,       /* another job has not ended */
	CTL_TEMPORARY = 75, /* EX_TEMPFAIL: the same again later may work */
};

int fault_print_error(const char *error, struct json_object *parameters, FILE *out);
int fault_print_system(int r, FILE *out);
int fault_print_list(struct json_object *faults, FILE *out);
int fault_report_exit_code(struct json_object *report);
