/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-unlock: one attempt: the keys of all locked volumes at once, what they open, and what is
 * to be told of it */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "program/unlock.h"
#include "volume/mapping.h"
#include "volume/reencrypt.h"

#define FETCH_TIMEOUT_MS 30000
#define STACK_BYTES      (512 * 1024) /* all memory is locked: the default of 8 MiB would be too */

/* The references asked for; the thread looks at nothing else. */
struct unlock_attempt {
	struct key_reference *references[KEY_BATCH_MAX];
	struct key_result results[KEY_BATCH_MAX];
	size_t owners[KEY_BATCH_MAX]; /* indexes of volumes */
	size_t n, n_urgent;           /* the root's come first */
	int r;
	pthread_t thread;
	int fd; /* readable when the thread is done */
};

static bool stop_at_once(uint64_t size_bytes, uint64_t offset_bytes, void *user)
{
	return false;
}

/* The recovery of the last step was cut: with the header as it was built the conversion is ended
 * here, nothing moves. Of an OS volume it lies on /boot, of others only their worker has it.
 * Return: as mapping_open(). */
static int end_conversion(const struct unlock_volume *volume, const struct secret *passphrase)
{
	_cleanup_(freep) char *ending = NULL;
	struct reencrypt conversion = { .device = volume->device,
					.passphrase = passphrase,
					.progress = stop_at_once };
	int r;

	r = text_format(&ending, UNLOCK_HEADERS "/%s.ending", volume->header->uuid);
	if (r < 0)
		return r;
	if (access(ending, F_OK) < 0)
		return HEADER_E_TORN;
	conversion.backup = ending;
	r = reencrypt_run(&conversion);
	if (r != 0)
		return r < 0 ? r : HEADER_E_TORN;
	log_notice("Volume %s: its last step, cut twice, is ended.", volume->mapping);
	return mapping_open(volume->device, NULL, volume->mapping, passphrase);
}

/**
 * unlock_volume_open() - try a passphrase on a volume that was found
 *
 * What comes of it is the volume's state and reason, but for a passphrase that does not fit: whose
 * it was, the caller knows.
 *
 * Return: 0 or HEADER_E_PASSPHRASE.
 */
