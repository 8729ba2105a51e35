/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A journal that was damaged: refused whole, or written again as it was read. */
#include "fuzz.h"
#include "job/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_putp) struct json_object *in = NULL, *one = NULL, *two = NULL;
	_cleanup_(plan_freep) struct plan *plan = calloc(1, sizeof(*plan));
	_cleanup_(plan_freep) struct plan *again = calloc(1, sizeof(*again));
	int r;

	if (!plan || !again || size > 64 * 1024 || json_parse((const char *)data, size, &in) < 0)
		return 0;
	r = plan_parse_journal(plan, in);
	must(r == 0 || r == PLAN_E_DAMAGED);
	if (r != 0)
		return 0;
	must(plan->n_jobs > 0 && plan->report.n_volumes == plan->n_jobs);
	for (size_t i = 0; i < plan->n_jobs; i++)
		must(!strchr(plan->jobs[i].uuid, '/') && !strchr(plan->jobs[i].mapping, '/') &&
		     !strchr(plan->jobs[i].header_uuid, '/'));
	must(plan_write_journal(plan, &one) == 0);
	must(plan_parse_journal(again, one) == 0);
	must(plan_write_journal(again, &two) == 0);
	must(json_object_equal(one, two));
	return 0;
}
