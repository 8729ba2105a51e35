/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client's half (agent/key/client.h) for keyfetch-test.py: stores two passphrases, one in the
 * vault and one in a file, fetches both and one that does not exist in a single batch, and probes.
 *
 *   keyclient VAULT KEK DIRECTORY      prints a line for each result; or "unreachable" lines
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "key/client.h"

static void show(const char *what, const struct key_result *result, const struct secret *wanted)
{
	printf("%s: %s%s%s%s\n", what, key_condition_to_string(result->condition),
	       result->message ? " " : "", result->message ? result->message : "",
	       result->passphrase && secret_equal(result->passphrase, wanted) ? " same" : "");
}

int main(int argc, char *argv[])
{
	struct key_store vault = { .provider = KEY_PROVIDER_KEYVAULT, .name = "client-test" };
	struct key_store file = { .provider = KEY_PROVIDER_FILE, .name = "client-test" };
	_cleanup_(secret_freep) struct secret *passphrase = NULL;
	struct key_result stored[2] = { 0 }, fetched[3] = { 0 };
	const struct key_reference *references[3];
	struct key_reference absent = { .provider = KEY_PROVIDER_FILE };
	struct key_probe probe = { 0 };

	if (argc != 4 || secret_new(16, &passphrase) < 0 ||
	    secret_append(passphrase, "a test phrase", 13) < 0)
		return EXIT_FAILURE;
	vault.vault = argv[1];
	vault.kek = argv[2];
	vault.machine = "vm1.example_net";
	file.directory = argv[3];
	absent.path = strdup("/nowhere/at/all");

	if (key_store(&vault, passphrase, 20000, &stored[0]) < 0 ||
	    key_store(&file, passphrase, 20000, &stored[1]) < 0)
		return EXIT_FAILURE;
	show("store keyvault", &stored[0], passphrase);
	show("store file", &stored[1], passphrase);
	if (stored[0].reference && stored[1].reference && absent.path) {
		references[0] = stored[1].reference;
		references[1] = stored[0].reference;
		references[2] = &absent;
		if (key_fetch(references, 3, 0, 20000, fetched) < 0)
			return EXIT_FAILURE;
		show("fetch file", &fetched[0], passphrase);
		show("fetch keyvault", &fetched[1], passphrase);
		show("fetch absent", &fetched[2], passphrase);
	}
	if (key_probe(&vault, 20000, &probe) < 0)
		return EXIT_FAILURE;
	show("probe set", &probe.set, passphrase);
	vault.name = NULL;
	key_probe_clear(&probe);
	if (key_probe(&vault, 20000, &probe) < 0)
		return EXIT_FAILURE;
	show("probe unnamed", &probe.set, passphrase);
	printf("region: %s\n", probe.vault_region ? probe.vault_region : "none");

	key_probe_clear(&probe);
	for (size_t i = 0; i < ARRAY_SIZE(fetched); i++)
		key_result_clear(&fetched[i]);
	for (size_t i = 0; i < ARRAY_SIZE(stored); i++)
		key_result_clear(&stored[i]);
	free(absent.path);
	return EXIT_SUCCESS;
}
