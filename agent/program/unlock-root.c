/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-unlock --initramfs: the root is opened, however long it takes
 *
 * Keys are asked for again and again while a person can give a recovery key; whichever comes first
 * lets the boot go on. What else can be opened with the same batch of keys is opened too, where
 * its keys come within seconds of the root's: vmcrypt-unlock.service asks again. Returns at once
 * when the root is not encrypted.
 */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "program/unlock-cmdline.h"
#include "program/unlock-prompt.h"
#include "program/unlock.h"

#define CMDLINE           "/proc/cmdline"
#define CMDLINE_MAX_BYTES (64 * 1024) /* the kernel's own limit is a page or four */
#define TICK_MS           500
#define DISK_PAUSE_S      1
#define HEADER_PAUSE_S    10
#define BACKOFF_MAX_S     30
#define NOBODY_WAIT_S     10 /* nobody has said what the root is: so long for any volume to come */

struct root {
	struct initramfs_conf conf;
	struct unlock_volumes volumes;
	struct unlock_attempt *attempt; /* NULL = none at work */
	struct unlock_console console;
	struct unlock_prompt prompt;
	char *problem; /* with the last answer, or NULL */
	unsigned number, backoff_s, said_s;
	time_t began, next, since; /* since: see unlock_prompt_look.waited_s; 0 = not yet */
	bool is_plain, is_pressed, was_closed;
};

/* The volume that a person is asked for: the root, or where that is not known the first that is not
 * open. NULL = none. */
static struct unlock_volume *target(const struct root *root)
{
	for (size_t i = 0; i < root->volumes.n; i++) {
		struct unlock_volume *volume = &root->volumes.volumes[i];

		if (root->conf.mapping ? volume->is_root : volume->state != UNLOCK_OPEN)
			return volume;
	}
	return NULL;
}

static bool is_over(const struct root *root)
{
	const struct unlock_volume *volume = target(root);

	if (root->is_plain)
		return true;
	if (root->conf.mapping)
		return volume && volume->state == UNLOCK_OPEN;
	return !volume && (root->volumes.n > 0 || unlock_now_s() - root->began >= NOBODY_WAIT_S);
}

/* Take what the boot loader says of the root, where it says so by a name that stays. */
static void take_cmdline(struct initramfs_conf *conf)
{
	_cleanup_(freep) char *text = NULL;

	if (file_read(CMDLINE, CMDLINE_MAX_BYTES, &text, NULL) < 0 ||
	    unlock_cmdline_root(text, &conf->root_uuid, &conf->mapping) != 0)
		log_warning("Root: nobody says which volume it is; all that are found are opened.");
}

static void read_conf(struct initramfs_conf *conf)
{
	int r;

	r = initramfs_conf_read(INITRAMFS_CONF, conf);
	if (r != 0) {
		conf->prompt_after_s = INITRAMFS_PROMPT_AFTER_S;
		if (r != -ENOENT)
			log_warning("File " INITRAMFS_CONF
				    ": %s; volumes are looked for by their headers.",
				    r < 0 ? strerror(-r) : "its content is damaged");
		take_cmdline(conf);
	}
	r = initramfs_settings_read(INITRAMFS_SETTINGS, &conf->prompt_after_s);
	if (r != 0)
		log_warning("File " INITRAMFS_SETTINGS ": %s; it is passed over.",
			    r < 0 ? strerror(-r) : "a line or a value is none");
}

/* Has this device itself, now, a filesystem with this UUID? */
static bool has_filesystem(const char *device, const char *uuid)
{
	_cleanup_(closep) int fd = open(device, O_RDONLY | O_CLOEXEC);
	blkid_probe probe = fd >= 0 ? blkid_new_probe() : NULL;
	const char *found;
	bool has = false;

	if (!probe)
		return false;
	if (blkid_probe_set_device(probe, fd, 0, 0) == 0 &&
	    blkid_probe_enable_superblocks(probe, 1) == 0 &&
	    blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_UUID) == 0 &&
	    blkid_do_safeprobe(probe) == 0 &&
	    blkid_probe_lookup_value(probe, "UUID", &found, NULL) == 0)
		has = strcasecmp(found, uuid) == 0;
	blkid_free_probe(probe);
	return has;
}

/* A header that is kept on /boot is not there yet: what it will be made of is, from before the
 * first image that asks for it until all is done. One that was lost later has nothing of the kind.
 */
static bool is_header_to_come(const struct initramfs_conf *conf)
{
	_cleanup_(freep) char *staged = NULL;

	return access(conf->header, F_OK) < 0 && errno == ENOENT && conf->header_uuid &&
	       text_format(&staged, UNLOCK_HEADERS "/%s.staged", conf->header_uuid) == 0 &&
	       access(staged, F_OK) == 0;
}

/* udev names the candidate; whether it is still so is asked of the device. */
static bool is_plain_there(const struct initramfs_conf *conf)
{
	_cleanup_(freep) char *link = NULL;

	return conf->root_uuid && (!conf->header || is_header_to_come(conf)) &&
	       text_format(&link, "/dev/disk/by-uuid/%s", conf->root_uuid) == 0 &&
	       has_filesystem(link, conf->root_uuid);
}

