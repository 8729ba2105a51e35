/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-unlock - opens the machine's volumes with passphrases from the key service
 *
 * Asks for all keys that are needed in one batch, opens what it can, starts the mounts that hang on
 * it, and goes on for the rest: quickly while the key service does not answer, slowly where a
 * person must act. Never fails the boot: the service manager is told to go on when all is open,
 * when nothing more will come of waiting, or after --wait.
 */
#include "program/unlock.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "volume/mapping.h"

#define WAIT_DEFAULT_S   60
#define WAIT_MAX_S       86400
#define FETCH_TIMEOUT_MS 30000
#define DEVICE_WAIT_S    10 /* a disk that comes later than this is not about to come */
#define BACKOFF_MAX_S    30
#define MOUNT_WAIT_S     10

struct unlock {
	struct unlock_volumes volumes;
	char **names;
	size_t n_names;
	unsigned wait_s, attempt;
	time_t began;
	bool is_ready;
};

static void sleep_s(unsigned seconds)
{
	(void)poll(NULL, 0, (int)seconds * 1000);
}

static unsigned count(const struct unlock *unlock, enum unlock_state state)
{
	unsigned n = 0;

	for (size_t i = 0; i < unlock->volumes.n; i++)
		n += unlock->volumes.volumes[i].state == state;
	return n;
}

static void open_with(struct unlock_volume *volume, const struct key_result *result)
{
	int r;

	r = mapping_open(volume->device, volume->header_file, volume->mapping, result->passphrase);
	switch (r) {
	case 0:
		volume->state = UNLOCK_OPEN;
		log_notice("Volume %s: unlocked.", volume->mapping);
		break;
	case HEADER_E_PLAIN:
		volume->state = UNLOCK_OPEN;
		log_notice("Volume %s: is decrypted, device %s itself is used.", volume->mapping,
			   volume->device);
		break;
	case HEADER_E_PASSPHRASE:
		unlock_volume_say(volume, UNLOCK_REFUSED,
				  "its key was fetched, but opens no keyslot; open it with its "
				  "recovery key: cryptsetup open %s %s",
				  volume->device, volume->mapping);
		break;
	case HEADER_E_TORN:
		unlock_volume_say(
			volume, UNLOCK_REFUSED,
			"its last step was cut twice; the backup of its header from before "
			"the conversion ends it: cryptsetup luksHeaderRestore %s "
			"--header-backup-file FILE",
			volume->header_file ? volume->header_file : volume->device);
		break;
	case HEADER_E_BUSY:
		unlock_volume_say(volume, UNLOCK_REFUSED,
				  "device %s is in use by something else; find it with lsblk",
				  volume->device);
		break;
	default:
		unlock_volume_say(volume, UNLOCK_REFUSED, "device %s cannot be opened: %s",
				  volume->device, r < 0 ? strerror(-r) : "its header is damaged");
		break;
	}
}

static const char *remedy(int condition)
{
	switch (condition) {
	case KEY_E_DENIED:
		return "let the machine's identity read it";
	case KEY_E_GONE:
		return "recover the deleted key in its vault, or open the volume with its recovery "
		       "key";
	case KEY_E_DISABLED:
		return "enable the key in its vault";
	case KEY_E_CONFIG:
		return "give the machine the identity that its key asks for";
	case KEY_E_CORRUPT:
		return "restore the version of the key that the volume was encrypted with, or open "
		       "it with its recovery key";
	default:
		return "see the message before";
	}
}

static void use_result(struct unlock_volume *volume, const struct key_result *result)
{
	const char *message =
		result->message ? result->message : key_condition_to_string(result->condition);

	if (result->condition == 0)
		open_with(volume, result);
	else if (result->condition == KEY_E_UNREACHABLE)
		unlock_volume_say(volume, UNLOCK_WAITS, "%s", message);
	else if (volume->state != UNLOCK_WAITS) /* another of its keys may still come */
		unlock_volume_say(volume, UNLOCK_REFUSED, "%s (%s)", message,
				  remedy(result->condition));
}

