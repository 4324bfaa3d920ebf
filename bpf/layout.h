/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the programs and the process share: the values of the maps. Mirrored by
 * crates/plane-ebpf/src/layout.rs, which a test compares with this file's BTF.
 *
 * A change of any size, field or meaning raises LAYOUT_VERSION: a process that finds programs of
 * another version copies what they hold instead of sharing their maps. It knows no other layout: it
 * reads the types that the kernel keeps with each map, and goes by names. So these hold for ever:
 *
 * - The first word of `config` is the version. Programs and maps keep their names.
 * - A field keeps its name as long as it keeps its meaning; numbers of an enum and bits of flags keep
 *   theirs. What has another meaning has another name. It may move, and become wider or narrower.
 * - A field that is new is zero after a takeover, and that means what was before there was such a field.
 *
 * Addresses and ports are in network order; a v4 address is the first word of four.
 * Times are jiffies, cut to 32 bits and compared as signed differences.
 */
#pragma once

#include <linux/types.h>

#ifndef PLIMSOLL_OTHER_LAYOUT
#define LAYOUT_VERSION 1
#define WAYS 7
#define ELSEWHERE
#define WIDE __u32
#else
/* For tests of a takeover: the same fields in other places, some of them wider. */
#define LAYOUT_VERSION 1000
#define WAYS 5
#define ELSEWHERE __u32 elsewhere[2];
#define WIDE __u64
#endif

/* An address; v4 in the first word. */
struct addr6 {
	__u32 word[4];
};

/* The one value of the map `config`. */
struct config {
	__u32 layout;        /* LAYOUT_VERSION */
	__u32 hz;            /* jiffies in a second */
	ELSEWHERE
	__u32 buckets4;      /* buckets of flows4 less one: a power of two less one */
	__u32 buckets6;      /* the same of flows6 */
	__u64 seed;          /* of the hash of flows */
	__u32 flags;         /* CONFIG_… */
	__u32 sweep4;        /* buckets of flows4 looked through in one jiffy */
	__u32 sweep6;        /* the same of flows6 */
	__be32 tunnel4;      /* network of outer v4 source addresses; 0: the route's own */
	__be32 host4;        /* the bits of them that are the flow's */
	__u32 pad;
	__u32 tunnel6[4];    /* network of outer v6 source addresses; its last 32 bits are the flow's */
};

#define CONFIG_NAT 1         /* there are NAT backends: look for replies */
#define CONFIG_TUNNEL 2      /* there are tunnels: look for what routers say of them */

/* Where the sweep is; the one value of the map `sweep`. */
struct sweep {
	ELSEWHERE
	__u32 last;          /* the jiffy in which it last went on */
	__u32 next4;         /* bucket of flows4 that comes next */
	__u32 next6;         /* the same of flows6 */
	__u32 pad;
};

/* An address that services listen on. */
struct vip {
	ELSEWHERE
	__u32 id;            /* key of what is listened on there; at most 65535 */
	__u32 flags;         /* VIP_… */
};

#define VIP_RANGES 1         /* ports in ranges: look into `ranges` */
#define VIP_ALL 2            /* all ports: look for port 0 in `listens` */
#define VIP_ECHO 4           /* echo requests are answered */

