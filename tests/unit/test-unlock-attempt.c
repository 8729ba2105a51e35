/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked for in one batch, in which order, and what becomes of the volumes. The key service
 * and the device-mapper are this test's. */
#include "base/log.h"
#include "key/client.h"
#include "program/unlock.h"
#include "test.h"
#include "volume/mapping.h"
#include "volume/reencrypt.h"

#define V32         "0123456789abcdef0123456789abcdef"
#define VOLUMES_MAX 3

/* What was asked for: a letter for each key. */
static char asked[KEY_BATCH_MAX + 1];
static size_t asked_urgent;

int __wrap_key_fetch(const struct key_reference *const references[], size_t n, size_t n_urgent,
		     unsigned timeout_ms, struct key_result results[]);

/* A small letter is a key that comes, a capital one that is late, a digit one that is denied. */
int __wrap_key_fetch(const struct key_reference *const references[], size_t n, size_t n_urgent,
		     unsigned timeout_ms, struct key_result results[])
{
	(void)timeout_ms;
	asked_urgent = n_urgent;
	for (size_t i = 0; i < n; i++) {
		char letter = strstr(references[i]->secret, "/secrets/")[strlen("/secrets/")];

		asked[i] = letter;
		asked[i + 1] = '\0';
		results[i] = (struct key_result){ 0 };
		if (letter >= '0' && letter <= '9')
			results[i].condition = KEY_E_DENIED;
		else if (letter <= 'Z')
			results[i].condition = KEY_E_UNREACHABLE;
	}
	return 0;
}

int reencrypt_run(const struct reencrypt *conversion)
{
	(void)conversion;
	fail_msg("nothing was torn");
	return -ENOSYS;
}

int mapping_open(const char *device, const char *header_file, const char *mapping,
		 const struct secret *passphrase)
{
	(void)device;
	(void)header_file;
	(void)mapping;
	(void)passphrase;
	return 0;
}

void unlock_volume_say(struct unlock_volume *volume, enum unlock_state state, const char *format,
		       ...)
{
	(void)format;
	volume->state = state;
}

static struct header_token *token_make(char letter)
{
	struct header_token *token = calloc(1, sizeof(*token));
	char text[256];

	assert_non_null(token);
	(void)snprintf(text, sizeof(text),
		       "{\"version\":1,\"provider\":\"%s\",\"secret\":"
		       "\"https://kv1.vault.azure.net/secrets/%c/" V32 "\"}",
		       letter == '?' ? "of tomorrow" : "keyvault", letter);
	assert_int_equal(json_parse(text, strlen(text), &token->reference), 0);
	return token;
}

/* Locked, with a token for each letter; '?' is one that cannot be understood. */
static void volume_make(struct unlock_volume *volume, const char *letters)
{
	static char mapping[] = "vmcrypt-test";
	struct header_info *header = calloc(1, sizeof(*header));

	assert_non_null(header);
	header->n_tokens = strlen(letters);
	header->tokens = calloc(header->n_tokens, sizeof(struct header_token *));
	assert_non_null(header->tokens);
	for (size_t i = 0; i < header->n_tokens; i++)
		header->tokens[i] = token_make(letters[i]);
	*volume = (struct unlock_volume){ .mapping = mapping,
					  .state = UNLOCK_LOCKED,
					  .header = header };
}

static void volume_clear(struct unlock_volume *volume)
{
	for (size_t i = 0; i < volume->header->n_tokens; i++) {
		json_object_put(volume->header->tokens[i]->reference);
		free(volume->header->tokens[i]);
	}
	free(volume->header->tokens);
	free(volume->header);
}

static void test_batches(void **state)
{
	static const char letters[] = {
		[UNLOCK_MISSING] = 'm', [UNLOCK_LOCKED] = 'l', [UNLOCK_WAITS] = 'w',
		[UNLOCK_REFUSED] = 'r', [UNLOCK_OPEN] = 'o',
	};
	/* clang-format off */
	static const struct {
		const char *promise, *tokens[VOLUMES_MAX];
		size_t root; /* VOLUMES_MAX: none is known */
		const char *asked;
		size_t urgent;
		const char *states;
	} rows[] = {
		{ "a key that comes opens",                     { "a" },             3, "a",     0, "o" },
		{ "one that is late is waited for",             { "A" },             3, "A",     0, "w" },
		{ "one that is denied is not",                  { "1" },             3, "1",     0, "r" },
		{ "a second key opens, too",                    { "1b" },            3, "1b",    0, "o" },
		{ "a second key that is late is waited for",    { "1B" },            3, "1B",    0, "w" },
		{ "the first of each before the second of any", { "ab", "cd", "e" }, 3, "acebd", 0, "ooo" },
		{ "the root's keys are asked for first",        { "ab", "cd", "e" }, 1, "cdaeb", 2, "ooo" },
		{ "without them the others still open",         { "C1", "ab" },      0, "C1ab",  2, "wo" },
		{ "a token that cannot be understood hides no other", { "?a" },      3, "a",     0, "o" },
		{ "nor the root's",                             { "?a", "b?" },      0, "ab",    1, "oo" },
		{ "only such tokens: refused",                  { "??", "a" },       3, "a",     0, "ro" },
		{ "also where nothing is asked for",            { "?" },             0, "",      0, "r" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct unlock_volume made[VOLUMES_MAX];
		struct unlock_volumes volumes = { .volumes = made };

		asked[0] = '\0';
		asked_urgent = 0;
		while (volumes.n < VOLUMES_MAX && rows[i].tokens[volumes.n]) {
			volume_make(&made[volumes.n], rows[i].tokens[volumes.n]);
			made[volumes.n].is_root = volumes.n == rows[i].root;
			volumes.n++;
		}
		unlock_attempt_run(&volumes);
		assert_row(rows[i].promise, strcmp(asked, rows[i].asked) == 0);
		assert_row(rows[i].promise, asked_urgent == rows[i].urgent);
		assert_row(rows[i].promise, strlen(rows[i].states) == volumes.n);
		for (size_t j = 0; j < volumes.n; j++) {
			assert_row(rows[i].promise, letters[made[j].state] == rows[i].states[j]);
			volume_clear(&made[j]);
		}
	}
}

/* More keys than a batch takes: who found no place is neither opened nor refused. */
static void test_full(void **state)
{
	static struct unlock_volume made[KEY_BATCH_MAX];
	struct unlock_volumes volumes = { .volumes = made, .n = KEY_BATCH_MAX };

	for (size_t i = 0; i < volumes.n; i++)
		volume_make(&made[i], i == 0 ? "ab" : "c");
	made[0].is_root = true;
	unlock_attempt_run(&volumes);
	assert_int_equal(strlen(asked), KEY_BATCH_MAX);
	assert_int_equal(asked_urgent, 2);
	for (size_t i = 0; i < volumes.n; i++) {
		assert_int_equal(made[i].state, i < volumes.n - 1 ? UNLOCK_OPEN : UNLOCK_LOCKED);
		volume_clear(&made[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_full),
	};

	log_set_max_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
