/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcryptd - the door of the agent, and who sends the workers
 *
 * Takes orders at a socket, writes them down, starts a worker for each and tells how it goes. It
 * looks at no disk, reaches no network and never holds a key: the worker's helper inspects, the
 * worker converts, the key service fetches. It may be restarted at any time; the workers go on.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/notify.h"
#include "program/vmcryptd-door.h"

static void event_unref(struct sd_event **event)
{
	*event = sd_event_unref(*event);
}

/* The one listening socket that the service manager hands over. */
static int take_socket(int *ret)
{
	int n, flags, r;

	n = sd_listen_fds(true);
	if (n < 0)
		return log_error_errno(n, "Cannot take the socket over: %m");
	if (n != 1 || sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 1, NULL, 0) <= 0) {
		log_error("No socket: start vmcryptd.socket, which starts this program.");
		return -EINVAL;
	}
	flags = fcntl(SD_LISTEN_FDS_START, F_GETFL);
	r = flags < 0 ? -1 : fcntl(SD_LISTEN_FDS_START, F_SETFL, flags | O_NONBLOCK);
	if (r < 0)
		return log_error_errno(-errno, "Cannot set the socket up: %m");
	*ret = SD_LISTEN_FDS_START;
	return 0;
}

static int watch_signals(struct sd_event *event)
{
	sigset_t signals;
	int r;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
	return r < 0 ? r : 0;
}

static int run(void)
{
	_cleanup_(event_unref) struct sd_event *event = NULL;
	_cleanup_(door_freep) struct door *door = NULL;
	int fd, r;

	(void)umask(0077);
	r = take_socket(&fd);
	if (r < 0)
		return r;
	r = sd_event_new(&event);
	if (r >= 0)
		r = watch_signals(event);
	if (r < 0)
		return log_error_errno(r, "Cannot set the event loop up: %m");
	(void)sd_event_set_watchdog(event, true);
	r = door_new(event, &door);
	if (r < 0)
		return log_error_errno(r, "Cannot start: %m");
	r = door_open(door, fd);
	if (r < 0)
		return log_error_errno(r, "Cannot listen: %m");
	(void)notify_send("READY=1");
	r = sd_event_loop(event);
	(void)notify_send("STOPPING=1");
	return r < 0 ? log_error_errno(r, "The event loop failed: %m") : 0;
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		switch (c) {
		case 'h':
			(void)puts(
				"vmcryptd - serves " DOOR_SOCKET " and starts encryption jobs\n"
				"Started by vmcryptd.socket; see vmcryptd(8) and vmcryptctl(8).");
			return EXIT_SUCCESS;
		case 'V':
			(void)puts("vmcryptd " VMCRYPT_VERSION);
			return EXIT_SUCCESS;
		default:
			return EXIT_FAILURE;
		}
	if (optind < argc) {
		log_error("vmcryptd takes no arguments.");
		return EXIT_FAILURE;
	}
	log_set_from_environment();
	return run() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
