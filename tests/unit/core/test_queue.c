/* SPDX-License-Identifier: Apache-2.0 */
/* The queue between threads: order, bounds, and its end. Runs under TSan. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/core/queue.h"

#define ITEMS 20000
#define THREADS 3

static void
test_first_in_first_out(void **state)
{
	struct queue q;
	int v[5];

	(void)state;
	queue_init(&q, 3);
	/* Round its end twice. */
	for (int i = 0; i < 5; i++) {
		assert_int_equal(queue_put(&q, &v[i]), 0);
		assert_ptr_equal(queue_get(&q), &v[i]);
	}
	for (int i = 0; i < 3; i++)
		queue_put(&q, &v[i]);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal(queue_get(&q), &v[i]);
	queue_fini(&q);
}

static void
test_try_get_of_an_empty_one(void **state)
{
	struct queue q;
	int v;

	(void)state;
	queue_init(&q, 1);
	assert_null(queue_try_get(&q));
	queue_put(&q, &v);
	assert_ptr_equal(queue_try_get(&q), &v);
	assert_null(queue_try_get(&q));
	queue_fini(&q);
}

static void
test_closed_gives_what_is_left(void **state)
{
	struct queue q;
	int v, w;

	(void)state;
	queue_init(&q, 2);
	queue_put(&q, &v);
	queue_close(&q);
	assert_int_equal(queue_put(&q, &w), -EPIPE);
	assert_ptr_equal(queue_get(&q), &v);
	assert_null(queue_get(&q));
	assert_null(queue_get(&q));
	queue_fini(&q);
}

static void *
put_one(void *arg)
{
	static int v;

	return queue_put(arg, &v) == -EPIPE ? arg : NULL;
}

static void *
get_one(void *arg)
{
	return queue_get(arg);
}

/* Without the broadcasts, these hang. */
static void
test_close_wakes_those_who_wait(void **state)
{
	pthread_t t[2 * THREADS];
	struct queue full, empty;
	void *r;
	int v;

	(void)state;
	queue_init(&full, 1);
	queue_init(&empty, 1);
	queue_put(&full, &v);
	for (int i = 0; i < THREADS; i++) {
		pthread_create(&t[i], NULL, put_one, &full);
		pthread_create(&t[THREADS + i], NULL, get_one, &empty);
	}
	queue_close(&full);
	queue_close(&empty);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], &r);
		assert_ptr_equal(r, &full);
		pthread_join(t[THREADS + i], &r);
		assert_null(r);
	}
	queue_fini(&full);
	queue_fini(&empty);
}

struct shared {
	struct queue q;
	unsigned char seen[THREADS * ITEMS];
	size_t from; /* of the next producer */
	pthread_mutex_t lock;
};

static void *
produce(void *arg)
{
	struct shared *s = arg;
	size_t from;

	pthread_mutex_lock(&s->lock);
	from = s->from;
	s->from += ITEMS;
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < ITEMS; i++)
		queue_put(&s->q, &s->seen[from + i]);
	return NULL;
}

static void *
consume(void *arg)
{
	struct shared *s = arg;
	unsigned char *p;

	/* Each is one thread's alone, or TSan says so. */
	while ((p = queue_get(&s->q)) != NULL)
		(*p)++;
	return NULL;
}

static void
test_each_arrives_once(void **state)
{
	static struct shared s = {.lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t from[THREADS], to[THREADS];

	(void)state;
	queue_init(&s.q, 4);
	for (int i = 0; i < THREADS; i++) {
		pthread_create(&from[i], NULL, produce, &s);
		pthread_create(&to[i], NULL, consume, &s);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(from[i], NULL);
	queue_close(&s.q);
	for (int i = 0; i < THREADS; i++)
		pthread_join(to[i], NULL);
	for (size_t i = 0; i < THREADS * ITEMS; i++)
		assert_int_equal(s.seen[i], 1);
	queue_fini(&s.q);
}

struct sleeper {
	struct queue q;
	atomic_int through;
};

static void *
get_one_and_tell(void *arg)
{
	struct sleeper *s = arg;
	void *p = queue_get(&s->q);

	atomic_fetch_add(&s->through, 1);
	return p;
}

static void *
put_one_and_tell(void *arg)
{
	struct sleeper *s = arg;

	queue_put(&s->q, s);
	atomic_fetch_add(&s->through, 1);
	return NULL;
}

/* Long enough for whoever would be woken too early to be seen. */
static void
settle(void)
{
	usleep(50 * 1000);
}

static void
test_wakes_for_several(void **state)
{
	static struct sleeper s;
	pthread_t t;
	void *r;
	int v;

	(void)state;
	queue_init(&s.q, 4);
	queue_wake_at(&s.q, 3, 2);
	pthread_create(&t, NULL, get_one_and_tell, &s);
	settle();
	queue_put(&s.q, &v);
	queue_put(&s.q, &v);
	settle();
	assert_int_equal(atomic_load(&s.through), 0);
	queue_put(&s.q, &v);
	pthread_join(t, &r);
	assert_ptr_equal(r, &v);
	/* What is there is had without waiting. */
	assert_ptr_equal(queue_get(&s.q), &v);
	assert_ptr_equal(queue_get(&s.q), &v);

	for (int i = 0; i < 4; i++)
		queue_put(&s.q, &v);
	pthread_create(&t, NULL, put_one_and_tell, &s);
	settle();
	queue_get(&s.q);
	settle();
	assert_int_equal(atomic_load(&s.through), 1);
	queue_get(&s.q);
	pthread_join(t, NULL);
	assert_int_equal(atomic_load(&s.through), 2);
	queue_close(&s.q); /* less than 3 come out all the same */
	for (int i = 0; i < 3; i++)
		assert_non_null(queue_get(&s.q));
	assert_null(queue_get(&s.q));
	queue_fini(&s.q);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_first_in_first_out),
	    cmocka_unit_test(test_try_get_of_an_empty_one),
	    cmocka_unit_test(test_closed_gives_what_is_left),
	    cmocka_unit_test(test_close_wakes_those_who_wait),
	    cmocka_unit_test(test_each_arrives_once),
	    cmocka_unit_test(test_wakes_for_several),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
