/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-keyfetch - the key service: one batch for one connection, then it ends
 *
 * Started by vmcrypt-keyfetch.socket with the connection as standard input. Reads one request
 * (key/protocol.h), asks the vault (vault/vault.h), answers, exits: whatever copies the libraries
 * have made of secrets go with the process. Only root may ask. Touches no files.
 */
#include "program/keyfetch.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "key/client.h"
#include "key/protocol.h"
#include "key/url.h"
#include "vault/vault.h"

#define CONNECTION_FD     STDIN_FILENO
#define IO_TIMEOUT_S      10 /* a request is sent in one go, and an answer is waited for */
#define DEFAULT_ALGORITHM "RSA-OAEP-256"

_Static_assert((int)KEY_E_DENIED == (int)VAULT_E_DENIED &&
		       (int)KEY_E_UNREACHABLE == (int)VAULT_E_UNREACHABLE &&
		       (int)KEY_E_GONE == (int)VAULT_E_GONE &&
		       (int)KEY_E_DISABLED == (int)VAULT_E_DISABLED &&
		       (int)KEY_E_CONFIG == (int)VAULT_E_CONFIG &&
		       (int)KEY_E_CORRUPT == (int)VAULT_E_CORRUPT,
	       "the conditions of key/ and vault/ are the same, since neither room sees the other");

/* A batch under way: operations[i] answers reply.results[place[i]]. */
struct batch {
	struct protocol_request request;
	struct protocol_reply reply;
	struct vault_operation operations[KEY_BATCH_MAX];
	size_t place[KEY_BATCH_MAX];
	size_t n;
};

static void batch_free(struct batch *batch)
{
	for (size_t i = 0; i < batch->n; i++)
		vault_operation_clear_results(&batch->operations[i]);
	protocol_request_clear(&batch->request);
	protocol_reply_clear(&batch->reply);
	free(batch);
}

static void batch_freep(struct batch **batch)
{
	if (*batch)
		batch_free(*batch);
}

/* only root, also when the socket's mode has been changed */
static int check_peer(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	return peer.uid == 0 ? 0 : -EPERM;
}

static int bound_io(int fd)
{
	const struct timeval wait = { .tv_sec = IO_TIMEOUT_S };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
		return -errno;
	return 0;
}

static void object_from_url(const struct key_url *url, struct vault_object *object)
{
	_Static_assert(sizeof(url->vault) == sizeof(object->host) &&
			       sizeof(url->suffix) == sizeof(object->suffix) &&
			       sizeof(url->name) == sizeof(object->name) &&
			       sizeof(url->version) == sizeof(object->version),
		       "a checked address fits");
	memcpy(object->host, url->vault, sizeof(object->host));
	memcpy(object->suffix, url->suffix, sizeof(object->suffix));
	memcpy(object->name, url->name, sizeof(object->name));
	memcpy(object->version, url->version, sizeof(object->version));
}

/* Return: 0, or KEY_E_CONFIG with a sentence on what is wrong with that address. */
static int object_parse(const char *text, enum key_url_kind kind, struct vault_object *object,
			struct key_result *result)
{
	struct key_url url = { 0 };
	int r;

	r = key_url_parse(text, kind, &url);
	if (r == 0) {
		object_from_url(&url, object);
		return 0;
	}
	(void)text_format(&result->message, "The address %s %s.", text, key_url_problem(r));
	result->condition = KEY_E_CONFIG;
	return KEY_E_CONFIG;
}

static int prepare_fetch(const struct protocol_operation *asked, struct vault_operation *operation,
			 struct key_result *result)
{
	const struct key_reference *reference = asked->reference;
	int r;

	if (reference->provider != KEY_PROVIDER_KEYVAULT) {
		result->message = strdup("The reference is not to a key vault.");
		result->condition = KEY_E_CONFIG;
		return KEY_E_CONFIG;
	}
	operation->verb = VAULT_FETCH;
	operation->client_id = reference->client_id;
	r = object_parse(reference->secret, KEY_URL_SECRET, &operation->secret, result);
	if (r != 0 || !reference->kek)
		return r;
	operation->algorithm = reference->algorithm;
	operation->wrapped = reference->wrapped;
	return object_parse(reference->kek, KEY_URL_KEY, &operation->kek, result);
}

