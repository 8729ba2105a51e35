/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptd-units.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#define USEC_PER_SEC 1000000ULL
#define LOOK_AGAIN_S 5 /* beside the signals, which are lost when the bus goes away */

#define MANAGER           "org.freedesktop.systemd1"
#define MANAGER_PATH      "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"

struct unit {
	struct units *units;
	struct unit *next;
	char *id, *name;
	sd_bus_slot *changed, *starting;
};

struct units {
	struct sd_event *event;
	const struct units_callbacks *callbacks;
	void *userdata;
	sd_bus *bus;
	sd_bus_slot *listing;
	struct sd_event_source *timer;
	struct unit *units;
	bool looks_again; /* something changed while the list was on its way */
};

static int units_look(struct units *units);

static struct unit *unit_free(struct unit *unit)
{
	if (!unit)
		return NULL;
	(void)sd_bus_slot_unref(unit->changed);
	(void)sd_bus_slot_unref(unit->starting);
	free(unit->id);
	free(unit->name);
	free(unit);
	return NULL;
}

static struct unit *unit_find(const struct units *units, const char *name)
{
	for (struct unit *at = units->units; at; at = at->next)
		if (strcmp(at->id, name) == 0 || strcmp(at->name, name) == 0)
			return at;
	return NULL;
}

static void unit_forget(struct unit *unit)
{
	struct unit **link = &unit->units->units;

	while (*link && *link != unit)
		link = &(*link)->next;
	if (*link)
		*link = unit->next;
	(void)unit_free(unit);
}

static int on_changed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct unit *unit = userdata;

	(void)units_look(unit->units);
	return 0;
}

static int unit_watch(struct unit *unit)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	unit->changed = sd_bus_slot_unref(unit->changed);
	r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit->name, &path);
	if (r >= 0)
		r = sd_bus_match_signal_async(unit->units->bus, &unit->changed, MANAGER, path,
					      "org.freedesktop.DBus.Properties",
					      "PropertiesChanged", on_changed, NULL, unit);
	return r < 0 ? r : 0;
}

static int unit_get(struct units *units, const char *id, struct unit **ret)
{
	struct unit *unit = unit_find(units, id);
	int r;

	if (unit) {
		*ret = unit;
		return 0;
	}
	unit = calloc(1, sizeof(*unit));
	if (!unit)
		return -ENOMEM;
	unit->units = units;
	unit->id = strdup(id);
	r = unit->id ? text_format(&unit->name, "vmcrypt-worker@%s.service", id) : -ENOMEM;
	if (r == 0)
		r = unit_watch(unit);
	if (r < 0) {
		(void)unit_free(unit);
		return r;
	}
	unit->next = units->units;
	units->units = unit;
	*ret = unit;
	return 0;
}

static bool is_running(const char *active_state, uint32_t job)
{
	return job != 0 ||
	       (strcmp(active_state, "inactive") != 0 && strcmp(active_state, "failed") != 0);
}

/* One row of ListUnitsByNames(): a unit that is not loaded is listed as inactive. */
static int read_row(struct units *units, sd_bus_message *message)
{
	const char *name, *active;
	struct unit *unit;
	uint32_t job;
	int r;

	r = sd_bus_message_read(message, "(ssssssouso)", &name, NULL, NULL, &active, NULL, NULL,
				NULL, &job, NULL, NULL);
	if (r <= 0)
		return r;
	unit = unit_find(units, name);
	if (unit && !unit->starting && !is_running(active, job)) {
		_cleanup_(freep) char *id = steal(unit->id);

		unit_forget(unit);
		units->callbacks->ended(id, units->userdata);
	}
	return 1;
}

static int on_list(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct units *units = userdata;
	int r;

	units->listing = sd_bus_slot_unref(units->listing);
	if (sd_bus_message_is_method_error(message, NULL)) {
		log_debug("Service manager: cannot list units: %s",
			  sd_bus_message_get_error(message)->message);
		return 0;
	}
	r = sd_bus_message_enter_container(message, 'a', "(ssssssouso)");
	while (r > 0)
		r = read_row(units, message);
	if (units->looks_again) {
		units->looks_again = false;
		(void)units_look(units);
	}
	return 0;
}

/* Ask for the state of all watched units; the answer comes to on_list(). */
static int units_look(struct units *units)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
	int r;

	if (units->listing) {
		units->looks_again = true;
		return 0;
	}
	r = sd_bus_message_new_method_call(units->bus, &message, MANAGER, MANAGER_PATH,
					   MANAGER_INTERFACE, "ListUnitsByNames");
	if (r >= 0)
		r = sd_bus_message_open_container(message, 'a', "s");
	for (const struct unit *at = units->units; r >= 0 && at; at = at->next)
		r = sd_bus_message_append(message, "s", at->name);
	if (r >= 0)
		r = sd_bus_message_close_container(message);
	if (r >= 0)
		r = sd_bus_call_async(units->bus, &units->listing, message, on_list, units, 0);
	return r < 0 ? r : 0;
}