/* What is listened on; port 0 is every port. */
struct listen {
	ELSEWHERE
	__u32 vip;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

#define RANGES 16

struct range {
	ELSEWHERE
	__u16 first;         /* host order */
	__u16 last;          /* host order, included */
	__u32 service;
};

/* The ports in ranges of one VIP and protocol, in no order, not overlapping. */
struct ranges {
	ELSEWHERE
	__u32 count;
	struct range range[RANGES];
};

enum sched {
	SCHED_HASH = 0,      /* the set is a table, entered by a hash of the client */
	SCHED_TURN = 1,      /* the set is a cycle, entered by turns */
	SCHED_RANDOM = 2,    /* the set is a table, entered by chance */
	SCHED_LEAST = 3,     /* the set is a list: the least loaded by weight (wlc) */
	SCHED_SED = 4,       /* the same, the connection to come counted */
	SCHED_NQ = 5,        /* the first that is idle, else as SCHED_SED */
	SCHED_FIRST = 6,     /* the set is a list in order of preference: the first that can */
	SCHED_OVF = 7,       /* the same; the first with no more active than its weight */
	SCHED_TWOS = 8,      /* the set is a table: the less loaded of two by chance */
	SCHED_LC = 9,        /* the set is a list: the least loaded, whatever the weights */
};

enum hash_key {
	HASH_SOURCE = 0,
	HASH_SOURCE_PORT = 1,
	HASH_DESTINATION = 2,
};

/* What a TCP packet in mid-stream leads to that belongs to no known flow. */
enum midstream {
	MIDSTREAM_SCHEDULE = 0,
	MIDSTREAM_DROP = 1,
	MIDSTREAM_RESET = 2,
	MIDSTREAM_PASS = 3,  /* in a takeover: left to the programs that are there still */
};

/* States of a flow. */
enum state {
	STATE_NONE = 0,
	STATE_SYN = 1,       /* a SYN was seen, nothing after it */
	STATE_MIDDLE = 2,    /* seen in mid-stream only */
	STATE_ESTABLISHED = 3,
	STATE_FIN = 4,       /* one side has closed */
	STATE_CLOSING = 5,   /* both sides have closed */
	STATE_RESET = 6,
	STATE_UDP = 7,
	STATES = 8,
};

/* Its backends are a map of slots in `sets`, under its own number; the first value counts them. */
struct service {
	ELSEWHERE
	__u32 flags;         /* SERVICE_… */
	__u32 sched;         /* enum sched */
	__u32 key;           /* enum hash_key */
	__u32 midstream;     /* enum midstream */
	__u64 seed;          /* of the hash of clients */
	__u32 timeouts[STATES]; /* jiffies */
	__u32 mss;           /* what SYNs may announce at most; 0: what they like; MSS_FIT */
	__u32 pad;
	__u64 turn;          /* of SCHED_TURN; on a cache line of its own */
	__u64 pad2[7];
};

#define SERVICE_USED 1

#define MSS_FIT 0xffffffff   /* what fits the way to the backend */

enum method {
	METHOD_LOCAL = 0,    /* handed to the director's own stack */
	METHOD_DR = 1,
	METHOD_TUNNEL = 2,
	METHOD_NAT = 3,
};

/* The next hop to a backend, as the kernel's routing table had it. */
struct nexthop {
	__u8 dst[6];
	__u8 src[6];
	__u32 ifindex;
	__u16 mtu;
	__u8 flags;          /* NEXTHOP_… */
	__u8 result;         /* BPF_FIB_LKUP_RET_… */
};

#define NEXTHOP_NEIGHBOUR 1  /* the link-layer address is not known: the kernel's neighbours do it */
#define NEXTHOP_XDP 2        /* the interface can be sent to from XDP */
#define NEXTHOP_VALID 4

/* One backend of one service, as the process wants it. */
struct backend {
	ELSEWHERE
	__u32 flags;         /* BACKEND_… */
	__u8 generation;     /* of the slot; flows of another one are stale */
	__u8 method;         /* enum method */
	__u8 family;         /* 4 or 6: of its address */
	__u8 pad;
	__u32 service;
	__be16 port;         /* 0: the packet's own */
	__u16 pad1;
	__u32 addr[4];
	__u32 until;         /* with BACKEND_DEADLINE: when its flows end */
	WIDE weight;
	WIDE upper;
	WIDE lower;
	__u32 outer[4];      /* tunnel: the source address of the outer header */
};

/* The same backend, as the programs find it; only they write here. */
struct live {
	ELSEWHERE
	__u32 refresh;       /* when the next hop is looked up again */
	__u32 nexthop;       /* which of the two is in force */
	struct nexthop hops[2];
	__u32 path_mtu;      /* tunnel: what a router on the way said that fits; 0: nobody did */
	__u32 path_until;    /* until when that is believed */
	__u32 pad[2];
	/* counts over all cores, on a line of their own */
	__u32 active;        /* established and UDP flows */
	__u32 inactive;      /* all others */
	__u32 overloaded;    /* has met `upper`, and not been below `lower` since */
	__u32 pad1[13];
};

#define BACKEND_USED 1
#define BACKEND_NEW 2        /* takes new flows */
#define BACKEND_DEADLINE 4   /* its flows end at `until` */
#define BACKEND_GONE 8       /* its UDP flows move at once */
#define BACKEND_RESET 16     /* TCP flows that have to end are reset, not given to another */
#define BACKEND_LEFT 32      /* its service has it no more: the slot waits for its flows to end */

/* A flow's word: protocol, state, flags and generation, changed by compare-and-exchange only. */
#define FLOW_PROTO(word) ((word) & 0xff)
#define FLOW_STATE(word) (((word) >> 8) & 0xf)
#define FLOW_REPLY 0x1000    /* of the other direction of a NAT flow */
#define FLOW_SECOND 0x4000   /* is in its second bucket, and counted in the first one's `spilled` */
#define FLOW_GENERATION 0x10000

/* In `slot`: the slot's generation in the highest 8 bits. */
#define SLOT_INDEX(slot) ((slot) & 0xffffff)
#define SLOT_GENERATION(slot) ((slot) >> 24)

/*
 * Where a flow goes. Read in one piece: if `check` is not the upper half of the hash of the flow's
 * key, the entry was given to another flow while it was read.
 */
union where {
	struct {
		__u32 slot;
		__u32 check;
	};
	__u64 both;
};

struct flow4 {
	ELSEWHERE
	__be32 src, dst;
	__be16 sport, dport;
	__u32 word;
	union where where;
	__u32 seen;          /* when it was last seen, give or take half a second */
	__u32 other;         /* reply: VIP's id << 16 | its port in network order; else unused */
};

struct flow6 {
	ELSEWHERE
	__u32 src[4], dst[4];
	__be16 sport, dport;
	__u32 word;
	union where where;
	__u32 seen;
	__u32 other;
	__u32 pad[2];
};

/* Flows whose hashes meet. A way with tag 0 is free. */
struct bucket4 {
	ELSEWHERE
	__u32 lock;
	__u16 tags[WAYS];
	__u16 pad;
	__u32 spilled;       /* flows of this bucket that are in their second one */
	__u32 pad1[2];
	struct flow4 flows[WAYS];
};

struct bucket6 {
	ELSEWHERE
	__u32 lock;
	__u16 tags[WAYS];
	__u16 pad;
	__u32 spilled;
	__u32 pad1[10];
	struct flow6 flows[WAYS];
};

/* Counts of one backend, one value a core. */
struct traffic {
	ELSEWHERE
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
	__u64 flows;
	__u64 resets;        /* flows that were ended by the director */
};

/* Why a packet to a VIP was not forwarded, or something else worth counting; see reasons.h. */
enum reason {
#define REASON(name, text) REASON_##name,
#include "reasons.h"
#undef REASON
	REASONS
};

#define LINK_XDP 1           /* can be sent to from XDP */

/* A text that belongs to a service or a backend: `kind` in 0.., `id`, and in pieces. */
struct note_key {
	ELSEWHERE
	__u32 kind;
	__u32 id;
	__u32 piece;
};

#define NOTE 116

struct note {
	ELSEWHERE
	__u32 len;           /* of this piece; the last piece is shorter than NOTE */
	__u8 text[NOTE];
};

#ifndef PLIMSOLL_OTHER_LAYOUT
_Static_assert(sizeof(struct flow4) == 32, "flow4");
_Static_assert(sizeof(struct flow6) == 64, "flow6");
_Static_assert(sizeof(struct bucket4) == 256, "bucket4");
_Static_assert(sizeof(struct bucket6) == 512, "bucket6");
_Static_assert(sizeof(struct service) == 128, "service");
_Static_assert(sizeof(struct backend) == 64, "backend");
_Static_assert(sizeof(struct live) == 128, "live");
#endif
