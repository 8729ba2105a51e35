/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "key/file.h"
#include "key/protocol.h"

#define FILE_DIRECTORY "/etc/vmcrypt/keys"
#define GRACE_MS       10000 /* for starting the service, beside what it is given */

static const char *const conditions[] = {
	[0] = "ok",
	[KEY_E_DENIED] = "denied",
	[KEY_E_UNREACHABLE] = "unreachable",
	[KEY_E_GONE] = "gone",
	[KEY_E_DISABLED] = "disabled",
	[KEY_E_CONFIG] = "configuration",
	[KEY_E_CORRUPT] = "corrupt",
};

/** key_condition_to_string() - one word for logs and the protocol. Return: constant text. */
const char *key_condition_to_string(int condition)
{
	if (condition < 0 || (size_t)condition >= ARRAY_SIZE(conditions))
		return "unknown";
	return conditions[condition];
}

/** key_result_clear() - release what is in it; it can be used anew */
void key_result_clear(struct key_result *result)
{
	free(result->message);
	secret_free(result->passphrase);
	key_reference_free(result->reference);
	*result = (struct key_result){ 0 };
}

/** key_probe_clear() - release what is in it; it can be used anew */
void key_probe_clear(struct key_probe *probe)
{
	key_result_clear(&probe->set);
	key_result_clear(&probe->get);
	key_result_clear(&probe->wrap);
	key_result_clear(&probe->unwrap);
	key_result_clear(&probe->metadata);
	free(probe->vault_region);
	free(probe->vault_recovery_level);
	free(probe->kek_recovery_level);
	free(probe->machine_location);
	free(probe->machine_name);
	*probe = (struct key_probe){ 0 };
}

static void result_set(struct key_result *result, int condition, const char *message)
{
	key_result_clear(result);
	result->condition = condition;
	result->message = strdup(message);
}

static int service_connect(unsigned timeout_ms, int *ret_fd)
{
	const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = KEY_SOCKET_PATH };
	unsigned wait_ms = timeout_ms + GRACE_MS;
	const struct timeval wait = { .tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000 };
	_cleanup_(closep) int fd = -EBADF;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = steal_fd(fd);
	return 0;
}

/* passphrases in the request are borrowed; the other texts are strdup()ed by the caller */
static int ask_service(struct protocol_request *request, struct protocol_reply *reply,
		       const char **ret_problem)
{
	_cleanup_(closep) int fd = -EBADF;
	int r;

	r = service_connect(request->timeout_ms, &fd);
	if (r < 0) {
		log_debug_errno(r, "Key service %s: cannot connect: %m", KEY_SOCKET_PATH);
		*ret_problem = "The key service (vmcrypt-keyfetch.socket) cannot be reached.";
		return KEY_E_UNREACHABLE;
	}
	r = protocol_request_send(fd, request);
	if (r == 0)
		r = protocol_reply_receive(fd, reply);
	if (r == 0 && reply->n != request->n)
		r = -EBADMSG;
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		log_debug_errno(r, "Key service %s: no usable answer: %m", KEY_SOCKET_PATH);
		*ret_problem = "The key service (vmcrypt-keyfetch) gave no usable answer; "
			       "the journal says why.";
		return KEY_E_UNREACHABLE;
	}
	return 0;
}

static unsigned bounded(unsigned timeout_ms)
{
	if (timeout_ms < 1)
		return 1;
	return timeout_ms < PROTOCOL_TIMEOUT_MAX_MS ? timeout_ms : PROTOCOL_TIMEOUT_MAX_MS;
}

static void fetch_file(const struct key_reference *reference, struct key_result *result)
{
	_cleanup_(freep) char *message = NULL;
	int r;

	r = key_file_fetch(reference->path, &result->passphrase);
	if (r == 0)
		return;
	(void)text_format(&message, "Key file %s cannot be used: %s.", reference->path,
			  r < 0 ? strerror(-r) : key_condition_to_string(r));
	result_set(result, r < 0 ? KEY_E_UNREACHABLE : r, message ? message : "");
}

