/* SPDX-License-Identifier: Apache-2.0 */
/*
 * More packs than a reader keeps keys of (256, some 8 GiB of data): each has
 * its own key, and one that was put out of the cache is derived again.
 */
#include "tests/unit/store/place.h"

#include "agent/store/codec.h"
#include "agent/store/pack.h"

#define PACKS 300

struct one {
	struct chunk_id id;
	struct chunk_place at;
	uint8_t plain[CHUNK_BLOCK_BYTES];
};

/* A pack of one chunk of one block. */
static void
write_pack(struct place *p, struct one *o, uint64_t seed)
{
	uint8_t sealed[CHUNK_BLOCK_BYTES + SEAL_TAG_LEN];
	struct pack_entry en = {.blocks = 1, .codec = CODEC_RAW};
	struct chunk_digest *d;
	struct pack_writer *w;
	struct err e = ERR_NONE;
	struct seal *s;

	scratch_noise(o->plain, sizeof o->plain, seed);
	OK(chunk_digest_new(&d, &p->keys, &e));
	OK(chunk_digest_of(d, SPAN(o->plain, sizeof o->plain), &en.id, &e));
	chunk_digest_free(d);
	OK(pack_writer_new(&w, p->repo, &p->keys, &e));
	s = seal_clone(pack_writer_seal(w));
	en.len = sizeof sealed;
	en.off = pack_writer_reserve(w, en.len);
	OK(seal_frame(s, en.off, SPAN(en.id.b, sizeof en.id),
	    SPAN(o->plain, sizeof o->plain), sealed, &e));
	seal_free(s);
	OK(pack_writer_put(w, &en, SPAN(sealed, sizeof sealed), &e));
	o->id = en.id;
	o->at = (struct chunk_place){
	    .off = en.off, .len = en.len, .blocks = 1, .codec = CODEC_RAW};
	memcpy(o->at.pack, pack_writer_id(w), sizeof o->at.pack);
	OK(pack_writer_finish(w, &e));
}

static void
must_read(struct pack_reader *r, const struct one *o)
{
	static uint8_t got[CHUNK_BYTES];
	struct err e = ERR_NONE;

	OK(pack_reader_get(r, &o->id, &o->at, got, &e));
	assert_memory_equal(got, o->plain, sizeof o->plain);
}

static void
each_pack_is_read_with_its_own_key(void **state)
{
	static struct one one[PACKS];
	struct dice dice = {1};
	struct pack_reader *r;
	struct err e = ERR_NONE;
	struct place p;

	place_begin(&p, *state, "repo", true);
	for (unsigned i = 0; i < PACKS; i++)
		write_pack(&p, &one[i], i + 1);
	OK(pack_reader_new(&r, p.repo, &p.keys, &e));
	/* In turn, so that each has gone when it comes again; then some often,
	 * which stay, and some seldom. */
	for (unsigned i = 0; i < 2 * PACKS; i++)
		must_read(r, &one[i % PACKS]);
	for (unsigned i = 0; i < 1000; i++)
		must_read(r, &one[dice_below(&dice, i % 3 == 0 ? PACKS : 10)]);
	pack_reader_free(r);
	place_end(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(each_pack_is_read_with_its_own_key,
		scratch_setup, scratch_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
