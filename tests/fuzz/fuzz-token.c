/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A header's JSON from any disk: its token of ours, which is written as it was read, and its
 * segments. */
#include "fuzz.h"
#include "volume/header.h"
#include "volume/segments.h"

#define DEVICE_BYTES (1ULL << 30)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_putp) struct json_object *in = NULL, *out = NULL;
	_cleanup_(header_token_freep) struct header_token *one = NULL, *two = NULL;
	struct segments segments;

	if (size > 64 * 1024 || json_parse((const char *)data, size, &in) < 0)
		return 0;
	if (segments_from_json(in, DEVICE_BYTES, &segments) == 0)
		must(segments.encrypted_bytes <= segments.data_bytes);
	if (header_token_from_json(in, &one) != 0) {
		must(!one);
		return 0;
	}
	must(!strchr(one->mapping, '/') && one->mapping[0] != '\0');
	must(!one->device == (one->device_bytes == 0));
	must(header_token_to_json(one, &out) == 0);
	must(header_token_from_json(out, &two) == 0);
	must(strcmp(one->mapping, two->mapping) == 0);
	must(strcmp(one->filesystem_uuid, two->filesystem_uuid) == 0);
	must(one->device_bytes == two->device_bytes);
	return 0;
}
