/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The table of flows of one family; included by flows.h once for each. */

INLINE int NAME(is_key)(const FLOW *f, const struct packet *p)
{
#if FAMILY == V4
	__u64 differ = (f->src ^ p->src[0]) | (f->dst ^ p->dst[0]);
#else
	__u64 differ = (f->src[0] ^ p->src[0]) | (f->dst[0] ^ p->dst[0]);

	differ |= (f->src[1] ^ p->src[1]) | (f->dst[1] ^ p->dst[1]);
	differ |= (f->src[2] ^ p->src[2]) | (f->dst[2] ^ p->dst[2]);
	differ |= (f->src[3] ^ p->src[3]) | (f->dst[3] ^ p->dst[3]);
#endif
	return !(differ | (f->sport ^ p->sport) | (f->dport ^ p->dport) |
		 (FLOW_PROTO(f->word) ^ p->proto));
}

INLINE BUCKET *NAME(bucket)(__u32 index)
{
	return bpf_map_lookup_elem(&FLOWS, &index);
}

/* The flow in this bucket; its slot as well, which is of this flow and no other for sure. */
INLINE FLOW *NAME(find_in)(BUCKET *b, __u64 hash, const struct packet *p, __u32 *slot)
{
	__u16 tag = flow_tag(hash);

#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		if (b->tags[i] == tag && NAME(is_key)(&b->flows[i], p)) {
			union where where = { .both = *(volatile __u64 *)&b->flows[i].where.both };

			if (where.check == flow_check(hash)) {
				*slot = where.slot;
				return &b->flows[i];
			}
		}
	}
	return NULL;
}

INLINE FLOW *NAME(find)(const struct config *cfg, __u64 hash, const struct packet *p, __u32 *slot)
{
	BUCKET *b = NAME(bucket)(hash & cfg->MASK);
	FLOW *f;

	if (!b)
		return NULL;
	f = NAME(find_in)(b, hash, p, slot);
	if (f || likely(!*(volatile __u32 *)&b->spilled))
		return f;
	b = NAME(bucket)((hash >> 20) & cfg->MASK);
	return b ? NAME(find_in)(b, hash, p, slot) : NULL;
}

/* Takes an entry of a second bucket off the count of its first one. */
GLOBAL int NAME(unspill)(const FLOW *f, __u32 word)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);
	struct packet p = {};
	BUCKET *first;

	if (!cfg || !f)
		return 0;
#if FAMILY == V4
	p.src[0] = f->src;
	p.dst[0] = f->dst;
#else
	copy_addr(p.src, f->src, V6);
	copy_addr(p.dst, f->dst, V6);
#endif
	p.sport = f->sport;
	p.dport = f->dport;
	p.proto = FLOW_PROTO(word);
	first = NAME(bucket)(flow_hash(cfg, &p, FAMILY) & cfg->MASK);
	if (first)
		__sync_fetch_and_add(&first->spilled, -1);
	return 0;
}

/* Frees an entry, and takes it off its backend's count; under the bucket's lock. */
GLOBAL int NAME(free)(BUCKET *b, __u32 way)
{
	FLOW *f;
	struct backend *backend;
	__u32 word;

	if (!b || way >= WAYS)
		return 0;
	f = &b->flows[way];
	b->tags[way] = 0;
	/* What others would change it to finds another word from here on. */
	word = __sync_lock_test_and_set(&f->word, 0);
	if (word & FLOW_SECOND)
		NAME(unspill)(f, word);
	if (word & FLOW_REPLY)
		return 0;
	backend = backend_of(f->where.slot);
	if (backend && FLOW_STATE(word))
		count_end(backend, f->where.slot, FLOW_STATE(word));
	return 0;
}

/* The way of a flow in a bucket, or WAYS. */
GLOBAL __u32 NAME(way_of)(const BUCKET *b, __u16 tag, const struct packet *p)
{
	if (!b || !p)
		return WAYS;
	for (__u32 way = 0; way < WAYS; way++) {
		if (b->tags[way] == tag && NAME(is_key)(&b->flows[way], p))
			return way;
	}
	return WAYS;
}

/* The word of the flow that a reply's entry is of; 0 if that is gone. */
GLOBAL __u32 NAME(word_of_flow)(const FLOW *f)
{
	__u32 zero = 0, id;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);
	const struct addr6 *vip;
	struct packet p = {};
	__u64 hash;
	BUCKET *b;
	FLOW *of;
	__u32 way;

	if (!cfg || !f)
		return 0;
	id = f->other >> 16;
	vip = bpf_map_lookup_elem(&vip_addrs, &id);
	if (!vip)
		return 0;
