/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptctl-watch.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "program/vmcryptctl-table.h"

#define BAR_CELLS    24
#define TEXT_LETTERS 60
#define FULL_TENTHS  10

void watch_clear(struct watch *watch)
{
	for (size_t i = 0; i < watch->n_volumes; i++) {
		free(watch->volumes[i].uuid);
		free(watch->volumes[i].step);
		free(watch->volumes[i].state);
	}
	free(watch->volumes);
	free(watch->state);
	*watch = (struct watch){ 0 };
}

/** watch_erase() - make room for something else, or for the next drawing */
void watch_erase(struct watch *watch)
{
	if (watch->drawn_lines > 0)
		(void)fprintf(watch->out, "\033[%zuA\033[J", watch->drawn_lines);
	watch->drawn_lines = 0;
}

/* Keep a copy of @text; Return: true when it is another than before. */
static bool replace(char **kept, const char *text)
{
	char *copy;

	if (*kept && text ? strcmp(*kept, text) == 0 : !*kept && !text)
		return false;
	copy = NULL;
	if (text && text_clean(text, TEXT_LETTERS, &copy) < 0)
		return false;
	free(*kept);
	*kept = copy;
	return true;
}

static struct watch_volume *find_volume(struct watch *watch, const char *uuid)
{
	struct watch_volume *larger;
	char *clean;

	if (text_clean(uuid, TEXT_LETTERS, &clean) < 0)
		return NULL;
	for (size_t i = 0; i < watch->n_volumes; i++)
		if (strcmp(watch->volumes[i].uuid, clean) == 0) {
			free(clean);
			return &watch->volumes[i];
		}
	larger = reallocarray(watch->volumes, watch->n_volumes + 1, sizeof(*larger));
	if (!larger) {
		free(clean);
		return NULL;
	}
	watch->volumes = larger;
	larger[watch->n_volumes] = (struct watch_volume){ .uuid = clean, .tenths = -1 };
	return &larger[watch->n_volumes++];
}

static double fraction(struct json_object *progress)
{
	int64_t size_bytes = json_get_int(progress, "size_bytes", 0);
	int64_t done_bytes = json_get_int(progress, "done_bytes", 0);

	if (size_bytes <= 0 || done_bytes <= 0)
		return 0;
	return done_bytes >= size_bytes ? 1 : (double)done_bytes / (double)size_bytes;
}

static void print_rate(FILE *out, struct json_object *progress)
{
	int64_t rate_bytes = json_get_int(progress, "rate_bytes", 0);
	int64_t left_s = json_get_int(progress, "left_s", -1);
	char text[32];

	if (rate_bytes > 0) {
		text_size((uint64_t)rate_bytes, text, sizeof(text));
		(void)fprintf(out, "  %s/s", text);
	}
	if (left_s >= 0) {
		text_duration(left_s, text, sizeof(text));
		(void)fprintf(out, "  %s left", text);
	}
}

static void draw_bar(struct watch *watch, const struct watch_volume *volume,
		     struct json_object *progress)
{
	double done = fraction(progress);
	int cells = (int)(done * BAR_CELLS);
	char bar[BAR_CELLS + 1];

	memset(bar, '.', BAR_CELLS);
	memset(bar, '#', (size_t)cells);
	bar[BAR_CELLS] = '\0';
	(void)fprintf(watch->out, "%s [%s] %5.1f %%  %s", volume->uuid, bar, done * 100,
		      volume->step    ? volume->step
		      : volume->state ? volume->state
				      : "");
	print_rate(watch->out, progress);
	(void)fputc('\n', watch->out);
	watch->drawn_lines++;
}

static void tell(struct watch *watch, struct watch_volume *volume, struct json_object *progress,
		 bool has_news)
{
	double done = fraction(progress);
	int tenths = (int)(done * FULL_TENTHS);

	if (!has_news && tenths == volume->tenths)
		return;
	volume->tenths = tenths;
	(void)fprintf(watch->out, "volume %s: %s%s%s", volume->uuid,
		      volume->state ? volume->state : "", volume->step ? ", " : "",
		      volume->step ? volume->step : "");
	if (done > 0) {
		(void)fprintf(watch->out, ", %.0f %%", done * 100);
		print_rate(watch->out, progress);
	}
	(void)fputc('\n', watch->out);
}

/**
 * watch_report() - show how a job goes
 * @report: varlink type Report
 *
 * Return: 0 or -ENOMEM.
 */
int watch_report(struct watch *watch, struct json_object *report)
{
	struct json_object *volumes = json_get_array(report, "volumes");
	size_t n = volumes ? json_object_array_length(volumes) : 0;

	if (watch->is_terminal)
		watch_erase(watch);
	if (replace(&watch->state, json_get_string(report, "state")) && !watch->is_terminal)
		(void)fprintf(watch->out, "job: %s\n", watch->state);
	for (size_t i = 0; i < n; i++) {
		struct json_object *progress = json_object_array_get_idx(volumes, i);
		const char *uuid = json_get_string(progress, "uuid");
		struct watch_volume *volume;
		bool has_news;

		if (!uuid)
			continue;
		volume = find_volume(watch, uuid);
		if (!volume)
			return -ENOMEM;
		has_news = replace(&volume->step, json_get_string(progress, "step"));
		has_news |= replace(&volume->state, json_get_string(progress, "state"));
		if (watch->is_terminal)
			draw_bar(watch, volume, progress);
		else
			tell(watch, volume, progress, has_news);
	}
	(void)fflush(watch->out);
	return 0;
}

/**
 * watch_status() - show the status table anew
 * @reply: of Show
 *
 * Return: 0 or -ENOMEM.
 */
int watch_status(struct watch *watch, struct json_object *reply, bool has_style)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes = 0;
	FILE *memory;
	int r;

	memory = open_memstream(&text, &size_bytes);
	if (!memory)
		return -errno;
	r = table_print_status(reply, has_style, memory);
	if (fclose(memory) != 0 && r == 0)
		r = -ENOMEM;
	if (r < 0)
		return r;
	if (watch->is_terminal)
		watch_erase(watch);
	(void)fputs(text, watch->out);
	for (const char *at = text; watch->is_terminal && (at = strchr(at, '\n')); at++)
		watch->drawn_lines++;
	if (!watch->is_terminal)
		(void)fputc('\n', watch->out);
	(void)fflush(watch->out);
	return 0;
}
