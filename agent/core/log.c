/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"

static struct {
	pthread_mutex_t lock;
	const char *program;
	enum log_level level;
	bool progress, terminal, bar;
	int64_t shown_ms, started_ms;
	bool held;
	size_t held_len, held_lost;
	char held_text[16384];
} g = {.lock = PTHREAD_MUTEX_INITIALIZER,
    .program = "neap",
    .level = LOG_AT_NOTICE};

void
log_init(const char *program, enum log_level level, bool progress)
{
	g.program = program;
	g.level = level;
	g.progress = progress;
	g.terminal = isatty(STDERR_FILENO) == 1;
}

static void
out(const char *s, size_t n)
{
	while (n > 0) {
		ssize_t k = write(STDERR_FILENO, s, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return; /* nobody listens: the work goes on */
		s += k;
		n -= (size_t)k;
	}
}

static void
clear_bar(void)
{
	if (g.bar)
		out("\r\033[K", 4);
	g.bar = false;
}

static void
vline(const char *kind, const char *fmt, va_list ap)
{
	char line[2048];
	int n, k;

	n = snprintf(line, sizeof line, "%s: %s", g.program, kind);
	k = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	if (k < 0)
		return;
	n += k;
	if ((size_t)n > sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	pthread_mutex_lock(&g.lock);
	if (g.held) {
		if (g.held_len + (size_t)n <= sizeof g.held_text) {
			memcpy(g.held_text + g.held_len, line, (size_t)n);
			g.held_len += (size_t)n;
		} else {
			g.held_lost++;
		}
	} else {
		clear_bar();
		out(line, (size_t)n);
	}
	pthread_mutex_unlock(&g.lock);
}

#define LINE_AT(lvl, kind)                                                     \
	do {                                                                   \
		va_list ap;                                                    \
		if (g.level < (lvl))                                           \
			return;                                                \
		va_start(ap, fmt);                                             \
		vline(kind, fmt, ap);                                          \
		va_end(ap);                                                    \
	} while (0)

void
log_error(const char *fmt, ...)
{
	LINE_AT(LOG_AT_QUIET, "");
}

void
log_warn(const char *fmt, ...)
{
	LINE_AT(LOG_AT_WARN, "warning: ");
}

void
log_notice(const char *fmt, ...)
{
	LINE_AT(LOG_AT_NOTICE, "");
}

void
log_debug(const char *fmt, ...)
{
	LINE_AT(LOG_AT_DEBUG, "debug: ");
}

void
log_hold(void)
{
	pthread_mutex_lock(&g.lock);
	g.held = true;
	pthread_mutex_unlock(&g.lock);
}

void
log_release(void)
{
	pthread_mutex_lock(&g.lock);
	g.held = false;
	out(g.held_text, g.held_len);
	g.held_len = 0;
	if (g.held_lost > 0) {
		char line[128];
		int n = snprintf(line, sizeof line,
		    "%.60s: %zu more lines had no room during the hold\n",
		    g.program, g.held_lost);

		out(line, (size_t)n);
		g.held_lost = 0;
	}
	pthread_mutex_unlock(&g.lock);
}

static void
draw(const char *what, uint64_t done, uint64_t total, int64_t now)
{
	double s = (double)(now - g.started_ms) / 1000;
	char a[32], b[32], r[32], line[256];
	int n;

	fs_size_text(a, done);
	fs_size_text(b, total);
	fs_size_text(r, s > 0 ? (uint64_t)((double)done / s) : 0);
	if (!g.terminal && total == 0) {
		n = snprintf(line, sizeof line, "%s: %s %s, %s/s\n", g.program,
		    what, a, r);
	} else if (!g.terminal) {
		n = snprintf(line, sizeof line, "%s: %s %s of %s, %s/s\n",
		    g.program, what, a, b, r);
	} else if (total > 0) {
		char bar[31];
		size_t fill = (size_t)(30 * ((double)done / (double)total));

		for (size_t i = 0; i < 30; i++)
			bar[i] = i < fill ? '#' : '.';
		bar[30] = '\0';
		n = snprintf(line, sizeof line,
		    "\r\033[K%s [%s] %3.0f%% %s of %s, %s/s", what, bar,
		    100 * (double)done / (double)total, a, b, r);
	} else {
		n = snprintf(
		    line, sizeof line, "\r\033[K%s %s, %s/s", what, a, r);
	}
	if (n > 0)
		out(line,
		    (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
	g.bar = g.terminal;
}

void
log_progress(const char *what, uint64_t done, uint64_t total)
{
	int64_t now, step;

	if (!g.progress)
		return;
	pthread_mutex_lock(&g.lock);
	now = clock_mono_ms();
	if (done > total && total > 0)
		done = total;
	if (g.started_ms == 0)
		g.started_ms = g.shown_ms = now;
	step = g.terminal ? 100 : 10000;
	if (!g.held && now - g.shown_ms >= step) {
		g.shown_ms = now;
		draw(what, done, total, now);
	}
	pthread_mutex_unlock(&g.lock);
}

void
log_progress_end(void)
{
	pthread_mutex_lock(&g.lock);
	clear_bar();
	g.started_ms = 0;
	pthread_mutex_unlock(&g.lock);
}
