/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Unwraps, on a node, packets that a director sent through a tunnel (RFC 2003, 2473, 4213): v4 or v6
 * in v4 or v6, where the inner destination is a VIP of this node. Everything else stays as it is.
 */
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FAMILY_V4 2
#define FAMILY_V6 10
/* Congestion that somebody on the way has told of (RFC 3168). */
#define ECN_CE 3

/* So many bytes the header of IPv6 is longer. */
#define DIFFERENCE ((__s32)(sizeof(struct ipv6hdr) - sizeof(struct iphdr)))

/* To the next program, and on. */
#define NEXT TC_ACT_UNSPEC

/* Bytes of the link layer's header before a packet: 14, or 0 where there is none. */
const volatile __u32 link_header = ETH_HLEN;

/* The VIPs, those of IPv4 as ::ffff:a.b.c.d. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct in6_addr);
	__type(value, __u32);
} vips SEC(".maps");

/* Places in `counts`. */
enum {
	UNWRAPPED,
	/* Dropped: congestion was told of to somebody who does not know the word (RFC 6040 §4.2). */
	DROPPED_ECN,
	/* Dropped: the kernel could not take the outer header away. */
	DROPPED_FAILED,
	COUNTS
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 place)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &place);

	if (value)
		(*value)++;
}

static __always_inline int is_vip_v4(__be32 address)
{
	struct in6_addr key = {};

	key.in6_u.u6_addr32[2] = bpf_htonl(0xffff);
	key.in6_u.u6_addr32[3] = address;
	return bpf_map_lookup_elem(&vips, &key) != NULL;
}

/*
 * Whether the packet's way ends here. A host that is no router has no other packets, and one that is
 * would find no way on for those.
 */
static __always_inline int ends_here(struct __sk_buff *skb, struct bpf_fib_lookup *way)
{
	long found;

	way->ifindex = skb->ifindex;
	found = bpf_fib_lookup(skb, way, sizeof(*way), 0);
	return found == BPF_FIB_LKUP_RET_NOT_FWDED || found == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/*
 * Takes the outer header away. Between families the kernel knows a change of the header's length only
 * together with one of the protocol, until 6.3: so that first, and then what is left of the header.
 */
static __always_inline int take_away(struct __sk_buff *skb, __u32 outer, __u16 from, __u16 to)
{
	__be16 protocol = bpf_htons(to);
	__s32 left = outer;

	if (from != to) {
		if (bpf_skb_change_proto(skb, protocol, 0))
			return -1;
		left += from == ETH_P_IP ? DIFFERENCE : -DIFFERENCE;
	}
	/* Segments keep their sizes: that is how the sender cut them. */
	if (bpf_skb_adjust_room(skb, -left, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return -1;
	if (from != to && link_header == ETH_HLEN)
		return bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol,
					   sizeof(protocol), 0);
	return 0;
}

static __always_inline int unwrap(struct __sk_buff *skb, __u32 outer, __u16 from, __u16 to, __u8 ecn)
{
	__u8 inner_ecn = 0;
	__u8 head[2];

	if (ecn == ECN_CE) {
		if (bpf_skb_load_bytes(skb, link_header + outer, head, sizeof(head)))
			return NEXT;
		inner_ecn = to == ETH_P_IP ? head[1] & 3 : (head[1] >> 4) & 3;
		if (!inner_ecn) {
			count(DROPPED_ECN);
			return TC_ACT_SHOT;
		}
	}
	if (take_away(skb, outer, from, to)) {
		/* It may be half done. */
		count(DROPPED_FAILED);
		return TC_ACT_SHOT;
	}
	if (ecn == ECN_CE && inner_ecn != ECN_CE)
		bpf_skb_ecn_set_ce(skb);
	count(UNWRAPPED);
	return NEXT;
}

/* Whether the inner packet, which begins at this offset, is for a VIP. */
static __always_inline int for_vip(struct __sk_buff *skb, __u32 offset, __u8 protocol)
{
	if (protocol == IPPROTO_IPIP) {
		struct iphdr inner;

		return !bpf_skb_load_bytes(skb, offset, &inner, sizeof(inner)) &&
		       inner.version == 4 && inner.ihl >= 5 && is_vip_v4(inner.daddr);
	}
	if (protocol == IPPROTO_IPV6) {
		struct ipv6hdr inner;

		return !bpf_skb_load_bytes(skb, offset, &inner, sizeof(inner)) &&
		       inner.version == 6 && bpf_map_lookup_elem(&vips, &inner.daddr);
	}
	return 0;
}

static __always_inline __u16 family(__u8 protocol)
{
	return protocol == IPPROTO_IPIP ? ETH_P_IP : ETH_P_IPV6;
}

static __always_inline int from_v4(struct __sk_buff *skb)
{
	struct bpf_fib_lookup way = {};
	struct iphdr outer;
	__u32 len;

	if (bpf_skb_load_bytes(skb, link_header, &outer, sizeof(outer)))
		return NEXT;
	if (outer.version != 4 || outer.ihl < 5)
		return NEXT;
	/* Fragments would have to be put together first. */
	if (outer.frag_off & bpf_htons(0x3fff))
		return NEXT;
	len = outer.ihl * 4;
	if (!for_vip(skb, link_header + len, outer.protocol))
		return NEXT;
	way.family = FAMILY_V4;
	way.ipv4_src = outer.saddr;
	way.ipv4_dst = outer.daddr;
	if (!ends_here(skb, &way))
		return NEXT;
	return unwrap(skb, len, ETH_P_IP, family(outer.protocol), outer.tos & 3);
}

static __always_inline int from_v6(struct __sk_buff *skb)
{
	struct bpf_fib_lookup way = {};
	struct ipv6hdr outer;
	__u32 len = sizeof(outer);
	__u8 protocol;

	if (bpf_skb_load_bytes(skb, link_header, &outer, sizeof(outer)))
		return NEXT;
	if (outer.version != 6)
		return NEXT;
	protocol = outer.nexthdr;
	/* Linux puts options before a tunnelled packet that say how deep tunnels may go (RFC 2473 §5.1). */
	if (protocol == IPPROTO_DSTOPTS) {
		struct ipv6_opt_hdr options;

		if (bpf_skb_load_bytes(skb, link_header + len, &options, sizeof(options)))
			return NEXT;
		protocol = options.nexthdr;
		len += (options.hdrlen + 1) * 8;
	}
	if (!for_vip(skb, link_header + len, protocol))
		return NEXT;
	way.family = FAMILY_V6;
	__builtin_memcpy(way.ipv6_src, &outer.saddr, sizeof(way.ipv6_src));
	__builtin_memcpy(way.ipv6_dst, &outer.daddr, sizeof(way.ipv6_dst));
	if (!ends_here(skb, &way))
		return NEXT;
	return unwrap(skb, len, ETH_P_IPV6, family(protocol), (outer.flow_lbl[0] >> 4) & 3);
}

SEC("classifier")
int plimsoll_node(struct __sk_buff *skb)
{
	/* What has a VLAN tag is for another interface, and comes here again without it. */
	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return NEXT;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return from_v4(skb);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return from_v6(skb);
	return NEXT;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