static int on_timer(struct sd_event_source *source, uint64_t usec, void *userdata)
{
	struct units *units = userdata;

	if (units->units && units_connect(units) == 0)
		(void)units_look(units);
	(void)sd_event_source_set_time_relative(source, LOOK_AGAIN_S * USEC_PER_SEC);
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

/**
 * units_new() - nothing is connected yet
 * @callbacks: kept, not copied; never called from within units_start() and the like
 *
 * Return: 0 or -errno.
 */
int units_new(struct sd_event *event, const struct units_callbacks *callbacks, void *userdata,
	      struct units **ret)
{
	_cleanup_(units_freep) struct units *units = calloc(1, sizeof(*units));
	int r;

	if (!units)
		return -ENOMEM;
	units->event = sd_event_ref(event);
	units->callbacks = callbacks;
	units->userdata = userdata;
	r = sd_event_add_time_relative(event, &units->timer, CLOCK_MONOTONIC,
				       LOOK_AGAIN_S * USEC_PER_SEC, 0, on_timer, units);
	if (r < 0)
		return r;
	*ret = steal(units);
	return 0;
}

static void units_disconnect(struct units *units)
{
	units->listing = sd_bus_slot_unref(units->listing);
	for (struct unit *at = units->units; at; at = at->next) {
		at->changed = sd_bus_slot_unref(at->changed);
		at->starting = sd_bus_slot_unref(at->starting);
	}
	units->bus = sd_bus_close_unref(units->bus);
}

struct units *units_free(struct units *units)
{
	if (!units)
		return NULL;
	units_disconnect(units);
	while (units->units)
		unit_forget(units->units);
	(void)sd_event_source_disable_unref(units->timer);
	(void)sd_event_unref(units->event);
	free(units);
	return NULL;
}

void units_freep(struct units **units)
{
	(void)units_free(*units);
}

/** units_connect() - be on the bus, anew if it has gone. Return: 0 or -errno. */
int units_connect(struct units *units)
{
	int r;

	if (units->bus && sd_bus_is_open(units->bus) > 0)
		return 0;
	units_disconnect(units);
	r = sd_bus_open_system(&units->bus);
	if (r >= 0)
		r = sd_bus_attach_event(units->bus, units->event, 0);
	/* without a subscription the manager sends no signals */
	if (r >= 0)
		r = sd_bus_call_method_async(units->bus, NULL, MANAGER, MANAGER_PATH,
					     MANAGER_INTERFACE, "Subscribe", NULL, NULL, NULL);
	for (struct unit *at = units->units; r >= 0 && at; at = at->next)
		r = unit_watch(at);
	if (r < 0)
		units_disconnect(units);
	return r < 0 ? r : 0;
}

static int on_started(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct unit *unit = userdata;
	struct units *units = unit->units;
	const sd_bus_error *failure = sd_bus_message_get_error(message);

	unit->starting = sd_bus_slot_unref(unit->starting);
	if (failure) {
		_cleanup_(freep) char *id = strdup(unit->id);

		unit_forget(unit);
		if (id)
			units->callbacks->not_started(
				id, failure->message ? failure->message : failure->name,
				units->userdata);
		return 0;
	}
	return units_look(units);
}

/**
 * units_start() - start a worker, or find that it runs already; it is watched from now on
 *
 * Return: 0, and then a callback says how it ended, or -errno.
 */
int units_start(struct units *units, const char *id)
{
	struct unit *unit;
	int r;

	r = units_connect(units);
	if (r == 0)
		r = unit_get(units, id, &unit);
	if (r < 0)
		return r;
	/* a worker that crashed often must not be refused for that when a person asks again */
	(void)sd_bus_call_method_async(units->bus, NULL, MANAGER, MANAGER_PATH, MANAGER_INTERFACE,
				       "ResetFailedUnit", NULL, NULL, "s", unit->name);
	unit->starting = sd_bus_slot_unref(unit->starting);
	r = sd_bus_call_method_async(units->bus, &unit->starting, MANAGER, MANAGER_PATH,
				     MANAGER_INTERFACE, "StartUnit", on_started, unit, "ss",
				     unit->name, "fail");
	if (r < 0)
		unit_forget(unit);
	return r < 0 ? r : 0;
}

/** units_reboot() - an orderly restart of the machine. Return: 0 or -errno. */
int units_reboot(struct units *units)
{
	int r = units_connect(units);

	if (r < 0)
		return r;
	r = sd_bus_call_method_async(units->bus, NULL, MANAGER, MANAGER_PATH, MANAGER_INTERFACE,
				     "StartUnit", NULL, NULL, "ss", "reboot.target",
				     "replace-irreversibly");
	return r < 0 ? r : 0;
}

/** units_stop() - ask a worker to stop at the next safe place. Return: 0 or -errno. */
int units_stop(struct units *units, const char *id)
{
	struct unit *unit;
	int r;

	r = units_connect(units);
	if (r == 0)
		r = unit_get(units, id, &unit);
	if (r < 0)
		return r;
	r = sd_bus_call_method_async(units->bus, NULL, MANAGER, MANAGER_PATH, MANAGER_INTERFACE,
				     "StopUnit", NULL, NULL, "ss", unit->name, "replace");
	return r < 0 ? r : 0;
}
