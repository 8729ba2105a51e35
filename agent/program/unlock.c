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

#define WAIT_DEFAULT_S 60
#define WAIT_MAX_S     86400
#define DEVICE_WAIT_S  10 /* a disk that comes later than this is not about to come */
#define BACKOFF_MAX_S  30
#define MOUNT_WAIT_S   10

struct unlock {
	struct unlock_volumes volumes;
	char **names;
	size_t n_names;
	unsigned wait_s, attempt;
	time_t began;
	bool is_ready, is_initramfs;
};

static void sleep_s(unsigned seconds)
{
	(void)poll(NULL, 0, (int)seconds * 1000);
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
	return unlock_volumes_count(&unlock->volumes, UNLOCK_WAITS) > 0 ||
	       unlock_volumes_count(&unlock->volumes, UNLOCK_LOCKED) > 0 ||
	       (unlock_volumes_count(&unlock->volumes, UNLOCK_MISSING) > 0 &&
		elapsed_s(unlock) < DEVICE_WAIT_S);
}

static void let_boot_go_on(struct unlock *unlock)
{
	char state[128];

	(void)snprintf(state, sizeof(state), "%sSTATUS=%u of %zu volumes unlocked",
		       unlock->is_ready ? "" : "READY=1\n",
		       unlock_volumes_count(&unlock->volumes, UNLOCK_OPEN), unlock->volumes.n);
	if (notify_send(state) < 0)
		log_debug("The service manager cannot be told.");
	unlock->is_ready = true;
}

static unsigned pause_s(const struct unlock *unlock, unsigned backoff_s)
{
	unsigned pause = UNLOCK_REST_S;

	if (unlock_volumes_count(&unlock->volumes, UNLOCK_LOCKED) > 0) /* more than a batch takes */
		pause = 1;
	else if (unlock_volumes_count(&unlock->volumes, UNLOCK_WAITS) > 0)
		pause = backoff_s;
	else if (unlock_volumes_count(&unlock->volumes, UNLOCK_MISSING) > 0)
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
		unlock_attempt_run(&unlock->volumes);
		unlock_attempt_report(&unlock->volumes, unlock->attempt, true);
		start_mounts(unlock);
		if (unlock_volumes_count(&unlock->volumes, UNLOCK_OPEN) == unlock->volumes.n) {
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
		"vmcrypt-unlock --initramfs\n"
		"\n"
		"Opens the machine's encrypted volumes: those named (as in /etc/crypttab), or all.\n"
		"\n"
		"  --all            all volumes of vmcrypt (as without a name)\n"
		"  --initramfs      the root, and with it what else can be opened; asks for a recovery\n"
		"                   key where the key service does not help; ends when the root is open\n"
		"  --wait SECONDS   let the boot go on after so long; unlocking goes on (60)\n"
		"  --help, --version\n",
		to);
}

/* Return: 0, 1 = done at once, -EINVAL. */
static int parse_arguments(int argc, char *argv[], struct unlock *unlock)
{
	/* clang-format off */
	static const struct option options[] = {
		{ "all",       no_argument,       NULL, 'a' },
		{ "initramfs", no_argument,       NULL, 'i' },
		{ "wait",      required_argument, NULL, 'w' },
		{ "help",      no_argument,       NULL, 'h' },
		{ "version",   no_argument,       NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	/* clang-format on */
	bool wants_all = false;
	uint64_t seconds;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'a':
			wants_all = true;
			break;
		case 'i':
			unlock->is_initramfs = true;
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
	if (unlock->is_initramfs && (wants_all || unlock->n_names > 0)) {
		log_error("Option --initramfs stands alone.");
		return -EINVAL;
	}
	return 0;
}

int main(int argc, char *argv[])
{
	struct unlock unlock = { .wait_s = WAIT_DEFAULT_S, .volumes.rest_s = UNLOCK_REST_S };
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
	r = unlock.is_initramfs ? unlock_root() : run(&unlock);
	unlock_volumes_clear(&unlock.volumes);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