#if FAMILY == V4
	p.src[0] = f->dst;
	p.dst[0] = vip->word[0];
#else
	copy_addr(p.src, f->dst, V6);
	copy_addr(p.dst, vip->word, V6);
#endif
	p.sport = f->dport;
	p.dport = f->other;
	p.proto = FLOW_PROTO(f->word);
	hash = flow_hash(cfg, &p, FAMILY);
	/* By a call: what is below this needs all of the stack that Linux 6.1 has. */
	b = NAME(bucket)(hash & cfg->MASK);
	way = NAME(way_of)(b, flow_tag(hash), &p);
	if (way >= WAYS) {
		b = NAME(bucket)((hash >> 20) & cfg->MASK);
		way = NAME(way_of)(b, flow_tag(hash), &p);
	}
	if (!b || way >= WAYS)
		return 0;
	of = &b->flows[way];
	return of->where.slot == f->where.slot ? of->word : 0;
}

/*
 * Whether the entry is of no use any more: quiet for too long, or its backend's slot is another's.
 * Of a reply's entry only the sweep can say, by word_of_flow.
 */
GLOBAL int NAME(is_dead)(__u32 now, const FLOW *f)
{
	struct backend *backend;

	if (!f)
		return 1;
	backend = backend_of(f->where.slot);
	if (!backend)
		return 1;
	return !(f->word & FLOW_REPLY) && is_over(now, f->seen, f->word, backend);
}

/*
 * Whether a reply's entry has outlived its flow, as when that was half open and put out. It stands
 * for a moment without it when both are new.
 */
INLINE int NAME(is_left)(__u32 now, const FLOW *f)
{
	return f->word & FLOW_REPLY && quiet(now, f->seen) >= GRACE && !NAME(word_of_flow)(f);
}

/*
 * A way for a new flow in this bucket, or WAYS; under its lock. `how`: 0 free ones only, 1 also
 * those whose time is over, 2 also those that yield, the one that has been quiet for longest.
 */
GLOBAL __u32 NAME(place)(BUCKET *b, __u32 now, __u32 how)
{
	__u32 best = WAYS, most = 0, zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	if (!b || !cfg)
		return WAYS;
	for (__u32 i = 0; i < WAYS; i++) {
		__u32 yield;

		if (!b->tags[i])
			return i;
		yield = how >= 1 && NAME(is_dead)(now, &b->flows[i]) ? 0xffffffff : 0;
		if (how == 2 && !yield)
			yield = yields(now, b->flows[i].word, b->flows[i].seen, cfg->hz);
		if (yield > most) {
			most = yield;
			best = i;
		}
	}
	if (best >= WAYS)
		return WAYS;
	NAME(free)(b, best);
	if (most != 0xffffffff)
		count(REASON_EVICTED);
	return best;
}

struct NAME(new) {
	__u64 hash;
	__u32 now;
	__u32 word;          /* without its generation */
	__u32 slot;
	__u32 other;
};

/* Writes a new flow into this way of a bucket, its second one if `first` is given; under its lock. */
INLINE void NAME(write)(BUCKET *b, __u32 way, const struct packet *p, const struct NAME(new) *n,
			BUCKET *first)
{
	__u32 word = n->word | (n->now + n->slot) << 16;
	FLOW *f = &b->flows[way];

#if FAMILY == V4
	f->src = p->src[0];
	f->dst = p->dst[0];
#else
	copy_addr(f->src, p->src, V6);
	copy_addr(f->dst, p->dst, V6);
#endif
	f->sport = p->sport;
	f->dport = p->dport;
	f->seen = n->now;
	f->other = n->other;
	if (first) {
		/* Before anybody can find it there. */
		__sync_fetch_and_add(&first->spilled, 1);
		word |= FLOW_SECOND;
	}
	*(volatile __u64 *)&f->where.both = (__u64)flow_check(n->hash) << 32 | n->slot;
	f->word = word;
	*(volatile __u16 *)&b->tags[way] = flow_tag(n->hash);
}

/* Puts a new flow into one of its buckets, with `first` into the second one; whether it did. */
GLOBAL int NAME(put)(BUCKET *b, const struct packet *p, const struct NAME(new) *n, __u32 how,
		     BUCKET *first)
{
	__u32 way;

	if (!b || !p || !n || !lock(&b->lock))
		return 0;
	way = NAME(place)(b, n->now, how);
	if (way < WAYS)
		NAME(write)(b, way, p, n, first);
	unlock(&b->lock);
	return way < WAYS;
}

