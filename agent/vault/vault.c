/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault/vault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vault/operation.h"

/* The state of one operation, by its verb. */
union chain {
	struct fetch *fetch;
	struct store *store;
	struct probe *probe;
};

static void result_clear(struct vault_result *result)
{
	free(result->message);
	*result = (struct vault_result){ 0 };
}

/** vault_operation_clear_results() - release what vault_run() has put there */
void vault_operation_clear_results(struct vault_operation *operation)
{
	struct vault_probe *probe = &operation->probe;

	result_clear(&operation->result);
	secret_freep(&operation->fetched);
	free(steal(operation->secret_id));
	free(steal(operation->kek_id));
	free(steal(operation->stored_wrapped));
	result_clear(&probe->set);
	result_clear(&probe->get);
	result_clear(&probe->wrap);
	result_clear(&probe->unwrap);
	result_clear(&probe->metadata);
	free(probe->region);
	free(probe->recovery_level);
	free(probe->kek_recovery_level);
	free(probe->machine_location);
	free(probe->machine_name);
	*probe = (struct vault_probe){ 0 };
}

static int chain_start(struct session *session, struct vault_operation *operation,
		       union chain *chain)
{
	switch (operation->verb) {
	case VAULT_FETCH:
		return fetch_start(session, operation, &chain->fetch);
	case VAULT_STORE:
		return store_start(session, operation, &chain->store);
	case VAULT_PROBE:
		return probe_start(session, operation, &chain->probe);
	}
	return -EINVAL;
}

static void chain_free(const struct vault_operation *operation, union chain *chain)
{
	switch (operation->verb) {
	case VAULT_FETCH:
		fetch_free(chain->fetch);
		break;
	case VAULT_STORE:
		store_free(chain->store);
		break;
	case VAULT_PROBE:
		probe_free(chain->probe);
		break;
	}
}

/**
 * vault_run() - do all operations at once and fill in their results
 * @timeout_ms: for the whole batch; once an urgent operation is done, or all urgent ones have
 *              failed, the others get only seconds
 * @client_fd:  stream socket of whoever waits, or -1; nothing goes on for one who has left
 *
 * Return: 0 (each operation then has its own result), -ECONNABORTED, -ENOMEM, or -EIO.
 */
int vault_run(struct vault_operation operations[], size_t n, unsigned timeout_ms, int client_fd)
{
	_cleanup_(http_freep) struct http *http = NULL;
	_cleanup_(identity_freep) struct identity *identity = NULL;
	_cleanup_(freep) union chain *chains = NULL;
	struct session session;
	int r;

	chains = calloc(n > 0 ? n : 1, sizeof(*chains));
	if (!chains)
		return -ENOMEM;
	r = http_new(timeout_ms, client_fd, &http);
	if (r < 0)
		return r;
	r = identity_new(http, &identity);
	if (r < 0)
		return r;
	session = (struct session){ .http = http, .identity = identity };

	for (size_t i = 0; i < n; i++)
		session.n_urgent += operations[i].is_urgent;
	for (size_t i = 0; i < n && r == 0; i++)
		r = chain_start(&session, &operations[i], &chains[i]);
	if (r == 0)
		r = http_run(http);
	/* first the loop ends, so that nothing that it still knows of is released */
	http = http_free(http);
	for (size_t i = 0; i < n; i++)
		chain_free(&operations[i], &chains[i]);
	return r;
}