/* Ask for the keys of all locked volumes at once, and open them. */
static void fetch_and_open(struct unlock *unlock)
{
	struct key_reference *references[KEY_BATCH_MAX];
	struct unlock_volume *owners[KEY_BATCH_MAX];
	struct key_result results[KEY_BATCH_MAX] = { 0 };
	size_t n = 0;
	int r;

	/* the first key of each before the second of any, should there be more than a batch takes
	 */
	for (size_t rank = 0; rank < KEY_BATCH_MAX; rank++) {
		for (size_t i = 0; i < unlock->volumes.n && n < KEY_BATCH_MAX; i++) {
			struct unlock_volume *volume = &unlock->volumes.volumes[i];

			if (volume->state != UNLOCK_LOCKED || rank >= volume->header->n_tokens)
				continue;
			r = key_reference_from_json(volume->header->tokens[rank]->reference,
						    &references[n]);
			if (r == 0)
				owners[n++] = volume;
			else
				unlock_volume_say(volume, UNLOCK_REFUSED,
						  "its token cannot be understood (use a recovery "
						  "key)");
		}
	}
	if (n == 0)
		return;
	r = key_fetch((const struct key_reference *const *)references, n, FETCH_TIMEOUT_MS,
		      results);
	for (size_t i = 0; i < n; i++) {
		if (r < 0)
			unlock_volume_say(owners[i], UNLOCK_WAITS,
					  "the key service cannot be asked: %s", strerror(-r));
		else if (owners[i]->state != UNLOCK_OPEN)
			use_result(owners[i], &results[i]);
		key_result_clear(&results[i]);
		key_reference_free(references[i]);
	}
}

static void report(struct unlock *unlock)
{
	for (size_t i = 0; i < unlock->volumes.n; i++) {
		struct unlock_volume *volume = &unlock->volumes.volumes[i];
		const char *reason = volume->reason ? volume->reason : "for want of memory";

		if (!volume->is_news)
			continue;
		volume->is_news = false;
		switch (volume->state) {
		case UNLOCK_OPEN:
		case UNLOCK_LOCKED:
			break;
		case UNLOCK_MISSING:
			log_warning("Volume %s: attempt %u: %s.", volume->mapping, unlock->attempt,
				    reason);
			break;
		case UNLOCK_WAITS:
			log_warning("Volume %s: attempt %u: %s; trying again.", volume->mapping,
				    unlock->attempt, reason);
			break;
		case UNLOCK_REFUSED:
			log_error("Volume %s: attempt %u: %s; next try in %u minutes.",
				  volume->mapping, unlock->attempt, reason, UNLOCK_REST_S / 60);
			break;
		}
	}
}

static void start_mounts(struct unlock *unlock)
{
	time_t until = unlock_now_s() + MOUNT_WAIT_S;
	bool are_there;

	for (size_t i = 0; i < unlock->volumes.n; i++) {
		struct unlock_volume *volume = &unlock->volumes.volumes[i];

		if (volume->state != UNLOCK_OPEN || volume->is_mounting)
			continue;
		volume->is_mounting = true;
		(void)unlock_mounts_start(volume); /* it has said so itself */
	}
	do {
		are_there = true;
		for (size_t i = 0; i < unlock->volumes.n; i++)
			if (unlock->volumes.volumes[i].state == UNLOCK_OPEN)
				are_there &= unlock_mounts_are_there(&unlock->volumes.volumes[i]);
		if (!are_there)
			(void)poll(NULL, 0, 100);
	} while (!are_there && unlock_now_s() < until);
}

static unsigned elapsed_s(const struct unlock *unlock)
{
	return (unsigned)(unlock_now_s() - unlock->began);
}

/* Is there anything that a boot should still wait for? */
static bool may_still_come(const struct unlock *unlock)
{
	if (elapsed_s(unlock) >= unlock->wait_s)
		return false;
	return count(unlock, UNLOCK_WAITS) + count(unlock, UNLOCK_LOCKED) > 0 ||
	       (count(unlock, UNLOCK_MISSING) > 0 && elapsed_s(unlock) < DEVICE_WAIT_S);
}

