/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* ICMP of one family; included by icmp.h once for each. */

/* An error about what a backend sent to a client, from somewhere on the way: to that backend. */
GLOBAL int NAME(error_to_backend)(context *ctx, const struct config *cfg, struct packet *p,
				  const struct vip *vip)
{
	struct packet quoted = {};
	const struct nexthop *h;
	__u32 slot = NOBODY, reason = REASON_NO_ROUTE, now = jiffies(), index;
	struct service *s;
	struct backend *b;
	__u64 hash;

	if (!cfg || !p || !vip)
		return PASS;
	if (!parse_quoted(ctx, p, &quoted, FAMILY)) {
		count(REASON_ICMP_UNKNOWN);
		return PASS;
	}
	hash = flow_hash(cfg, &quoted, FAMILY);
	if (!NAME(find)(cfg, hash, &quoted, &slot)) {
		/* A flow that is not remembered has the backend that its hash leads to. */
		index = service_of(vip, &quoted);
		s = bpf_map_lookup_elem(&services, &index);
		if (s && s->sched == SCHED_HASH)
			slot = schedule(index, s, client_hash(s, &quoted, FAMILY));
	}
	b = slot == NOBODY ? NULL : backend_of(slot);
	if (!b) {
		count(REASON_ICMP_UNKNOWN);
		return PASS;
	}
	if (b->method != METHOD_NAT)
		return NAME(onward)(ctx, cfg, p, b, slot, hash, now);
	/* The quoted source was the VIP for the client's side; the backend knows itself there. */
	if (b->family != FAMILY)
		return drop(REASON_FAMILY);
	h = nexthop_of(ctx, b, slot, now, cfg->hz, &reason);
	if (!h)
		return drop(reason);
	if (leaves_to_tc(h))
		return PASS;
	count_in(SLOT_INDEX(slot), p->len);
	{
		struct end to;

		backend_end(b, &quoted, &to);
		if (!rewrite_error(ctx, p, quoted.dst, quoted.dport, &to, FAMILY, SOURCE, 1))
			return drop(REASON_CHECKSUM);
	}
	return send_direct(ctx, b, h, FAMILY);
}

/* An error about what a client sent to a NAT backend, from it or the way there: to that client. */
GLOBAL int NAME(error_to_client)(context *ctx, const struct config *cfg, struct packet *p)
{
	struct bpf_fib_lookup way = {};
	struct packet quoted = {};
	__u32 slot;
	struct end vip;
	FLOW *f;
	int result, verdict, outer;

	if (!cfg || !p || !parse_quoted(ctx, p, &quoted, FAMILY))
		return PASS;
	f = NAME(find)(cfg, flow_hash(cfg, &quoted, FAMILY), &quoted, &slot);
	if (!f || !(f->word & FLOW_REPLY) || !backend_of(slot) || !vip_end(f->other, &vip))
		return PASS;
	verdict = fib_to(ctx, FAMILY, p->dst, vip.addr, &way, &result);
	if (verdict != WAY_KNOWN)
		return verdict;
	count_out(SLOT_INDEX(slot), p->len);
	/* From the backend itself it comes from the VIP; a router on the way keeps its name. */
	outer = same_addr(p->src, quoted.src, FAMILY);
	if (!rewrite_error(ctx, p, quoted.src, quoted.sport, &vip, FAMILY, DESTINATION, outer))
		return drop(REASON_CHECKSUM);
	return send_to_client(ctx, &way, result, FAMILY);
}

INLINE int NAME(icmp)(context *ctx, const struct config *cfg, struct packet *p,
		      const struct vip *vip)
{
	__u32 at = p->l4;
	struct icmp *icmp;
	__u8 type, code;

	opaque(at);
	if (at > 512)
		return PASS;
	icmp = DATA(ctx) + at;
	if ((void *)(icmp + 1) > DATA_END(ctx)) {
		if (!vip)
			return PASS;
		return drop(REASON_MALFORMED);
	}
	type = icmp->type;
	code = icmp->code;
	if (cfg->flags & CONFIG_TUNNEL && is_too_big(type, code, FAMILY) &&
	    learn_mtu(ctx, cfg, p, FAMILY))
		return PASS;
	if (is_error(type, FAMILY))
		return vip ? NAME(error_to_backend)(ctx, cfg, p, vip) :
			     NAME(error_to_client)(ctx, cfg, p);
	if (vip && vip->flags & VIP_ECHO && code == 0 &&
	    type == (FAMILY == V4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST))
		return echo(ctx, p, FAMILY);
	return PASS;
}
