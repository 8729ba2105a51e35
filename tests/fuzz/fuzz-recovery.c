/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is accepted is put in the printed form, which stays itself; a wrong letter in it is found.
 */
#include "fuzz.h"
#include "key/recovery.h"

#define TEXT_BYTES 71

static int normalize(const uint8_t *data, size_t size, struct secret **ret, unsigned *group)
{
	_cleanup_(secret_freep) struct secret *typed = NULL;

	must(secret_new(size ? size : 1, &typed) == 0);
	must(secret_append(typed, data, size) == 0);
	return recovery_normalize(typed, ret, group);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(secret_freep) struct secret *one = NULL, *two = NULL, *three = NULL;
	uint8_t wrong[TEXT_BYTES];
	unsigned group = 0;
	size_t at;
	int r;

	if (size > 4096)
		return 0;
	r = normalize(data, size, &one, &group);
	must((r == 0) == (one != NULL));
	must((r == RECOVERY_E_TYPO) == (group >= 1 && group <= 8));
	if (r != 0)
		return 0;
	must(secret_size(one) == TEXT_BYTES);
	must(normalize(secret_bytes(one), TEXT_BYTES, &two, NULL) == 0);
	must(secret_equal(one, two));

	memcpy(wrong, secret_bytes(one), TEXT_BYTES);
	at = data[0] % TEXT_BYTES;
	if (wrong[at] == '-')
		return 0;
	wrong[at] = wrong[at] == 'X' ? 'Y' : 'X';
	must(normalize(wrong, TEXT_BYTES, &three, &group) == RECOVERY_E_TYPO);
	must(group == at / 9 + 1);
	return 0;
}