/* the reply's results go to the references that have none yet, in their order */
static void hand_over(struct protocol_reply *reply, const struct key_reference *const references[],
		      size_t n, struct key_result results[])
{
	size_t taken = 0;

	for (size_t i = 0; i < n; i++) {
		if (references[i]->provider != KEY_PROVIDER_KEYVAULT)
			continue;
		results[i] = reply->results[taken].result;
		reply->results[taken].result = (struct key_result){ 0 };
		taken++;
		if (results[i].condition == 0 && !results[i].passphrase)
			result_set(&results[i], KEY_E_CORRUPT,
				   "The key service answered without a passphrase.");
	}
}

static int fetch_batch(const struct key_reference *const references[], size_t n,
		       struct protocol_request *request, struct key_result results[])
{
	struct protocol_reply reply = { 0 };
	const char *problem = "";
	int r;

	r = ask_service(request, &reply, &problem);
	if (r == 0)
		hand_over(&reply, references, n, results);
	for (size_t i = 0; i < n && r > 0; i++)
		if (references[i]->provider == KEY_PROVIDER_KEYVAULT)
			result_set(&results[i], r, problem);
	protocol_reply_clear(&reply);
	return r < 0 ? r : 0;
}

/**
 * key_fetch() - the passphrases of several references at once
 * @references: borrowed, n of them
 * @n:          1..KEY_BATCH_MAX
 * @n_urgent:   0..n, the first ones, without which the caller cannot go on: when one of them is
 *              there, or none will come, those of the others that are late by more than seconds
 *              are KEY_E_UNREACHABLE. Files are read at once, and do not count
 * @timeout_ms: for all together, at most 10 minutes
 * @results:    n of them; each gets a condition, and a passphrase or a message. To be cleared by
 * the caller
 *
 * Return: 0 (also when none could be fetched), -EINVAL or -ENOMEM (then @results are empty).
 */
int key_fetch(const struct key_reference *const references[], size_t n, size_t n_urgent,
	      unsigned timeout_ms, struct key_result results[])
{
	struct protocol_request request = { .timeout_ms = bounded(timeout_ms) };
	int r;

	if (n < 1 || n > KEY_BATCH_MAX || n_urgent > n)
		return -EINVAL;
	memset(results, 0, n * sizeof(results[0]));
	for (size_t i = 0; i < n; i++) {
		struct protocol_operation *operation = &request.operations[request.n];

		switch (references[i]->provider) {
		case KEY_PROVIDER_FILE:
			fetch_file(references[i], &results[i]);
			break;
		case KEY_PROVIDER_KEYVAULT:
			operation->verb = PROTOCOL_FETCH;
			/* only printed, never changed or freed through the request */
			operation->reference = (struct key_reference *)(uintptr_t)references[i];
			request.n++;
			request.n_urgent += i < n_urgent;
			break;
		}
	}
	if (request.n == 0)
		return 0;
	r = fetch_batch(references, n, &request, results);
	for (size_t i = 0; i < n && r < 0; i++)
		key_result_clear(&results[i]);
	return r;
}