/* Puts a new flow into the lowest way that is free, if one is. */
INLINE int NAME(put_free)(BUCKET *b, const struct packet *p, const struct NAME(new) *n)
{
	__u32 way = WAYS;

	if (!lock(&b->lock))
		return 0;
#pragma unroll
	for (int i = WAYS - 1; i >= 0; i--)
		way = b->tags[i] ? way : i;
	opaque(way);
	if (way < WAYS)
		NAME(write)(b, way, p, n, NULL);
	unlock(&b->lock);
	return way < WAYS;
}

GLOBAL int NAME(forget_in)(BUCKET *b, __u64 hash, const struct packet *p)
{
	if (!b || !p || !lock(&b->lock))
		return 0;
	NAME(free)(b, NAME(way_of)(b, flow_tag(hash), p));
	unlock(&b->lock);
	return 0;
}

/* Forgets a flow that is to be scheduled anew. */
GLOBAL int NAME(forget)(const struct config *cfg, __u64 hash, const struct packet *p)
{
	if (!cfg || !p)
		return 0;
	NAME(forget_in)(NAME(bucket)(hash & cfg->MASK), hash, p);
	NAME(forget_in)(NAME(bucket)((hash >> 20) & cfg->MASK), hash, p);
	return 0;
}

GLOBAL int NAME(forget_dead)(BUCKET *b, __u32 way, __u32 now)
{
	FLOW *f;
	__u32 word;

	if (!b || way >= WAYS)
		return 0;
	f = &b->flows[way];
	word = *(volatile __u32 *)&f->word;
	if (!NAME(is_dead)(now, f) && !NAME(is_left)(now, f))
		return 0;
	if (!lock(&b->lock))
		return 0;
	/* Another flow may have got its place meanwhile. */
	if (b->tags[way] && f->word == word && (word & FLOW_REPLY || NAME(is_dead)(now, f)))
		NAME(free)(b, way);
	unlock(&b->lock);
	return 0;
}

/* Frees a reply's entry whose flow is gone, or would yield itself. */
GLOBAL int NAME(forget_done)(BUCKET *b, __u32 way, __u32 now)
{
	__u32 zero = 0, word, of;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);
	FLOW *f;

	if (!b || way >= WAYS || !cfg)
		return 0;
	f = &b->flows[way];
	word = *(volatile __u32 *)&f->word;
	/* A flow is there before the entry of its replies: a flood leaves many without, all of them new. */
	if (!(word & FLOW_REPLY) || quiet(now, f->seen) < 2)
		return 0;
	of = NAME(word_of_flow)(f);
	if (of && (quiet(now, f->seen) < GRACE || !yields(now, of, f->seen, cfg->hz)))
		return 0;
	if (!lock(&b->lock))
		return 0;
	if (b->tags[way] && f->word == word)
		NAME(free)(b, way);
	unlock(&b->lock);
	return 0;
}

/*
 * Remembers a flow; whether it did. It takes the place of one that is half open, seen in mid-stream only
 * or over at most, so that a flood pushes out nothing else.
 */
GLOBAL int NAME(remember)(const struct config *cfg, const struct packet *p,
			  const struct NAME(new) *n)
{
	BUCKET *first, *second;

	if (!cfg || !p || !n)
		return 0;
	first = NAME(bucket)(n->hash & cfg->MASK);
	second = NAME(bucket)((n->hash >> 20) & cfg->MASK);
	if (!first || !second)
		return 0;
	if (likely(NAME(put_free)(first, p, n)) || NAME(put)(second, p, n, 0, first) ||
	    NAME(put)(first, p, n, 1, NULL) || NAME(put)(second, p, n, 2, first) ||
	    NAME(put)(first, p, n, 2, NULL))
		return 1;
	for (__u32 way = 0; way < WAYS; way++) {
		NAME(forget_done)(first, way, n->now);
		NAME(forget_done)(second, way, n->now);
	}
	if (NAME(put_free)(first, p, n) || NAME(put)(second, p, n, 0, first))
		return 1;
	count(REASON_NOT_RECORDED);
	return 0;
}

/* Forgets an entry that is over, of the buckets whose turn it is, eight steps each. */
static __attribute__((unused)) long NAME(sweep_step)(__u32 i, void *data)
{
	struct sweep *s = data;
	__u32 zero = 0, index = s->NEXT + i / 8, way = i % 8;
	struct config *cfg = bpf_map_lookup_elem(&config, &zero);
	BUCKET *b;

	if (!cfg)
		return 1;
	b = NAME(bucket)(index & cfg->MASK);
	if (!b)
		return 1;
	opaque(way);
	if (way < WAYS && b->tags[way])
		NAME(forget_dead)(b, way, s->last);
	return 0;
}