static bool is_object_name(const char *name)
{
	size_t length = strlen(name);

	return length > 0 && length < sizeof(((struct vault_object *)NULL)->name) &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") ==
		       length;
}

static int prepare_store(const struct protocol_operation *asked, enum vault_verb verb,
			 struct vault_operation *operation, struct key_result *result)
{
	int r;

	operation->verb = verb;
	operation->client_id = asked->client_id;
	operation->volume = asked->volume;
	operation->machine = asked->machine;
	operation->passphrase = asked->passphrase;
	r = object_parse(asked->vault, KEY_URL_VAULT, &operation->secret, result);
	if (r != 0)
		return r;
	if (!is_object_name(asked->name)) {
		result->message =
			strdup("A secret's name has 1 to 127 letters, digits or hyphens.");
		result->condition = KEY_E_CONFIG;
		return KEY_E_CONFIG;
	}
	memcpy(operation->secret.name, asked->name, strlen(asked->name) + 1);
	if (!asked->kek)
		return 0;
	operation->algorithm = asked->algorithm ? asked->algorithm : DEFAULT_ALGORITHM;
	return object_parse(asked->kek, KEY_URL_KEY, &operation->kek, result);
}

static int prepare(const struct protocol_operation *asked, struct vault_operation *operation,
		   struct key_result *result)
{
	switch (asked->verb) {
	case PROTOCOL_FETCH:
		return prepare_fetch(asked, operation, result);
	case PROTOCOL_STORE:
		return prepare_store(asked, VAULT_STORE, operation, result);
	case PROTOCOL_PROBE:
		return prepare_store(asked, VAULT_PROBE, operation, result);
	}
	return KEY_E_CONFIG;
}

/* what cannot be asked for has its answer already; the rest goes to the vault */
static void batch_prepare(struct batch *batch)
{
	batch->reply.n = batch->request.n;
	for (size_t i = 0; i < batch->request.n; i++) {
		struct vault_operation operation = { 0 };

		if (prepare(&batch->request.operations[i], &operation,
			    &batch->reply.results[i].result) != 0)
			continue;
		operation.is_urgent = i < batch->request.n_urgent;
		batch->operations[batch->n] = operation;
		batch->place[batch->n] = i;
		batch->n++;
	}
}

static void take_result(struct vault_result *from, struct key_result *to)
{
	to->condition = from->condition;
	to->message = steal(from->message);
}