static int now_text(char **ret)
{
	time_t now = time(NULL);
	char text[32];
	struct tm utc;

	if (!gmtime_r(&now, &utc) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
		return -EINVAL;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int store_file(const struct key_store *request, const struct secret *passphrase,
		      struct key_result *result)
{
	_cleanup_(key_reference_freep) struct key_reference *reference = NULL;
	const char *directory = request->directory ? request->directory : FILE_DIRECTORY;
	_cleanup_(freep) char *message = NULL;
	int r;

	reference = calloc(1, sizeof(*reference));
	if (!reference)
		return -ENOMEM;
	reference->provider = KEY_PROVIDER_FILE;
	r = key_file_store(directory, request->name, passphrase, &reference->path);
	if (r == 0)
		r = now_text(&reference->created);
	if (r == 0) {
		result->reference = steal(reference);
		return 0;
	}
	(void)text_format(&message, "Key file %s/%s cannot be written: %s.", directory,
			  request->name, r < 0 ? strerror(-r) : key_condition_to_string(r));
	result_set(result, r < 0 ? KEY_E_UNREACHABLE : r, message ? message : "");
	return 0;
}

static void fill(struct protocol_operation *operation, const struct key_store *request)
{
	/* only printed, never changed or freed through the operation */
	operation->vault = (char *)(uintptr_t)request->vault;
	operation->name = (char *)(uintptr_t)request->name;
	operation->kek = (char *)(uintptr_t)request->kek;
	operation->algorithm = (char *)(uintptr_t)request->algorithm;
	operation->client_id = (char *)(uintptr_t)request->client_id;
	operation->volume = (char *)(uintptr_t)request->volume;
	operation->machine = (char *)(uintptr_t)request->machine;
}

/**
 * key_store() - store a passphrase and prove that it can be fetched again
 * @passphrase: borrowed
 * @result:     zeroed here; on condition 0 it has the reference. To be cleared by the caller
 *
 * Return: 0 (see the condition), -EINVAL or -ENOMEM.
 */
int key_store(const struct key_store *request, const struct secret *passphrase, unsigned timeout_ms,
	      struct key_result *result)
{
	struct protocol_request message = { .timeout_ms = bounded(timeout_ms), .n = 1 };
	struct protocol_reply reply = { 0 };
	const char *problem = "";
	int r;

	*result = (struct key_result){ 0 };
	if (!request->name || secret_size(passphrase) < 1 ||
	    secret_size(passphrase) > PROTOCOL_SECRET_MAX_BYTES)
		return -EINVAL;
	if (request->provider == KEY_PROVIDER_FILE)
		return store_file(request, passphrase, result);
	if (!request->vault)
		return -EINVAL;

	message.operations[0].verb = PROTOCOL_STORE;
	fill(&message.operations[0], request);
	message.operations[0].passphrase = (struct secret *)(uintptr_t)passphrase;
	r = ask_service(&message, &reply, &problem);
	if (r > 0)
		result_set(result, r, problem);
	if (r == 0) {
		*result = reply.results[0].result;
		reply.results[0].result = (struct key_result){ 0 };
		if (result->condition == 0 && !result->reference)
			result_set(result, KEY_E_CORRUPT,
				   "The key service answered without a reference.");
	}
	protocol_reply_clear(&reply);
	return r < 0 ? r : 0;
}

static void probe_set_all(struct key_probe *probe, int condition, const char *message)
{
	result_set(&probe->set, condition, message);
	result_set(&probe->get, condition, message);
	result_set(&probe->wrap, condition, message);
	result_set(&probe->unwrap, condition, message);
	result_set(&probe->metadata, condition, message);
}

/**
 * key_probe() - what this machine can do in a vault, tried with a secret that is no key
 * @request: @name may be NULL: vmcrypt-probe and the machine's name
 * @probe:   zeroed here; to be cleared by the caller
 *
 * With provider "file" there is nothing that could refuse: all conditions are 0.
 *
 * Return: 0 (see the conditions), -EINVAL or -ENOMEM.
 */
int key_probe(const struct key_store *request, unsigned timeout_ms, struct key_probe *probe)
{
	struct protocol_request message = { .timeout_ms = bounded(timeout_ms), .n = 1 };
	struct protocol_reply reply = { 0 };
	const char *problem = "";
	char name[128];
	size_t used;
	int r;

	*probe = (struct key_probe){ 0 };
	if (request->provider == KEY_PROVIDER_FILE)
		return 0;
	if (!request->vault)
		return -EINVAL;

	/* letters that a host name has and a secret's name cannot have become hyphens */
	used = (size_t)snprintf(name, sizeof(name), "vmcrypt-probe%s%s",
				request->machine ? "-" : "",
				request->machine ? request->machine : "");
	for (size_t i = 0; i < used && i < sizeof(name) - 1; i++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-",
			    name[i]))
			name[i] = '-';

	message.operations[0].verb = PROTOCOL_PROBE;
	fill(&message.operations[0], request);
	if (!request->name)
		message.operations[0].name = name;
	r = ask_service(&message, &reply, &problem);
	if (r == 0 && reply.results[0].probe) {
		*probe = *reply.results[0].probe;
		*reply.results[0].probe = (struct key_probe){ 0 };
	} else if (r == 0) {
		const struct key_result *result = &reply.results[0].result;

		probe_set_all(probe, result->condition ? result->condition : KEY_E_CORRUPT,
			      result->message ? result->message
					      : "The key service answered without a probe.");
	} else if (r > 0) {
		probe_set_all(probe, r, problem);
	}
	protocol_reply_clear(&reply);
	return r < 0 ? r : 0;
}