/* The disk with /boot has come late: nobody else mounts it any more. It is wanted for a header
 * there, and for what ends a conversion whose step was cut. */
static void mount_boot(const struct initramfs_conf *conf, const struct unlock_volume *volume)
{
	_cleanup_(freep) char *link = NULL;
	bool is_cut =
		volume && volume->header && volume->header->conversion == HEADER_CONVERSION_CRASHED;

	if ((!conf->header && !is_cut) || !conf->boot_uuid || !conf->boot_type ||
	    access(conf->header ? conf->header : UNLOCK_HEADERS, F_OK) == 0 ||
	    text_format(&link, "/dev/disk/by-uuid/%s", conf->boot_uuid) < 0 ||
	    access(link, F_OK) < 0)
		return;
	if (directory_make("/boot", 0755) == 0 &&
	    mount(link, "/boot", conf->boot_type, MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		log_debug("Volume of /boot: cannot be mounted: %s", strerror(errno));
}

/* one line at 1 s, at 10 s, then each minute */
static unsigned next_said_s(unsigned said_s)
{
	return said_s == 0 ? 1 : said_s == 1 ? 10 : said_s + 60;
}

static void say_missing(struct root *root)
{
	const struct unlock_volume *volume = target(root);
	unsigned waited_s = (unsigned)(unlock_now_s() - root->began);

	if ((volume && volume->state != UNLOCK_MISSING) || waited_s < next_said_s(root->said_s))
		return;
	while (next_said_s(root->said_s) <= waited_s)
		root->said_s = next_said_s(root->said_s);
	log_warning("Volume %s: %s; waiting for %u s.", volume ? volume->mapping : "of the root",
		    volume && volume->reason ? volume->reason : "no device with a header is there",
		    waited_s);
}

static unsigned pause_s(struct root *root, const struct unlock_volume *volume)
{
	unsigned pause = root->backoff_s;
	time_t now = unlock_now_s();

	switch (volume ? volume->state : UNLOCK_MISSING) {
	case UNLOCK_MISSING:
		return root->conf.header ? HEADER_PAUSE_S : DISK_PAUSE_S;
	case UNLOCK_REFUSED:
		return volume->rests_until > now ? (unsigned)(volume->rests_until - now) : 1;
	case UNLOCK_LOCKED:
	case UNLOCK_WAITS:
	case UNLOCK_OPEN:
		break;
	}
	root->backoff_s = 2 * pause < BACKOFF_MAX_S ? 2 * pause : BACKOFF_MAX_S;
	return pause;
}

static void report(struct root *root)
{
	/* agents show the question elsewhere; on the same screen our lines would be in its way */
	bool is_asking = unlock_prompt_is_shown(&root->prompt) &&
			 (root->console.fd >= 0 || root->prompt.plymouth);

	unlock_attempt_report(&root->volumes, root->number, !is_asking);
}

/* Look what is there, and ask for keys when the root is. */
static void begin_attempt(struct root *root)
{
	struct unlock_volume *volume;
	int r;

	mount_boot(&root->conf, NULL);
	r = unlock_volumes_find_early(&root->volumes, &root->conf);
	if (r < 0)
		log_warning_errno(r, "Volumes cannot be looked for: %m");
	volume = target(root);
	mount_boot(&root->conf, volume);
	if (!volume || volume->state == UNLOCK_MISSING) {
		if (volume)
			volume->is_news = false;
		root->is_plain = is_plain_there(&root->conf);
		if (root->is_plain)
			log_notice("Root %s: is not encrypted.", root->conf.root_uuid);
	} else if (unlock_volumes_count(&root->volumes, UNLOCK_LOCKED) > 0) {
		if (root->since == 0)
			root->since = unlock_now_s();
		root->number++;
		r = unlock_attempt_begin(&root->volumes, &root->attempt);
		if (r < 0)
			log_warning_errno(r, "Keys cannot be asked for: %m");
	}
	if (!root->attempt) {
		report(root);
		root->next = unlock_now_s() + pause_s(root, volume);
	}
}

static void end_attempt(struct root *root)
{
	unlock_attempt_end(&root->volumes, steal(root->attempt));
	report(root);
	root->next = unlock_now_s() + pause_s(root, target(root));
}

static void __attribute__((format(printf, 2, 3)))
set_problem(struct root *root, const char *format, ...)
{
	va_list arguments;

	free(steal(root->problem));
	va_start(arguments, format);
	if (vasprintf(&root->problem, format, arguments) < 0)
		root->problem = NULL;
	va_end(arguments);
	log_warning("Recovery key: %s.", root->problem ? root->problem : "not taken");
}

static void ask_if_due(struct root *root)
{
	_cleanup_(freep) char *question = NULL;
	const struct unlock_volume *volume = target(root);
	const struct unlock_prompt_look look = {
		.is_answerable = volume && volume->state != UNLOCK_OPEN && volume->header &&
				 volume->device && !volume->is_past_keys,
		.is_shown = unlock_prompt_is_shown(&root->prompt),
		.is_pressed = root->is_pressed || root->problem,
		.is_refused = volume && volume->state == UNLOCK_REFUSED,
		.was_closed = root->was_closed,
		.has_key = unlock_prompt_key_fd(&root->prompt) >= 0,
		.waited_s = root->since ? (unsigned)(unlock_now_s() - root->since) : 0,
		.after_s = root->conf.prompt_after_s,
	};
	int r;

	root->is_pressed = false;
	if (!unlock_prompt_is_due(&look))
		return;
	/* agents do not show our log */
	if (root->problem && root->prompt.tool)
		r = text_format(&question, "Recovery key of volume %s (%s):", volume->mapping,
				root->problem);
	else
		r = text_format(&question, "Recovery key of volume %s:", volume->mapping);
	if (r == 0)
		r = unlock_prompt_show(&root->prompt, question);
	free(steal(root->problem));
	root->was_closed = r < 0;
	if (r < 0) {
		log_debug_errno(r, "Nobody can be asked for a recovery key: %m");
		root->since = unlock_now_s();
	}
}

/* Volumes that were encrypted together have one recovery key, and nobody comes back for them. */
static void open_others(struct root *root, const struct secret *key)
{
	for (size_t i = 0; i < root->volumes.n; i++) {
		struct unlock_volume *volume = &root->volumes.volumes[i];

		if (volume->state == UNLOCK_LOCKED && volume->device && volume->header)
			(void)unlock_volume_open(volume, key);
	}
}

static void try_key(struct root *root, const struct secret *key)
{
	struct unlock_volume *volume = target(root);

	if (volume && volume->device && volume->state != UNLOCK_OPEN &&
	    unlock_volume_open(volume, key) == HEADER_E_PASSPHRASE)
		set_problem(root, "it does not open this volume");
	if (volume && volume->state == UNLOCK_OPEN)
		open_others(root, key);
	report(root);
}

static void take_answer(struct root *root)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	unsigned group = 0;
	int r;

	r = unlock_prompt_read(&root->prompt, &key, &group);
	switch (r) {
	case 0:
		try_key(root, key);
		break;
	case UNLOCK_PROMPT_E_MORE:
		/* what asked has failed: the console asks now, also who has pressed a key for it */
		root->is_pressed = !unlock_prompt_is_shown(&root->prompt);
		break;
	case UNLOCK_PROMPT_E_FORM:
		set_problem(root, "it has 8 groups of 8 letters and digits");
		break;
	case UNLOCK_PROMPT_E_TYPO:
		set_problem(root, "group %u has a typing mistake", group);
		break;
	case UNLOCK_PROMPT_E_CLOSED:
	default:
		if (r < 0)
			log_warning_errno(r, "Recovery key: cannot be read: %m");
		root->was_closed = true;
		root->since = unlock_now_s();
		if (unlock_prompt_watch(&root->prompt) == 0)
			log_notice("Waiting for the key service; press a key to type a recovery "
				   "key.");
		break;
	}
}

/* Sleep until something happens, at most a tick, and answer it. */
static void wait(struct root *root)
{
	struct pollfd fds[] = {
		{ .fd = root->attempt ? unlock_attempt_fd(root->attempt) : -1, .events = POLLIN },
		{ .fd = root->prompt.fd, .events = POLLIN },
		{ .fd = unlock_prompt_key_fd(&root->prompt), .events = POLLIN },
	};

	if (poll(fds, ARRAY_SIZE(fds), TICK_MS) <= 0)
		return;
	/* what comes by itself before what a person types: it ends the wait for both */
	if (fds[0].revents)
		end_attempt(root);
	else if (fds[1].revents)
		take_answer(root);
	else if (fds[2].revents)
		root->is_pressed = unlock_prompt_is_pressed(&root->prompt);
}

static void open_console(struct root *root)
{
	if (unlock_console_take(STDIN_FILENO, &root->console) < 0)
		(void)unlock_console_open(&root->console);
	unlock_prompt_init(&root->prompt, &root->console);
	(void)unlock_prompt_watch(&root->prompt);
}

/**
 * unlock_root() - return when the root is open, or is not encrypted
 *
 * Return: 0. It never fails: there is nothing better to do than to try again.
 */
int unlock_root(void)
{
	struct root root = {
		.volumes.rest_s = UNLOCK_REST_INITRAMFS_S,
		.began = unlock_now_s(),
		.backoff_s = 1,
	};

	read_conf(&root.conf);
	open_console(&root);
	while (!is_over(&root)) {
		if (!root.attempt && unlock_now_s() >= root.next) {
			begin_attempt(&root);
			continue;
		}
		say_missing(&root);
		ask_if_due(&root);
		wait(&root);
	}
	unlock_prompt_end(&root.prompt);
	unlock_console_drop(&root.console);
	/* an attempt that is still at work ends with the process; it has what it needs of its own
	 */
	unlock_volumes_clear(&root.volumes);
	initramfs_conf_clear(&root.conf);
	free(root.problem);
	return 0;
}
