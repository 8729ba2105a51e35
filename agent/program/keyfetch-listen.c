/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-keyfetch --listen: the stand-in for vmcrypt-keyfetch.socket and vmcrypt-keyfetch@.service
 *
 * For an initramfs without systemd. The listener stays root and does nothing but accept. Each
 * connection gets a process of its own, which gives up what the unit would have taken from it,
 * becomes the unprivileged user and runs this program anew, with the connection as standard input:
 * no memory of the listener and no descriptor but the log goes along.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "program/keyfetch.h"

#define USER         "vmcrypt-keyfetch"
#define CHILDREN_MAX 16 /* MaxConnections= of the socket unit */
#define CHILD_LIMIT_S                                                                              \
	(11 * 60) /* RuntimeMaxSec= of the service unit: a client may wait for 10 minutes */
#define STACK_BYTES                                                                                \
	(1024 * 1024)      /* LimitSTACK=, all of it is locked, also the resolver's threads' */
#define DESCRIPTOR_MAX 256 /* LimitNOFILE= */

struct listener {
	const char *path;
	uid_t uid;
	gid_t gid;
	int socket_fd, signal_fd;
	pid_t children[CHILDREN_MAX]; /* 0 = free */
	bool is_over;
};

static void listener_close(struct listener *listener)
{
	if (listener->socket_fd >= 0) {
		(void)unlink(listener->path);
		(void)close(listener->socket_fd);
	}
	if (listener->signal_fd >= 0)
		(void)close(listener->signal_fd);
}

static int find_user(struct listener *listener)
{
	const struct passwd *user;

	errno = 0;
	user = getpwnam(USER);
	if (!user)
		return errno > 0 ? -errno : -ENOENT;
	if (user->pw_uid == 0 || user->pw_gid == 0)
		return -EPERM;
	listener->uid = user->pw_uid;
	listener->gid = user->pw_gid;
	return 0;
}

/* While these are root's to set. */
static int set_limits(void)
{
	static const struct {
		__rlimit_resource_t resource;
		rlim_t limit;
	} limits[] = {
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_MEMLOCK, RLIM_INFINITY },
		{ RLIMIT_STACK, STACK_BYTES },
		{ RLIMIT_NOFILE, DESCRIPTOR_MAX },
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		const struct rlimit limit = { limits[i].limit, limits[i].limit };

		if (setrlimit(limits[i].resource, &limit) < 0)
			return -errno;
	}
	return 0;
}

static int open_socket(struct listener *listener)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_(freep) char *folder = NULL;
	_cleanup_(closep) int fd = -EBADF;
	const char *slash = strrchr(listener->path, '/');
	int r;

	if (!slash || slash == listener->path)
		return -EINVAL;
	if (strlen(listener->path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, listener->path, strlen(listener->path) + 1);
	folder = strndup(listener->path, (size_t)(slash - listener->path));
	if (!folder)
		return -ENOMEM;
	/* the folder is for everybody, and stays when this is the running system's */
	(void)umask(0022);
	r = directory_make(folder, 0755);
	(void)umask(0077);
	if (r < 0)
		return r;
	if (unlink(listener->path) < 0 && errno != ENOENT)
		return -errno;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* the umask leaves 0700 of it */
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (chmod(listener->path, 0600) < 0 || listen(fd, CHILDREN_MAX) < 0) {
		r = -errno;
		(void)unlink(listener->path);
		return r;
	}
	listener->socket_fd = steal_fd(fd);
	return 0;
}

/* From here on signals arrive through a descriptor only. */
static int open_signals(struct listener *listener)
{
	sigset_t signals;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
		return -errno;
	listener->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return listener->signal_fd < 0 ? -errno : 0;
}

/* No capability can come back, also not with a file that has some. Return: 0 or -errno. */
static int drop_capabilities(void)
{
	for (unsigned long capability = 0; capability <= CAP_LAST_CAP; capability++)
		/* EINVAL: this kernel has fewer */
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EINVAL)
			return -errno;
	return 0;
}

