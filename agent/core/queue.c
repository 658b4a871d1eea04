/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "agent/core/mem.h"

void
queue_init(struct queue *q, size_t cap)
{
	assert(cap > 0);
	*q = (struct queue){.cap = cap, .wake_items = 1, .wake_places = 1};
	q->slot = mem_array(cap, sizeof *q->slot);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->not_full, NULL);
	pthread_cond_init(&q->not_empty, NULL);
}

void
queue_wake_at(struct queue *q, size_t items, size_t places)
{
	assert(items <= q->cap && places <= q->cap);
	q->wake_items = items > 1 ? items : 1;
	q->wake_places = places > 1 ? places : 1;
}

void
queue_fini(struct queue *q)
{
	pthread_cond_destroy(&q->not_empty);
	pthread_cond_destroy(&q->not_full);
	pthread_mutex_destroy(&q->lock);
	free(q->slot);
	q->slot = NULL;
}

int
queue_put(struct queue *q, void *p)
{
	int rc = 0;

	assert(p != NULL);
	pthread_mutex_lock(&q->lock);
	if (q->count == q->cap)
		while (q->count > q->cap - q->wake_places && !q->closed)
			pthread_cond_wait(&q->not_full, &q->lock);
	if (q->closed) {
		rc = -EPIPE;
	} else {
		q->slot[(q->head + q->count++) % q->cap] = p;
		if (q->count >= q->wake_items)
			pthread_cond_signal(&q->not_empty);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* With the lock held. */
static void *
take(struct queue *q)
{
	void *p;

	if (q->count == 0)
		return NULL;
	p = q->slot[q->head];
	q->head = (q->head + 1) % q->cap;
	q->count--;
	if (q->count <= q->cap - q->wake_places)
		pthread_cond_signal(&q->not_full);
	return p;
}

void *
queue_get(struct queue *q)
{
	void *p;

	pthread_mutex_lock(&q->lock);
	if (q->count == 0)
		while (q->count < q->wake_items && !q->closed)
			pthread_cond_wait(&q->not_empty, &q->lock);
	p = take(q);
	pthread_mutex_unlock(&q->lock);
	return p;
}

void *
queue_try_get(struct queue *q)
{
	void *p;

	pthread_mutex_lock(&q->lock);
	p = take(q);
	pthread_mutex_unlock(&q->lock);
	return p;
}

void
queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->not_full);
	pthread_cond_broadcast(&q->not_empty);
	pthread_mutex_unlock(&q->lock);
}
