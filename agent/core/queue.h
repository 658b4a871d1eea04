/*
 * A bounded queue of pointers between threads. put waits while it is full,
 * get while it is empty. After queue_close, put fails with -EPIPE and get hands
 * out what is left, then NULL.
 */
#ifndef NEAP_CORE_QUEUE_H
#define NEAP_CORE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t not_full, not_empty;
	void **slot;
	size_t cap, head, count, wake_items, wake_places;
	bool closed;
};

void queue_init(struct queue *q, size_t cap);
/*
 * Who finds it empty is woken when `items` are there, who finds it full when
 * `places` are free, and not for each one: a wake-up is dear. Only for one
 * waiting thread on that side, and where so many are sure to come.
 */
void queue_wake_at(struct queue *q, size_t items, size_t places);
void queue_fini(struct queue *q);        /* nobody may be waiting */
int queue_put(struct queue *q, void *p); /* p is not NULL; 0 or -EPIPE */
void *queue_get(struct queue *q);        /* NULL: closed and empty */
void *queue_try_get(struct queue *q);    /* NULL: empty just now */
void queue_close(struct queue *q);

#endif
