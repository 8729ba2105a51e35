/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A service manager of a hundred lines, on a bus of the test's own: starts "WORKER ID" for the unit
 * vmcrypt-worker@ID.service, stops it with SIGTERM, and tells of it as systemd does. Arguments:
 * WORKER. Refuses to start while the file "refuse" is in the working directory.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

#define PREFIX    "vmcrypt-worker@"
#define SUFFIX    ".service"
#define UNITS_MAX 32
#define INTERFACE "org.freedesktop.systemd1.Manager"

static struct unit {
	char name[128];
	pid_t pid; /* 0 = has ended */
} units[UNITS_MAX];

static const char *worker;
static sd_bus *bus;

static struct unit *find(const char *name)
{
	for (size_t i = 0; i < UNITS_MAX; i++)
		if (strcmp(units[i].name, name) == 0)
			return &units[i];
	return NULL;
}

static int tell(const struct unit *unit)
{
	_cleanup_(freep) char *path = NULL;

	if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit->name, &path) < 0)
		return -ENOMEM;
	return sd_bus_emit_signal(bus, path, "org.freedesktop.DBus.Properties", "PropertiesChanged",
				  "sa{sv}as", "org.freedesktop.systemd1.Unit", 1, "ActiveState",
				  "s", unit->pid ? "active" : "inactive", 0);
}

static int on_child(struct sd_event_source *source, const siginfo_t *info, void *userdata)
{
	struct unit *unit = userdata;

	unit->pid = 0;
	return tell(unit);
}

static int on_start(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	const char *name, *mode;
	struct unit *unit;
	char id[64];
	int r;

	r = sd_bus_message_read(message, "ss", &name, &mode);
	if (r < 0)
		return r;
	if (access("refuse", F_OK) == 0 || strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		return sd_bus_error_set(error, "org.freedesktop.systemd1.NoSuchUnit",
					"No such unit.");
	(void)snprintf(id, sizeof(id), "%.*s",
		       (int)(strlen(name) - strlen(PREFIX) - strlen(SUFFIX)),
		       name + strlen(PREFIX));
	unit = find(name);
	if (!unit)
		unit = find("");
	if (!unit)
		return -ENOBUFS;
	(void)snprintf(unit->name, sizeof(unit->name), "%s", name);
	if (!unit->pid) {
		unit->pid = fork();
		if (unit->pid == 0) {
			sigset_t none;

			(void)sigemptyset(&none);
			(void)sigprocmask(SIG_SETMASK, &none, NULL);
			(void)execl(worker, worker, id, NULL);
			_exit(127);
		}
		r = sd_event_add_child(sd_bus_get_event(bus), NULL, unit->pid, WEXITED, on_child,
				       unit);
		if (r < 0)
			return r;
		(void)tell(unit);
	}
	return sd_bus_reply_method_return(message, "o", "/org/freedesktop/systemd1/job/1");
}

static int on_stop(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	const char *name, *mode;
	struct unit *unit;
	int r;

	r = sd_bus_message_read(message, "ss", &name, &mode);
	if (r < 0)
		return r;
	unit = find(name);
	if (unit && unit->pid)
		(void)kill(unit->pid, SIGTERM);
	return sd_bus_reply_method_return(message, "o", "/org/freedesktop/systemd1/job/1");
}

static int on_nothing(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	return sd_bus_reply_method_return(message, NULL);
}

static int on_list(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *name;
	int r;

	r = sd_bus_message_new_method_return(message, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(ssssssouso)");
	if (r >= 0)
		r = sd_bus_message_enter_container(message, 'a', "s");
	while (r >= 0 && (r = sd_bus_message_read(message, "s", &name)) > 0) {
		const struct unit *unit = find(name);

		r = sd_bus_message_append(reply, "(ssssssouso)", name, name, "loaded",
					  unit && unit->pid ? "active" : "inactive", "", "", "/", 0,
					  "", "/");
	}
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("StartUnit", "ss", "o", on_start, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("StopUnit", "ss", "o", on_stop, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ResetFailedUnit", "s", "", on_nothing, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Subscribe", "", "", on_nothing, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ListUnitsByNames", "as", "a(ssssssouso)", on_list,
		      SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

int main(int argc, char *argv[])
{
	struct sd_event *event = NULL;
	sigset_t signals;
	int r;

	if (argc != 2)
		return EXIT_FAILURE;
	worker = argv[1];
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	r = sd_event_new(&event);
	if (r >= 0)
		r = sd_bus_open_system(&bus);
	if (r >= 0)
		r = sd_bus_attach_event(bus, event, 0);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1", INTERFACE,
					     vtable, NULL);
	if (r >= 0)
		r = sd_bus_request_name(bus, "org.freedesktop.systemd1", 0);
	if (r >= 0)
		r = sd_event_loop(event);
	(void)fprintf(stderr, "manager: %s\n", strerror(-r));
	return EXIT_FAILURE;
}
