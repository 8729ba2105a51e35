/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"
#include "vault/failure.h"

static const struct vault_object object = { .host = "kv1.vault.azure.net",
					    .suffix = "vault.azure.net",
					    .name = "s1" };

static void load(struct http_exchange *exchange, long status, const char *file)
{
	_cleanup_(freep) char *path = NULL, *text = NULL;

	*exchange = (struct http_exchange){ .tries = 2 };
	exchange->answer.failure = HTTP_ANSWERED;
	exchange->answer.status = status;
	strcpy(exchange->answer.request_id, "id-1");
	if (!file)
		return;
	assert_true(asprintf(&path, FIXTURES "/replies/%s", file) > 0);
	text = read_file(path);
	assert_int_equal(secret_new(strlen(text) + 1, &exchange->answer.body), 0);
	assert_int_equal(secret_append(exchange->answer.body, text, strlen(text)), 0);
}

static void test_vault(void **state)
{
	/* clang-format off */
	static const struct {
		const char *file;
		long status;
		enum vault_action action;
		int condition;
		const char *message;
	} rows[] = {
		{ "403-policy.json",   403, VAULT_SECRET_SET, VAULT_E_DENIED, "Key vault kv1.vault.azure.net refused the request: the machine's identity has no permission to set secrets (403 ForbiddenByPolicy, request id id-1)." },
		{ "403-rbac.json",     403, VAULT_SECRET_SET, VAULT_E_DENIED, "Key vault kv1.vault.azure.net refused the request: the machine's identity has no role that allows it to set secrets (a new role assignment takes some minutes to work) (403 ForbiddenByRbac, request id id-1)." },
		{ "403-firewall.json", 403, VAULT_SECRET_GET, VAULT_E_DENIED, "Key vault kv1.vault.azure.net refused the request: its firewall does not admit this machine's address (403 ForbiddenByFirewall, request id id-1)." },
		{ "403-nested.json",   403, VAULT_KEY_UNWRAP, VAULT_E_DISABLED, "Key vault kv1.vault.azure.net refused the request: key s1 is disabled (403 KeyDisabled, request id id-1)." },
		{ NULL,                403, VAULT_SECRET_GET, VAULT_E_DENIED, "Key vault kv1.vault.azure.net refused the request: the machine's identity may not read secrets (403, request id id-1)." },
		{ "404-secret.json",   404, VAULT_SECRET_GET, VAULT_E_GONE, "Key vault kv1.vault.azure.net has no secret s1 (404 SecretNotFound, request id id-1)." },
		{ "409-deleted.json",  409, VAULT_SECRET_SET, VAULT_E_GONE, "Key vault kv1.vault.azure.net keeps a deleted secret of the name s1: recover it, or purge it (409 ObjectIsDeletedButRecoverable, request id id-1)." },
		{ "401-vault.json",    401, VAULT_SECRET_GET, VAULT_E_CONFIG, "Key vault kv1.vault.azure.net belongs to another tenant than the machine's identity (401 AKV10032, request id id-1)." },
		{ "429-vault.json",    429, VAULT_SECRET_GET, VAULT_E_UNREACHABLE, "Key vault kv1.vault.azure.net throttles requests (429 VaultRequestTypeLimitReached, request id id-1)." },
		{ "502-proxy.html",    502, VAULT_SECRET_GET, VAULT_E_UNREACHABLE, "Key vault kv1.vault.azure.net is failing (502, request id id-1)." },
		{ NULL,                307, VAULT_SECRET_GET, VAULT_E_CONFIG, "Key vault kv1.vault.azure.net sent us elsewhere, which we do not follow (307, request id id-1)." },
		{ NULL,                418, VAULT_SECRET_GET, VAULT_E_CONFIG, "Key vault kv1.vault.azure.net did not accept the request (418, request id id-1)." },
		{ "200-secret.json",   200, VAULT_SECRET_GET, 0, NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *message = NULL;
		struct http_exchange exchange;

		load(&exchange, rows[i].status, rows[i].file);
		assert_int_equal(failure_of_vault(&exchange, rows[i].action, &object, &message),
				 rows[i].condition);
		if (rows[i].message)
			assert_string_equal(message, rows[i].message);
		else
			assert_null(message);
		secret_freep(&exchange.answer.body);
	}
}

static void test_identity(void **state)
{
	/* clang-format off */
	static const struct {
		const char *file, *client_id;
		long status;
		int condition;
		const char *message;
	} rows[] = {
		{ "400-identity.json", NULL,  400, VAULT_E_CONFIG, "Cannot get a token: this machine has no managed identity, or several and none was named (400 invalid_request)." },
		{ "400-identity.json", "a-b", 400, VAULT_E_CONFIG, "Cannot get a token: the managed identity that was named is not assigned to this machine (400 invalid_request, client id a-b)." },
		{ NULL,                NULL,  410, VAULT_E_UNREACHABLE, "Cannot get a token: the instance metadata service is not ready (410)." },
		{ NULL,                NULL,  405, VAULT_E_CONFIG, "Cannot get a token: the instance metadata service refused the request (405)." },
		{ "200-token.json",    NULL,  200, 0, NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *message = NULL;
		struct http_exchange exchange;

		load(&exchange, rows[i].status, rows[i].file);
		assert_int_equal(failure_of_identity(&exchange, rows[i].client_id, &message),
				 rows[i].condition);
		if (rows[i].message)
			assert_string_equal(message, rows[i].message);
		secret_freep(&exchange.answer.body);
	}
}

static void test_trouble(void **state)
{
	struct http_exchange exchange = { .tries = 3 };
	_cleanup_(freep) char *message = NULL;

	exchange.answer.failure = HTTP_CERTIFICATE;
	strcpy(exchange.answer.problem, "certificate has expired");
	assert_int_equal(failure_of_vault(&exchange, VAULT_SECRET_GET, &object, &message),
			 VAULT_E_CONFIG);
	assert_string_equal(message, "Key vault kv1.vault.azure.net showed a certificate that is "
				     "not accepted: certificate has expired (3 tries).");
}

static void test_challenge(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *challenge;
		bool fits;
	} rows[] = {
		{ "the usual one",   "Bearer authorization=\"https://login.microsoftonline.com/t\", resource=\"https://vault.azure.net\"", true },
		{ "with slash",      "Bearer resource=\"https://vault.azure.net/\"", true },
		{ "capitals",        "Bearer resource=\"HTTPS://Vault.Azure.NET\"", true },
		{ "a scope",         "Bearer authorization_uri=\"https://x/t\", scope=\"https://vault.azure.net/.default\"", true },
		{ "two schemes",     "Bearer authorization=\"a,b\", resource=\"https://vault.azure.net\", PoP x=\"y\"", true },
		{ "nothing said",    "", true },
		{ "no audience",     "Bearer authorization=\"https://login.windows.net/t\"", true },
		{ "another service", "Bearer resource=\"https://management.azure.com\"", false },
		{ "another cloud",   "Bearer resource=\"https://vault.azure.cn\"", false },
		{ "goes on",         "Bearer resource=\"https://vault.azure.net.example.net\"", false },
		{ "begins early",    "Bearer resource=\"https://evilvault.azure.net\"", false },
		{ "http",            "Bearer resource=\"http://vault.azure.net\"", false },
		{ "a wider one",     "Bearer resource=\"https://azure.net\"", false },
		{ "never ends",      "Bearer resource=\"https://vault.azure.net", false },
		{ "no quotes",       "Bearer resource=https://vault.azure.net", false },
		{ "empty",           "Bearer resource=\"\"", false },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_row(rows[i].name,
			   challenge_fits(rows[i].challenge, "vault.azure.net") == rows[i].fits);
}

static void test_delay(void **state)
{
	/* clang-format off */
	static const struct {
		const struct http_policy *policy;
		unsigned tries, least_ms, most_ms;
	} rows[] = {
		{ &http_policy_vault,    1,     600,   1000 },
		{ &http_policy_vault,    2,    1200,   2000 },
		{ &http_policy_vault,    3,    2400,   4000 },
		{ &http_policy_vault,    5,    9600,  16000 },
		{ &http_policy_vault,    6,   12000,  20000 },
		{ &http_policy_vault,    4000, 12000, 20000 },
		{ &http_policy_metadata, 1,     750,   1250 },
		{ &http_policy_metadata, 6,   22500,  37500 },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (unsigned random = 0; random < 2000; random++)
			assert_in_range(http_delay_ms(rows[i].policy, rows[i].tries, random),
					rows[i].least_ms, rows[i].most_ms);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vault),   cmocka_unit_test(test_identity),
		cmocka_unit_test(test_trouble), cmocka_unit_test(test_challenge),
		cmocka_unit_test(test_delay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
