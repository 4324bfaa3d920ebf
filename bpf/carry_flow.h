/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Enters a flow that another layout had, of one family; included by carry.c once for each. */

GLOBAL int NAME(carry)(const struct config *cfg, const struct packet *p, const struct carried *c)
{
	struct NAME(new) n = {};
	const struct backend *b;
	__u32 slot, state;
	FLOW *f;

	if (!cfg || !p || !c)
		return CARRIED_FULL;
	b = backend_of(c->slot);
	if (!b)
		return CARRIED_STALE;
	n.hash = flow_hash(cfg, p, FAMILY);
	n.now = jiffies();
	/* In which bucket it comes here is found anew. */
	n.word = c->word % FLOW_GENERATION & ~FLOW_SECOND;
	n.slot = c->slot;
	n.other = c->other;
	state = FLOW_STATE(n.word);
	f = NAME(find)(cfg, n.hash, p, &slot);
	if (f) {
		/* What packets made of it here since is newer. */
		if ((__s32)(c->seen - f->seen) <= 0)
			return CARRIED_KNOWN;
		if (slot == n.slot && f->other == n.other) {
			if (!(f->word & FLOW_REPLY))
				change_state(&f->word, slot, f->word, state);
			f->seen = c->seen;
			return CARRIED_KNOWN;
		}
		/* Its client has begun anew with the same port there. */
		NAME(forget)(cfg, n.hash, p);
	}
	if (!(n.word & FLOW_REPLY))
		count_begin(b, n.slot, state);
	if (!NAME(remember)(cfg, p, &n)) {
		if (!(n.word & FLOW_REPLY))
			count_end(b, n.slot, state);
		return CARRIED_FULL;
	}
	f = NAME(find)(cfg, n.hash, p, &slot);
	if (f)
		f->seen = c->seen;
	return CARRIED_NEW;
}