static void let_boot_go_on(struct unlock *unlock)
{
	char state[128];

	(void)snprintf(state, sizeof(state), "%sSTATUS=%u of %zu volumes unlocked",
		       unlock->is_ready ? "" : "READY=1\n", count(unlock, UNLOCK_OPEN),
		       unlock->volumes.n);
	if (notify_send(state) < 0)
		log_debug("The service manager cannot be told.");
	unlock->is_ready = true;
}

static unsigned pause_s(const struct unlock *unlock, unsigned backoff_s)
{
	unsigned pause = UNLOCK_REST_S;

	if (count(unlock, UNLOCK_LOCKED) > 0) /* more than a batch takes */
		pause = 1;
	else if (count(unlock, UNLOCK_WAITS) > 0)
		pause = backoff_s;
	else if (count(unlock, UNLOCK_MISSING) > 0)
		pause = elapsed_s(unlock) < DEVICE_WAIT_S ? 1 : BACKOFF_MAX_S;
	/* not asleep when the boot should go on */
	if (!unlock->is_ready && elapsed_s(unlock) + pause > unlock->wait_s)
		pause = unlock->wait_s > elapsed_s(unlock) ? unlock->wait_s - elapsed_s(unlock) : 1;
	return pause;
}

/* Keep trying until all are open. */
static int run(struct unlock *unlock)
{
	unsigned backoff_s = 1;
	int r;

	for (;;) {
		unlock->attempt++;
		r = unlock_volumes_find(&unlock->volumes, unlock->names, unlock->n_names);
		if (r < 0)
			return log_error_errno(r, "Volumes cannot be looked for: %m");
		fetch_and_open(unlock);
		report(unlock);
		start_mounts(unlock);
		if (count(unlock, UNLOCK_OPEN) == unlock->volumes.n) {
			let_boot_go_on(unlock);
			return 0;
		}
		if (unlock->is_ready || !may_still_come(unlock))
			let_boot_go_on(unlock);
		sleep_s(pause_s(unlock, backoff_s));
		backoff_s = 2 * backoff_s < BACKOFF_MAX_S ? 2 * backoff_s : BACKOFF_MAX_S;
	}
}

static void usage(FILE *to)
{
	(void)fputs(
		"vmcrypt-unlock [--all] [--wait SECONDS] [NAME…]\n"
		"\n"
		"Opens the machine's encrypted volumes: those named (as in /etc/crypttab), or all.\n"
		"\n"
		"  --all            all volumes of vmcrypt (as without a name)\n"
		"  --wait SECONDS   let the boot go on after so long; unlocking goes on (60)\n"
		"  --help, --version\n",
		to);
}

/* Return: 0, 1 = done at once, -EINVAL. */
static int parse_arguments(int argc, char *argv[], struct unlock *unlock)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "wait", required_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	bool wants_all = false;
	uint64_t seconds;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'a':
			wants_all = true;
			break;
		case 'w':
			if (number_parse_u64(optarg, 0, WAIT_MAX_S, &seconds) < 0) {
				log_error("Option --wait takes 0 to %d seconds, not \"%s\".",
					  WAIT_MAX_S, optarg);
				return -EINVAL;
			}
			unlock->wait_s = (unsigned)seconds;
			break;
		case 'h':
			usage(stdout);
			return 1;
		case 'V':
			(void)puts("vmcrypt " VMCRYPT_VERSION);
			return 1;
		default:
			usage(stderr);
			return -EINVAL;
		}
	}
	unlock->names = argv + optind;
	unlock->n_names = (size_t)(argc - optind);
	if (wants_all && unlock->n_names > 0) {
		log_error("Option --all and names exclude each other.");
		return -EINVAL;
	}
	return 0;
}

int main(int argc, char *argv[])
{
	struct unlock unlock = { .wait_s = WAIT_DEFAULT_S };
	int r;

	log_set_from_environment();
	r = parse_arguments(argc, argv, &unlock);
	if (r != 0)
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	r = secret_process_harden();
	if (r < 0) {
		(void)log_error_errno(r, "Memory cannot be locked; raise LimitMEMLOCK=: %m");
		return EXIT_FAILURE;
	}
	unlock.began = unlock_now_s();
	r = run(&unlock);
	unlock_volumes_clear(&unlock.volumes);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
