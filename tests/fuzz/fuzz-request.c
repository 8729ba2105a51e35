/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A request from anybody: it is refused with reasons, or it is stored and read back as the same.
 */
#include "fuzz.h"
#include "job/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(request_problems_clear) struct request_problems problems = { 0 }, none = { 0 };
	_cleanup_(json_putp) struct json_object *in = NULL, *one = NULL, *two = NULL;
	_cleanup_(request_freep) struct request *request = NULL, *again = NULL;

	if (size > REQUEST_MAX_BYTES || json_parse((const char *)data, size, &in) < 0)
		return 0;
	must(request_from_json(in, &request, &problems) == 0);
	must(!request == (problems.n > 0));
	for (size_t i = 0; i < problems.n; i++)
		must(problems.problems[i].parameter && problems.problems[i].what[0] &&
		     problems.problems[i].remedy);
	if (!request)
		return 0;
	must(request->n_volumes <= REQUEST_MAX_VOLUMES);
	must(request_to_json(request, &one) == 0);
	must(request_from_json(one, &again, &none) == 0);
	must(again && none.n == 0);
	must(request_to_json(again, &two) == 0);
	must(json_object_equal(one, two));
	must(request_may_overlap(request, again));
	return 0;
}