static int drop_privileges(const struct listener *listener)
{
	int r;

	r = drop_capabilities();
	if (r < 0)
		return r;
	if (setgroups(0, NULL) < 0 || setresgid(listener->gid, listener->gid, listener->gid) < 0 ||
	    setresuid(listener->uid, listener->uid, listener->uid) < 0)
		return -errno;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

/* The child's whole life before it is the key service. Return: -errno; otherwise it does not. */
static int become_service(const struct listener *listener, int connection, pid_t parent)
{
	char *const argv[] = { (char[]){ "vmcrypt-keyfetch" }, NULL };
	sigset_t none;
	int r;

	if (dup2(connection, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		return -errno;
	r = drop_privileges(listener);
	if (r < 0)
		return r;
	/* after the change of user, which would forget it */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return -errno;
	if (getppid() != parent)
		return -ESRCH;
	(void)sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return -errno;
	(void)alarm(CHILD_LIMIT_S);
	execv("/proc/self/exe", argv);
	return -errno;
}

static pid_t *free_place(struct listener *listener)
{
	for (size_t i = 0; i < CHILDREN_MAX; i++)
		if (listener->children[i] == 0)
			return &listener->children[i];
	return NULL;
}

/* One client's trouble is not the others': only logged. */
static void accept_one(struct listener *listener, pid_t *place)
{
	_cleanup_(closep) int connection = -EBADF;
	pid_t self = getpid(), child;

	connection = accept4(listener->socket_fd, NULL, NULL, SOCK_CLOEXEC);
	if (connection < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			(void)log_error_errno(-errno, "Key service: cannot accept: %m");
		return;
	}
	child = fork();
	if (child < 0) {
		(void)log_error_errno(-errno, "Key service: cannot fork: %m");
	} else if (child == 0) {
		int r = become_service(listener, connection, self);

		(void)log_error_errno(r, "Key service: cannot give up privileges: %m");
		_exit(EXIT_FAILURE);
	} else {
		*place = child;
	}
}

static void reap(struct listener *listener)
{
	pid_t child;

	while ((child = waitpid(-1, NULL, WNOHANG)) > 0)
		for (size_t i = 0; i < CHILDREN_MAX; i++)
			if (listener->children[i] == child)
				listener->children[i] = 0;
}

static void take_signals(struct listener *listener)
{
	struct signalfd_siginfo signal;

	while (read(listener->signal_fd, &signal, sizeof(signal)) == (ssize_t)sizeof(signal))
		if (signal.ssi_signo != SIGCHLD)
			listener->is_over = true;
	reap(listener);
}

static int run(struct listener *listener)
{
	while (!listener->is_over) {
		pid_t *place = free_place(listener);
		struct pollfd ready[] = {
			{ .fd = listener->signal_fd, .events = POLLIN },
			/* further ones wait in the socket, as with the unit they would be refused
			 */
			{ .fd = place ? listener->socket_fd : -1, .events = POLLIN },
		};

		if (poll(ready, ARRAY_SIZE(ready), -1) < 0 && errno != EINTR)
			return -errno;
		if (ready[0].revents != 0)
			take_signals(listener);
		else if (ready[1].revents != 0)
			accept_one(listener, place);
	}
	return 0;
}

static void end_children(struct listener *listener)
{
	for (size_t i = 0; i < CHILDREN_MAX; i++) {
		if (listener->children[i] == 0)
			continue;
		(void)kill(listener->children[i], SIGKILL);
		(void)waitpid(listener->children[i], NULL, 0);
	}
}

/**
 * keyfetch_listen() - accept connections until SIGTERM or SIGINT
 * @path: absolute path of the socket; its folder is made if there is none; another socket of that
 *        name is replaced
 *
 * Needs root, /proc and the user vmcrypt-keyfetch. No descriptors but the standard ones survive.
 *
 * Return: 0 or -errno, logged.
 */
int keyfetch_listen(const char *path)
{
	_cleanup_(listener_close) struct listener listener = { .path = path,
							       .socket_fd = -EBADF,
							       .signal_fd = -EBADF };
	int r;

	if (close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
		return log_error_errno(-errno, "Key service: cannot close descriptors: %m");
	r = find_user(&listener);
	if (r < 0)
		return log_error_errno(r, "Key service: cannot run as user %s: %m", USER);
	r = set_limits();
	if (r < 0)
		return log_error_errno(r, "Key service: cannot set limits: %m");
	r = open_signals(&listener);
	if (r == 0)
		r = open_socket(&listener);
	if (r < 0)
		return log_error_errno(r, "Key service: cannot listen at %s: %m", path);
	if (chdir("/") < 0)
		return log_error_errno(-errno, "Key service: cannot leave its folder: %m");
	r = run(&listener);
	end_children(&listener);
	if (r < 0)
		return log_error_errno(r, "Key service: cannot wait for connections: %m");
	return 0;
}