static char *time_text(void)
{
	time_t now = time(NULL);
	char text[32];
	struct tm utc;

	if (!gmtime_r(&now, &utc) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
		return NULL;
	return strdup(text);
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

/* the reference of what was stored, checked as if it came from a disk. Return: 0, -EBADMSG,
 * -ENOMEM. */
static int take_reference(struct vault_operation *from, struct key_result *to)
{
	_cleanup_(key_reference_freep) struct key_reference *reference = NULL;
	int r;

	reference = calloc(1, sizeof(*reference));
	if (!reference)
		return -ENOMEM;
	reference->provider = KEY_PROVIDER_KEYVAULT;
	reference->secret = steal(from->secret_id);
	reference->kek = steal(from->kek_id);
	reference->wrapped = steal(from->stored_wrapped);
	reference->algorithm = reference->kek ? copy(from->algorithm) : NULL;
	reference->client_id = copy(from->client_id);
	reference->created = time_text();
	r = key_reference_check(reference);
	if (r < 0)
		return r;
	to->reference = steal(reference);
	return 0;
}

static int take_probe(struct vault_probe *from, struct key_probe **ret)
{
	struct key_probe *probe = calloc(1, sizeof(*probe));

	if (!probe)
		return -ENOMEM;
	take_result(&from->set, &probe->set);
	take_result(&from->get, &probe->get);
	take_result(&from->wrap, &probe->wrap);
	take_result(&from->unwrap, &probe->unwrap);
	take_result(&from->metadata, &probe->metadata);
	probe->vault_region = steal(from->region);
	probe->vault_recovery_level = steal(from->recovery_level);
	probe->kek_recovery_level = steal(from->kek_recovery_level);
	probe->kek_is_disabled = from->kek_is_disabled;
	probe->kek_is_expired = from->kek_is_expired;
	probe->machine_location = steal(from->machine_location);
	probe->machine_name = steal(from->machine_name);
	probe->has_encryption_at_host = from->has_encryption_at_host;
	*ret = probe;
	return 0;
}

static int batch_finish(struct batch *batch)
{
	for (size_t i = 0; i < batch->n; i++) {
		struct vault_operation *operation = &batch->operations[i];
		struct protocol_result *result = &batch->reply.results[batch->place[i]];
		int r = 0;

		take_result(&operation->result, &result->result);
		if (result->result.condition != 0) {
			log_debug("Operation %zu: %s", batch->place[i],
				  result->result.message ? result->result.message : "failed");
			continue;
		}
		switch (operation->verb) {
		case VAULT_FETCH:
			result->result.passphrase = steal(operation->fetched);
			break;
		case VAULT_STORE:
			r = take_reference(operation, &result->result);
			break;
		case VAULT_PROBE:
			r = take_probe(&operation->probe, &result->probe);
			break;
		}
		if (r == -EBADMSG) {
			result->result.condition = KEY_E_CORRUPT;
			result->result.message =
				strdup("The key vault's identifiers are not of the expected form.");
		} else if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* Return: 0 or -errno, logged. */
static int serve(int fd)
{
	_cleanup_(batch_freep) struct batch *batch = NULL;
	int r;

	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return log_error_errno(-ENOMEM, "Key service: %m");
	r = protocol_request_receive(fd, &batch->request);
	if (r < 0)
		return log_error_errno(r, "Key service: the request is not usable: %m");
	batch_prepare(batch);
	r = vault_run(batch->operations, batch->n, batch->request.timeout_ms, fd);
	if (r == -ECONNABORTED) {
		log_notice("Key service: the client has gone, and its request with it.");
		return 0;
	}
	if (r < 0)
		return log_error_errno(r, "Key service: cannot ask the vault: %m");
	r = batch_finish(batch);
	if (r == 0)
		r = protocol_reply_send(fd, &batch->reply);
	if (r < 0)
		return log_error_errno(r, "Key service: cannot answer: %m");
	return 0;
}

static int serve_connection(void)
{
	int r;

	r = secret_process_harden();
	if (r < 0)
		return log_error_errno(r, "Key service: cannot lock memory: %m");
	r = check_peer(CONNECTION_FD);
	if (r == 0)
		r = bound_io(CONNECTION_FD);
	if (r < 0)
		return log_error_errno(r,
				       "Key service: standard input is no connection of root: %m");
	return serve(CONNECTION_FD);
}

static void say_usage(FILE *stream)
{
	(void)fprintf(stream,
		      "vmcrypt-keyfetch               answers the batch on standard input\n"
		      "vmcrypt-keyfetch --listen[=PATH]\n"
		      "                               answers each connection to %s, or PATH\n",
		      KEY_SOCKET_PATH);
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "listen", optional_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *path = NULL;
	int option, r;

	log_set_from_environment();
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'l':
			path = optarg ? optarg : KEY_SOCKET_PATH;
			break;
		case 'h':
			say_usage(stdout);
			return EXIT_SUCCESS;
		default:
			say_usage(stderr);
			return EXIT_FAILURE;
		}
	}
	if (optind < argc) {
		say_usage(stderr);
		return EXIT_FAILURE;
	}
	r = path ? keyfetch_listen(path) : serve_connection();
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