int unlock_volume_open(struct unlock_volume *volume, const struct secret *passphrase)
{
	const char *file = volume->header->is_detached ? volume->header_file : NULL;
	int r;

	volume->is_past_keys = false;
	r = mapping_open(volume->device, file, volume->mapping, passphrase);
	if (r == HEADER_E_TORN && !file)
		r = end_conversion(volume, passphrase);
	switch (r) {
	case 0:
		volume->state = UNLOCK_OPEN;
		log_notice("Volume %s: unlocked.", volume->mapping);
		return 0;
	case HEADER_E_PLAIN:
		volume->state = UNLOCK_OPEN;
		log_notice("Volume %s: is decrypted, device %s itself is used.", volume->mapping,
			   volume->device);
		return 0;
	case HEADER_E_PASSPHRASE:
		return r;
	case HEADER_E_TORN:
		unlock_volume_say(
			volume, UNLOCK_REFUSED,
			"its last step was cut twice; the backup of its header from before "
			"the conversion ends it: cryptsetup luksHeaderRestore %s "
			"--header-backup-file FILE",
			file ? file : volume->device);
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
	volume->is_past_keys = true;
	return 0;
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
	int size = (int)strlen(message);

	/* it becomes a part of a sentence */
	if (size > 0 && message[size - 1] == '.')
		size--;
	if (result->condition == 0) {
		if (unlock_volume_open(volume, result->passphrase) == HEADER_E_PASSPHRASE)
			unlock_volume_say(
				volume, UNLOCK_REFUSED,
				"its key was fetched, but opens no keyslot; open it with its "
				"recovery key: cryptsetup open %s %s",
				volume->device, volume->mapping);
	} else if (result->condition == KEY_E_UNREACHABLE) {
		unlock_volume_say(volume, UNLOCK_WAITS, "%.*s", size, message);
	} else if (volume->state != UNLOCK_WAITS) { /* another of its keys may still come */
		unlock_volume_say(volume, UNLOCK_REFUSED, "%.*s (%s)", size, message,
				  remedy(result->condition));
	}
}

/* A token that cannot be understood hides no other. */
static void add_reference(struct unlock_attempt *attempt, const struct unlock_volumes *volumes,
			  size_t i, size_t rank)
{
	const struct unlock_volume *volume = &volumes->volumes[i];

	if (volume->state != UNLOCK_LOCKED || rank >= volume->header->n_tokens ||
	    attempt->n == KEY_BATCH_MAX)
		return;
	if (key_reference_from_json(volume->header->tokens[rank]->reference,
				    &attempt->references[attempt->n]) == 0)
		attempt->owners[attempt->n++] = i;
}

/* The first key of each before the second of any, should there be more than a batch takes. */
static void add_references(struct unlock_attempt *attempt, const struct unlock_volumes *volumes,
			   bool of_root)
{
	for (size_t rank = 0; rank < KEY_BATCH_MAX; rank++)
		for (size_t i = 0; i < volumes->n; i++)
			if (volumes->volumes[i].is_root == of_root)
				add_reference(attempt, volumes, i, rank);
}

static bool is_asked_for(const struct unlock_attempt *attempt, size_t volume)
{
	for (size_t i = 0; i < attempt->n; i++)
		if (attempt->owners[i] == volume)
			return true;
	return false;
}

/* Nothing says where their keys are. Who found no place in a full batch waits for the next. */
static void refuse_unreadable(struct unlock_volumes *volumes, const struct unlock_attempt *attempt)
{
	for (size_t i = 0; i < volumes->n && attempt->n < KEY_BATCH_MAX; i++)
		if (volumes->volumes[i].state == UNLOCK_LOCKED && !is_asked_for(attempt, i))
			unlock_volume_say(&volumes->volumes[i], UNLOCK_REFUSED,
					  "its token cannot be understood (use a recovery key)");
}

/* Return: 0 (also when there is nothing to ask for) or -ENOMEM. */
static int collect(struct unlock_volumes *volumes, struct unlock_attempt **ret)
{
	struct unlock_attempt *attempt = calloc(1, sizeof(*attempt));

	if (!attempt)
		return -ENOMEM;
	attempt->fd = -EBADF;
	/* with any of the root's keys the boot goes on: the others are not waited for then */
	add_references(attempt, volumes, true);
	attempt->n_urgent = attempt->n;
	add_references(attempt, volumes, false);
	refuse_unreadable(volumes, attempt);
	*ret = attempt;
	return 0;
}

static void *fetch(void *argument)
{
	struct unlock_attempt *attempt = argument;

	attempt->r = attempt->n == 0
			     ? 0
			     : key_fetch((const struct key_reference *const *)attempt->references,
					 attempt->n, attempt->n_urgent, FETCH_TIMEOUT_MS,
					 attempt->results);
	if (attempt->fd >= 0)
		(void)eventfd_write(attempt->fd, 1);
	return NULL;
}

static void finish(struct unlock_volumes *volumes, struct unlock_attempt *attempt)
{
	for (size_t i = 0; i < attempt->n; i++) {
		struct unlock_volume *volume = &volumes->volumes[attempt->owners[i]];

		if (attempt->r < 0 && volume->state != UNLOCK_OPEN)
			unlock_volume_say(volume, UNLOCK_WAITS,
					  "the key service cannot be asked: %s",
					  strerror(-attempt->r));
		else if (volume->state != UNLOCK_OPEN)
			use_result(volume, &attempt->results[i]);
		key_result_clear(&attempt->results[i]);
		key_reference_free(attempt->references[i]);
	}
	closep(&attempt->fd);
	free(attempt);
}

/** unlock_attempt_run() - ask for the keys of all locked volumes, and open them; waits for the
 * answer
 */
void unlock_attempt_run(struct unlock_volumes *volumes)
{
	struct unlock_attempt *attempt;

	if (collect(volumes, &attempt) < 0)
		return;
	(void)fetch(attempt);
	finish(volumes, attempt);
}

/**
 * unlock_attempt_begin() - the same, without waiting
 * @volumes: none is added or removed until unlock_attempt_end()
 * @ret:     to be given to unlock_attempt_end() when its descriptor is readable; a process that
 * ends meanwhile may leave it
 *
 * Return: 0 or -errno.
 */
int unlock_attempt_begin(struct unlock_volumes *volumes, struct unlock_attempt **ret)
{
	struct unlock_attempt *attempt;
	pthread_attr_t attributes;
	int r;

	r = collect(volumes, &attempt);
	if (r < 0)
		return r;
	attempt->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = attempt->fd < 0 ? errno : pthread_attr_init(&attributes);
	if (r == 0) {
		r = pthread_attr_setstacksize(&attributes, STACK_BYTES);
		if (r == 0)
			r = pthread_create(&attempt->thread, &attributes, fetch, attempt);
		(void)pthread_attr_destroy(&attributes);
	}
	if (r != 0) {
		attempt->r = -r;
		finish(volumes, attempt);
		return -r;
	}
	*ret = attempt;
	return 0;
}

/** unlock_attempt_fd() - readable when the answer is there */
int unlock_attempt_fd(const struct unlock_attempt *attempt)
{
	return attempt->fd;
}

/** unlock_attempt_end() - open what the answer opens; frees @attempt */
void unlock_attempt_end(struct unlock_volumes *volumes, struct unlock_attempt *attempt)
{
	(void)pthread_join(attempt->thread, NULL);
	finish(volumes, attempt);
}

static void report_one(const struct unlock_volume *volume, unsigned number)
{
	const char *reason = volume->reason ? volume->reason : "for want of memory";

	switch (volume->state) {
	case UNLOCK_OPEN:
	case UNLOCK_LOCKED:
		break;
	case UNLOCK_MISSING:
		log_warning("Volume %s: attempt %u: %s.", volume->mapping, number, reason);
		break;
	case UNLOCK_WAITS:
		log_warning("Volume %s: attempt %u: %s; trying again.", volume->mapping, number,
			    reason);
		break;
	case UNLOCK_REFUSED:
		log_error("Volume %s: attempt %u: %s; next try in %u %s.", volume->mapping, number,
			  reason, volume->rest_s < 60 ? volume->rest_s : volume->rest_s / 60,
			  volume->rest_s < 60 ? "seconds" : "minutes");
		break;
	}
}

/**
 * unlock_attempt_report() - what is the matter with whom, where that is news
 * @number:     of the attempt, from 1
 * @is_talking: false = somebody is typing: only what was not said before
 */
void unlock_attempt_report(struct unlock_volumes *volumes, unsigned number, bool is_talking)
{
	for (size_t i = 0; i < volumes->n; i++) {
		struct unlock_volume *volume = &volumes->volumes[i];

		if (volume->is_news && (is_talking || volume->is_new_reason))
			report_one(volume, number);
		volume->is_news = false;
	}
}
