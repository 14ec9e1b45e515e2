/* The shim layer of a host: Shim6 (RFC 5533) and REAP (RFC 5534) for IPv6 stacks written in C.
 *
 * Generated from shim6-capi/src; SHIM6_WRITE_HEADER=1 cargo test -p shim6-capi header writes it anew. README.md there has the
 * calling order.
 *
 * Rules for all functions:
 *
 * - There is no global state. Different handles have nothing to do with each other. One handle is for one thread at a time,
 *   any thread; an identity is never changed and may be read by several at once.
 * - No function waits, opens anything, reads a clock or keeps a pointer that it was given. `now` is in microseconds since an epoch
 *   of the caller's choice, from a clock that does not jump. Randomness comes from the seeds given.
 * - A pointer points to what its type says, or is NULL where that is allowed; else SHIM6_STATUS_BAD_POINTER comes back. Structures may lie
 *   anywhere in memory, aligned or not. What comes out is only written when the status is SHIM6_STATUS_OK, unless it says otherwise.
 * - Structures whose size is given with them may grow in later versions: pass sizeof of the one that was compiled in.
 * - Negative statuses are errors. Octets of addresses are in network order, all numbers in the order of the host.
 * - Whatever arrives from the network, at worst it is counted and dropped. */

#ifndef SHIM6_H
#define SHIM6_H

#include <stddef.h>
#include <stdint.h>

/**
 * Octets that have to be free in front of a packet for shim6_send: it grows by as many when it is rewritten. So the MTU of
 * what is above the shim is the interface's less this.
 */
#define SHIM6_HEADROOM 8

/**
 * Octets of a seed.
 */
#define SHIM6_SEED_LEN 32

/**
 * Octets that a buffer for shim6_poll_transmit and shim6_poll_deliver needs at least.
 */
#define SHIM6_LEAST_BUFFER 1280

/**
 * Stands for a time that is not known, or never comes.
 */
#define SHIM6_NEVER 18446744073709551615ull

/**
 * What a function did. Negative: nothing, because of an error of the caller's or because it cannot be done now.
 */
enum shim6_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done; what comes out has been written.
     */
    SHIM6_STATUS_OK = 0,
    /**
     * There is nothing: no packet comes of it, or nothing is waiting, or there is no such thing.
     */
    SHIM6_STATUS_NONE = 1,
    /**
     * Begun: an event tells if it succeeds.
     */
    SHIM6_STATUS_PENDING = 2,
    /**
     * A pointer is NULL that must not be, or a handle is misaligned.
     */
    SHIM6_STATUS_BAD_POINTER = -1,
    /**
     * A structure has a size that this version of the library does not know.
     */
    SHIM6_STATUS_BAD_SIZE = -2,
    /**
     * A number is out of its range.
     */
    SHIM6_STATUS_BAD_ARGUMENT = -3,
    /**
     * There are fewer than SHIM6_HEADROOM octets in front of the packet.
     */
    SHIM6_STATUS_NO_HEADROOM = -4,
    /**
     * The buffer is too short. Nothing is lost: try again with a longer one.
     */
    SHIM6_STATUS_BUFFER_TOO_SHORT = -5,
    /**
     * There is no prefix, or too many, or one twice, or one under which a host can have no address.
     */
    SHIM6_STATUS_BAD_PREFIXES = -6,
    /**
     * The octets are no identity that was saved.
     */
    SHIM6_STATUS_BAD_IDENTITY = -7,
    /**
     * Three sets of addresses were in use by others already (RFC 5535 section 6).
     */
    SHIM6_STATUS_TOO_MANY_COLLISIONS = -8,
    /**
     * The first address is none of this host's identity, or the second one is.
     */
    SHIM6_STATUS_NOT_OURS = -9,
    /**
     * The pair shall have no contexts, as shim6_set_protection said.
     */
    SHIM6_STATUS_NEVER = -10,
    /**
     * There is such a context already.
     */
    SHIM6_STATUS_EXISTS = -11,
    /**
     * An exchange with the peer failed lately, so it is left alone for a while.
     */
    SHIM6_STATUS_HOLD_DOWN = -12,
    /**
     * As many contexts or flows as the configuration allows.
     */
    SHIM6_STATUS_LIMIT = -13,
    /**
     * There is no such context.
     */
    SHIM6_STATUS_NO_CONTEXT = -14,
    /**
     * The context is not established yet.
     */
    SHIM6_STATUS_NOT_ESTABLISHED = -15,
    /**
     * Not a pair of locators of this context that both hosts have verified.
     */
    SHIM6_STATUS_NOT_A_PAIR = -16,
    /**
     * The local locator cannot be used now, as shim6_handle_locator said.
     */
    SHIM6_STATUS_UNUSABLE = -17,
    /**
     * The context is looking for a working pair by itself.
     */
    SHIM6_STATUS_SEARCHING = -18,
    /**
     * The context sent a test a moment ago.
     */
    SHIM6_STATUS_TOO_SOON = -19,
    /**
     * Too many probes that were asked for are under way.
     */
    SHIM6_STATUS_BUSY = -20,
    /**
     * A fault in this library. The handle can only be freed.
     */
    SHIM6_STATUS_INTERNAL = -99,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_status shim6_status;
#else
typedef int32_t shim6_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What happened. A later version may have others: ignore what is not known.
 */
enum shim6_event_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Something that this version has no name for.
     */
    SHIM6_EVENT_KIND_OTHER = 0,
    /**
     * A context is established: from now on the sessions of `pair`, its ULIDs, survive a failure. `initiator` is 1 if this
     * host began.
     */
    SHIM6_EVENT_KIND_ESTABLISHED = 1,
    /**
     * The peer of `pair` did not answer, so it is left alone for a while. No context.
     */
    SHIM6_EVENT_KIND_NO_ANSWER = 2,
    /**
     * The peer of `pair` does not know the protocol, so it is left alone for longer. No context.
     */
    SHIM6_EVENT_KIND_NO_SUPPORT = 3,
    /**
     * The peer has lost the context, most likely in a restart. It is set up again.
     */
    SHIM6_EVENT_KIND_RECOVERING = 4,
    /**
     * The peer has other locators, or prefers them in another way.
     */
    SHIM6_EVENT_KIND_PEER_UPDATED = 5,
    /**
     * The peer cannot take what this host told it of its locators: `code` of its Error message (RFC 5533 section 5.14).
     */
    SHIM6_EVENT_KIND_UPDATE_REFUSED = 6,
    /**
     * A failure is noticed, or the peer is heard again, or all is well again: `former_state`, `state` and `cause`.
     */
    SHIM6_EVENT_KIND_REACHABILITY = 7,
    /**
     * The path changed from `former` to `pair` because of `cause`, after `duration` without a working one. A transport
     * should take its congestion state for unknown.
     */
    SHIM6_EVENT_KIND_PATH_CHANGED = 8,
    /**
     * A probe of `pair` that was asked for was answered after `duration`.
     */
    SHIM6_EVENT_KIND_PROBE_ANSWERED = 9,
    /**
     * The context of the ULIDs `pair` is gone, because of `reason`.
     */
    SHIM6_EVENT_KIND_CLOSED = 10,
    /**
     * The peer with the ULID `pair.peer` claimed a locator, `locator`, that it could not prove. No context.
     */
    SHIM6_EVENT_KIND_LOCATOR_REFUSED = 11,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_event_kind shim6_event_kind;
#else
typedef uint32_t shim6_event_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why something happened.
 */
enum shim6_cause
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Nothing, or something that this version has no name for.
     */
    SHIM6_CAUSE_UNKNOWN = 0,
    /**
     * Nothing came from the peer for the Send Timeout.
     */
    SHIM6_CAUSE_SEND_TIMEOUT = 1,
    /**
     * The peer was heard.
     */
    SHIM6_CAUSE_PEER_REPORT = 2,
    /**
     * shim6_handle_locator said that the local locator is lost.
     */
    SHIM6_CAUSE_LOCAL_HINT = 3,
    /**
     * A router could not send a packet on.
     */
    SHIM6_CAUSE_ICMP_ERROR = 4,
    /**
     * shim6_move_to, or another command, asked for it.
     */
    SHIM6_CAUSE_REQUESTED = 5,
    /**
     * shim6_handle_hint said that there is no progress.
     */
    SHIM6_CAUSE_TRANSPORT_HINT = 6,
    /**
     * A pair that is preferred to the one in use works again.
     */
    SHIM6_CAUSE_PREFERRED = 7,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_cause shim6_cause;
#else
typedef uint32_t shim6_cause;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whether the current pair of locators works (RFC 5534 section 6).
 */
enum shim6_reachability
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It is assumed to work.
     */
    SHIM6_REACHABILITY_OPERATIONAL = 0,
    /**
     * Nothing was heard from the peer for a Send Timeout.
     */
    SHIM6_REACHABILITY_EXPLORING = 1,
    /**
     * The peer is heard, but may not hear this host.
     */
    SHIM6_REACHABILITY_INBOUND_OK = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_reachability shim6_reachability;
#else
typedef uint32_t shim6_reachability;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why a context is gone.
 */
enum shim6_close_reason
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It is not, or the reason has no name in this version.
     */
    SHIM6_CLOSE_REASON_UNKNOWN = 0,
    /**
     * shim6_close or shim6_set_protection asked for it.
     */
    SHIM6_CLOSE_REASON_REQUESTED = 1,
    /**
     * The peer has lost it, and uses its tag for another one.
     */
    SHIM6_CLOSE_REASON_CONFUSION = 2,
    /**
     * Nothing has passed for long.
     */
    SHIM6_CLOSE_REASON_QUIESCENT = 3,
    /**
     * It made room for another one.
     */
    SHIM6_CLOSE_REASON_EVICTED = 4,
    /**
     * The peer had lost it, and did not answer when it was to be set up again.
     */
    SHIM6_CLOSE_REASON_NO_ANSWER = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_close_reason shim6_close_reason;
#else
typedef uint32_t shim6_close_reason;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The state of a context (RFC 5533 section 6.2).
 */
enum shim6_context_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Something that this version has no name for.
     */
    SHIM6_CONTEXT_STATE_OTHER = 0,
    /**
     * The first message of the exchange was sent.
     */
    SHIM6_CONTEXT_STATE_I1_SENT = 1,
    /**
     * The third message was sent.
     */
    SHIM6_CONTEXT_STATE_I2_SENT = 2,
    /**
     * The peer lost the context, which is set up again.
     */
    SHIM6_CONTEXT_STATE_I2BIS_SENT = 3,
    /**
     * Both hosts have it.
     */
    SHIM6_CONTEXT_STATE_ESTABLISHED = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_context_state shim6_context_state;
#else
typedef uint32_t shim6_context_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * For which size of device what a configuration does not say is made: rates of answers and of hashes.
 */
enum shim6_device
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * A host.
     */
    SHIM6_DEVICE_HOST = 0,
    /**
     * One with little memory and a slow processor.
     */
    SHIM6_DEVICE_SMALL = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_device shim6_device;
#else
typedef uint32_t shim6_device;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What an upper layer knows of a path.
 */
enum shim6_hint
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The peer has acknowledged something: the pair in use works both ways.
     */
    SHIM6_HINT_PROGRESS = 0,
    /**
     * The peer has not acknowledged what it should have.
     */
    SHIM6_HINT_STALLED = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_hint shim6_hint;
#else
typedef uint32_t shim6_hint;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which timers are agreed upon with peers.
 */
enum shim6_profile
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Timeouts in milliseconds with peers that announce that they can, those of RFC 5534 with all others.
     */
    SHIM6_PROFILE_FAST = 0,
    /**
     * The timers of RFC 5534 with all peers.
     */
    SHIM6_PROFILE_RFC = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_profile shim6_profile;
#else
typedef uint32_t shim6_profile;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whether a pair of ULIDs may have contexts.
 */
enum shim6_protection
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * As the configuration has it.
     */
    SHIM6_PROTECTION_BY_POLICY = 0,
    /**
     * Never: none is set up, the peer's attempts get no answer, and what there is is closed.
     */
    SHIM6_PROTECTION_NEVER = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shim6_protection shim6_protection;
#else
typedef uint32_t shim6_protection;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The addresses of a host, one under each of its prefixes, made so that peers can verify that they belong together (RFC 5535).
 */
typedef struct shim6_identity shim6_identity;

/**
 * The shim layer of a host: it sits between the IP layer of a stack and its interfaces.
 */
typedef struct shim6 shim6;

/**
 * An IPv6 address; the octets are those of struct in6_addr.
 */
typedef struct shim6_address {
    /**
     * In network order.
     */
    uint8_t octets[16];
} shim6_address;

/**
 * An address of this host and one of the peer's.
 */
typedef struct shim6_pair {
    /**
     * Of this host.
     */
    struct shim6_address local;
    /**
     * Of the peer.
     */
    struct shim6_address peer;
} shim6_pair;

/**
 * A flow of a transport between two ULIDs.
 */
typedef struct shim6_flow {
    /**
     * The addresses that the transport knows.
     */
    struct shim6_pair ulids;
    /**
     * This host's port.
     */
    uint16_t local_port;
    /**
     * The peer's port.
     */
    uint16_t peer_port;
    /**
     * The transport's protocol number: 6 for TCP, 17 for UDP.
     */
    uint8_t protocol;
    /**
     * Not used.
     */
    uint8_t reserved[3];
} shim6_flow;

/**
 * Configuration of a shim: shim6_config_init gives the defaults. Times are in microseconds.
 */
typedef struct shim6_config {
    /**
     * How long a sent packet may stay without an answer before another path is looked for, with peers that agree to such
     * times: 50 ms to 100 s. 120 ms.
     */
    uint64_t send_timeout;
    /**
     * The time between the first probes: 10 ms to 10 s. 50 ms.
     */
    uint64_t initial_probe_timeout;
    /**
     * The longest time between probes: initial_probe_timeout to 10 min. 5 s.
     */
    uint64_t max_probe_timeout;
    /**
     * How long nothing has to pass before a context is torn down, at least 1 s. 2 h 4 min.
     */
    uint64_t quiescence;
    /**
     * Time between two probes of a pair that is preferred to the one in use: 10 ms to 1 h. 1 s.
     */
    uint64_t failback_interval;
    /**
     * How long it has to have answered to be taken back, at most 1 d. 10 s.
     */
    uint64_t failback_stable;
    /**
     * A packet that was held for longer while a path was looked for is not sent again. 2 s.
     */
    uint64_t hold_max_age;
    /**
     * Octets that are held for one context; with 0 nothing is held. 262,144.
     */
    uint64_t hold_octets_per_context;
    /**
     * Octets that are held for all contexts. 16,777,216.
     */
    uint64_t hold_octets;
    /**
     * Whose timers: a shim6_profile. SHIM6_PROFILE_FAST.
     */
    uint32_t profile;
    /**
     * A context is set up by itself after so many packets between two addresses, of which both hosts have sent some; with 0
     * never. 10.
     */
    uint32_t trigger_packets;
    /**
     * Pairs of addresses whose packets are counted for that. 1,024.
     */
    uint32_t trigger_pairs;
    /**
     * How many flows may have contexts of their own: shim6_fork. 1,024.
     */
    uint32_t flows;
    /**
     * Contexts in total, at least 1. 10,000.
     */
    uint32_t contexts;
    /**
     * Contexts with one ULID of a peer, at least 1. 16.
     */
    uint32_t contexts_per_peer;
    /**
     * Contexts with peers that share their first 48 bits, at least 1. 2,500.
     */
    uint32_t contexts_per_prefix;
    /**
     * Locators accepted in a peer's list, 1 to 255. 16.
     */
    uint32_t peer_locators;
    /**
     * Peers that are remembered because they did not answer. 4,096.
     */
    uint32_t holddowns;
    /**
     * Messages that wait for shim6_poll_transmit; what is more is dropped. At least 1. 4,096.
     */
    uint32_t transmit_queue;
    /**
     * Prefixes of peers that are counted apart for each limit on rates, at least 1; each takes about 100 octets. 1,024.
     */
    uint32_t counted_prefixes;
    /**
     * Probes in a second, at least 1. 5,000.
     */
    uint32_t probes;
    /**
     * Whether a preferred pair is gone back to when it works again, 0 or 1. 1.
     */
    uint32_t failback;
    /**
     * Whether packets of transports that do not retransmit are held as well; they may then arrive twice. 0 or 1. 1.
     */
    uint32_t hold_datagrams;
    /**
     * Whether the upper layers get every ICMPv6 error, also those that made this host look for another path. 0 or 1. 0.
     */
    uint32_t deliver_all_icmp;
    /**
     * Whether a flow is answered on the context of its own that the peer sends it on. 0 or 1. 1.
     */
    uint32_t follow_forks;
    /**
     * A shim6_device, for what is not said here. SHIM6_DEVICE_HOST.
     */
    uint32_t device;
    /**
     * Not used: 0.
     */
    uint32_t reserved;
} shim6_config;

/**
 * One event. What `kind` does not mention is zero.
 */
typedef struct shim6_event {
    /**
     * The context, 0 if there is none.
     */
    uint64_t context;
    /**
     * In microseconds; SHIM6_NEVER if not known.
     */
    uint64_t duration;
    /**
     * Locators or ULIDs, as `kind` says.
     */
    struct shim6_pair pair;
    /**
     * The locators before.
     */
    struct shim6_pair former;
    /**
     * The locator that was refused.
     */
    struct shim6_address locator;
    /**
     * What happened.
     */
    shim6_event_kind kind;
    /**
     * Why.
     */
    shim6_cause cause;
    /**
     * The state now.
     */
    shim6_reachability state;
    /**
     * The state before.
     */
    shim6_reachability former_state;
    /**
     * Why the context is gone.
     */
    shim6_close_reason reason;
    /**
     * Of an Error message.
     */
    uint32_t code;
    /**
     * 1 if this host began.
     */
    uint32_t initiator;
    /**
     * Not used.
     */
    uint32_t reserved;
} shim6_event;

/**
 * What this host says of one of its locators: lower priorities first, and shares by weight among equals (RFC 5533 section
 * 5.15.3).
 */
typedef struct shim6_preference {
    /**
     * Which one.
     */
    struct shim6_address locator;
    /**
     * 1: known not to work; 2: less stable than others.
     */
    uint8_t flags;
    /**
     * The lowest is used first. 255: the last resort, which is left for a better one that works.
     */
    uint8_t priority;
    /**
     * Share of the contexts among locators of the same priority.
     */
    uint8_t weight;
    /**
     * Not used.
     */
    uint8_t reserved;
} shim6_preference;

/**
 * What there is to know of a context. Times are in microseconds.
 */
typedef struct shim6_context_info {
    /**
     * Its name.
     */
    uint64_t context;
    /**
     * When it was made.
     */
    uint64_t created;
    /**
     * The round-trip time, SHIM6_NEVER if not measured.
     */
    uint64_t rtt;
    /**
     * How long a packet may stay unanswered before another path is looked for.
     */
    uint64_t send_timeout;
    /**
     * How often the path changed.
     */
    uint64_t failovers;
    /**
     * When it last did, SHIM6_NEVER if not yet.
     */
    uint64_t last_failover;
    /**
     * How long nothing had worked then, SHIM6_NEVER if nothing had failed.
     */
    uint64_t last_failover_took;
    /**
     * Packets sent.
     */
    uint64_t sent_packets;
    /**
     * Octets sent.
     */
    uint64_t sent_octets;
    /**
     * Packets received.
     */
    uint64_t received_packets;
    /**
     * Octets received.
     */
    uint64_t received_octets;
    /**
     * The addresses that transports know.
     */
    struct shim6_pair ulids;
    /**
     * The locators that packets to the peer use.
     */
    struct shim6_pair locators;
    /**
     * The locators that both hosts prefer.
     */
    struct shim6_pair preferred;
    /**
     * What shim6_prefer asked for; zero if nothing.
     */
    struct shim6_pair wished;
    /**
     * 0 for the context of all flows of its ULIDs, else one that was forked.
     */
    uint32_t forked_instance;
    /**
     * The state of the context.
     */
    shim6_context_state state;
    /**
     * Whether the locators work.
     */
    shim6_reachability reachability;
    /**
     * Why the path last changed.
     */
    shim6_cause last_cause;
    /**
     * 1 if shim6_move_to chose the locators.
     */
    uint32_t pinned;
    /**
     * How many locators of the peer are verified.
     */
    uint32_t peer_locators;
} shim6_context_info;

/**
 * What is known of a pair of locators, by all contexts together. Times are in microseconds.
 */
typedef struct shim6_path_info {
    /**
     * The pair.
     */
    struct shim6_pair pair;
    /**
     * The round-trip time, SHIM6_NEVER if not measured.
     */
    uint64_t rtt;
    /**
     * Probes sent on it that want an answer.
     */
    uint64_t probes_sent;
    /**
     * How many of them were answered.
     */
    uint64_t probes_answered;
    /**
     * When the peer last answered on it, SHIM6_NEVER if not yet.
     */
    uint64_t confirmed;
    /**
     * When it was last left because it had failed, SHIM6_NEVER if not yet.
     */
    uint64_t failed;
    /**
     * How many contexts send on it.
     */
    uint32_t users;
    /**
     * How many of them doubt that it works.
     */
    uint32_t doubts;
    /**
     * Of the last 32 probes, how many were lost.
     */
    uint32_t recent_lost;
    /**
     * And of how many.
     */
    uint32_t recent_probes;
    /**
     * 1 if its local locator can be used now.
     */
    uint32_t usable;
    /**
     * 1 if the context that was asked for sends on it.
     */
    uint32_t current;
} shim6_path_info;

/**
 * What went through a shim. Packets that were dropped are in one counter each.
 */
typedef struct shim6_counters {
    /**
     * Packets of the upper layers, given back to leave.
     */
    uint64_t sent;
    /**
     * Those of them that bear other addresses than ULIDs, and a Shim6 header.
     */
    uint64_t rewritten;
    /**
     * Packets of the network, given back for the upper layers.
     */
    uint64_t received;
    /**
     * Those of them that had a Shim6 header.
     */
    uint64_t restored;
    /**
     * Packets held while a path was looked for, and sent again on it.
     */
    uint64_t replayed;
    /**
     * Dropped packets of the upper layers: no IPv6 packet, or cut short.
     */
    uint64_t malformed_out;
    /**
     * Dropped packets of the network: cut short, or with a faulty Shim6 header.
     */
    uint64_t malformed_in;
    /**
     * Packets that did not fit the buffer of shim6_poll_transmit.
     */
    uint64_t too_long;
    /**
     * Events that nobody took before there were too many.
     */
    uint64_t events_lost;
    /**
     * Control messages sent.
     */
    uint64_t control_sent;
    /**
     * Well-formed control messages received.
     */
    uint64_t control_received;
    /**
     * Control messages dropped, by any reason of shim6_discard.
     */
    uint64_t discarded;
    /**
     * Contexts now.
     */
    uint64_t contexts;
    /**
     * Those of them that are established.
     */
    uint64_t established;
    /**
     * Those of them that use other locators than their ULIDs.
     */
    uint64_t moved;
    /**
     * Flows with contexts of their own now.
     */
    uint64_t forked_flows;
    /**
     * Octets held now.
     */
    uint64_t held_octets;
} shim6_counters;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * What a status means, for people; never NULL, whatever the number. The text is not to be freed.
 */
const char *shim6_strerror(int32_t status);

/**
 * The version of this library, such as "0.1.0". The text is not to be freed.
 */
const char *shim6_version(void);

/**
 * The flow of an IPv6 packet that this host sends, with its ULIDs in it. SHIM6_STATUS_NONE where no ports are to be seen.
 */
shim6_status shim6_flow_of_sent(const uint8_t *packet,
                                uintptr_t length,
                                struct shim6_flow *flow);

/**
 * The flow of an IPv6 packet that shim6_receive gave.
 */
shim6_status shim6_flow_of_received(const uint8_t *packet, uintptr_t length, struct shim6_flow *flow);

/**
 * Makes new addresses: one under each of `count` prefixes, the upper 64 bits of `prefixes`, which have to be different.
 *
 * `seed` has SHIM6_SEED_LEN octets that nobody can guess, and that are used for nothing else. `sec` makes it harder to forge
 * the addresses, and to make them: 0 (at once), 1 (some milliseconds) or 2 (2^32 hashes on average, minutes to hours, in
 * which this function does not return). Peers have to learn the addresses, so make them once and save them:
 * shim6_identity_save.
 */
shim6_status shim6_identity_generate(const struct shim6_address *prefixes,
                                     uintptr_t count,
                                     uint32_t sec,
                                     const uint8_t *seed,
                                     struct shim6_identity **identity);

/**
 * Makes an identity of what shim6_identity_save wrote.
 */
shim6_status shim6_identity_load(const uint8_t *saved, uintptr_t length, struct shim6_identity **identity);

/**
 * Writes what shim6_identity_load makes the same addresses of. It is no secret, but whoever changes it changes this host's
 * addresses. `length` is what is written, or with SHIM6_STATUS_BUFFER_TOO_SHORT what would be: with a `capacity` of 0 and NULL
 * this tells how much room is needed.
 */
shim6_status shim6_identity_save(const struct shim6_identity *identity,
                                 uint8_t *buffer,
                                 uintptr_t capacity,
                                 uintptr_t *length);

/**
 * Another identity under the same prefixes, for when one of the addresses is in use by somebody else (duplicate address
 * detection, RFC 5535 section 6). It can be done twice.
 */
shim6_status shim6_identity_after_collision(const struct shim6_identity *identity, struct shim6_identity **other);

/**
 * How many addresses there are; 0 for NULL.
 */
uintptr_t shim6_identity_count(const struct shim6_identity *identity);

/**
 * The address under the prefix with this index, in the order in which the prefixes were given; SHIM6_STATUS_NONE past the
 * last.
 */
shim6_status shim6_identity_address(const struct shim6_identity *identity,
                                    uintptr_t index,
                                    struct shim6_address *address);

/**
 * Frees an identity; NULL is allowed. Shims that were made with it go on.
 */
void shim6_identity_free(struct shim6_identity *identity);

/**
 * Writes the defaults; `size` is sizeof(shim6_config).
 *
 * Then change what should be different, and pass it to shim6_new with the same size.
 */
shim6_status shim6_config_init(struct shim6_config *config, uintptr_t size);

/**
 * Writes the bounds of a small device: 16 contexts, few and small tables, and some packets held; `size` is sizeof(shim6_config).
 * Else as shim6_config_init.
 */
shim6_status shim6_config_init_small(struct shim6_config *config,
                                     uintptr_t size);

/**
 * Whether shim6_new takes such a configuration, of `size` octets. With SHIM6_STATUS_BAD_ARGUMENT `field` is the name of the first field
 * that is out of its range, such as "send_timeout", else NULL. The text is not to be freed; `field` itself may be NULL.
 */
shim6_status shim6_config_check(const struct shim6_config *config,
                                uintptr_t size,
                                const char **field);

/**
 * Makes a shim without contexts. `config` has `size` octets, sizeof(shim6_config); NULL, with any size, stands for the
 * defaults. The identity is only read, and can be freed. `seed` has SHIM6_SEED_LEN octets that nobody can guess, and that are
 * used for nothing else, nor in another run: all randomness comes from it. SHIM6_STATUS_BAD_ARGUMENT:
 * shim6_config_check says which field it is.
 */
shim6_status shim6_new(const struct shim6_config *config,
                       uintptr_t size,
                       const struct shim6_identity *identity,
                       const uint8_t *seed,
                       struct shim6 **shim);

/**
 * Frees a shim and all of its contexts, without a word to the peers; NULL is allowed.
 */
void shim6_free(struct shim6 *shim);

/**
 * Command: this host has other addresses from now on, as when a prefix came or went. The peers are told. Contexts whose ULID
 * the new identity cannot prove keep the locators that they have.
 */
shim6_status shim6_set_identity(struct shim6 *shim,
                                uint64_t now,
                                const struct shim6_identity *identity);

/**
 * Input: an IPv6 packet of the upper layers on its way out, of `*length` octets at `buffer + *offset`, with SHIM6_HEADROOM octets
 * in front of it that are the shim's.
 *
 * SHIM6_STATUS_OK: the packet that is now of `*length` octets at `buffer + *offset` is to leave, on the interface that has its
 * source address. SHIM6_STATUS_NONE: it is dropped and counted; the octets may have changed.
 */
shim6_status shim6_send(struct shim6 *shim,
                        uint64_t now,
                        uint8_t *buffer,
                        uintptr_t *offset,
                        uintptr_t *length);

/**
 * Input: an IPv6 packet from the network, of `*length` octets at `buffer + *offset`.
 *
 * SHIM6_STATUS_OK: the packet that is now of `*length` octets at `buffer + *offset` is for the upper layers. SHIM6_STATUS_NONE:
 * it was the shim's own, or it is dropped and counted; the octets may have changed.
 */
shim6_status shim6_receive(struct shim6 *shim,
                           uint64_t now,
                           uint8_t *buffer,
                           uintptr_t *offset,
                           uintptr_t *length);

/**
 * Input: the time of shim6_poll_timeout has come. Early and late calls do no harm.
 */
shim6_status shim6_handle_timeout(struct shim6 *shim, uint64_t now);

/**
 * Input: one of this host's locators is lost, since its interface went down (`usable` is 0), or is back. Sessions on a lost one
 * look for another path at once.
 */
shim6_status shim6_handle_locator(struct shim6 *shim,
                                  uint64_t now,
                                  const struct shim6_address *locator,
                                  uint32_t usable);

/**
 * Output: the next packet that the shim has to send; it leaves on the interface that has its source address. SHIM6_STATUS_NONE:
 * there is none.
 *
 * `capacity` is SHIM6_LEAST_BUFFER at least, and the MTU of the interfaces: packets that were held and do not fit are dropped
 * and counted.
 */
shim6_status shim6_poll_transmit(struct shim6 *shim,
                                 uint8_t *buffer,
                                 uintptr_t capacity,
                                 uintptr_t *length);

/**
 * Output: the next IPv6 packet for this host's own upper layers: an ICMPv6 error about a packet of theirs. SHIM6_STATUS_NONE:
 * there is none. `capacity` is SHIM6_LEAST_BUFFER at least.
 */
shim6_status shim6_poll_deliver(struct shim6 *shim,
                                uint8_t *buffer,
                                uintptr_t capacity,
                                uintptr_t *length);

/**
 * Output: when shim6_handle_timeout is to be called at the latest; SHIM6_NEVER if not at all, and for NULL. It changes with every
 * input and command.
 */
uint64_t shim6_poll_timeout(const struct shim6 *shim);

/**
 * Output: the next event, in a structure of `size` octets, sizeof(shim6_event). SHIM6_STATUS_NONE: there is none.
 */
shim6_status shim6_poll_event(struct shim6 *shim, struct shim6_event *event, uintptr_t size);

/**
 * The name of a kind of event, for logs; never NULL, whatever the number. The text is not to be freed.
 */
const char *shim6_event_name(uint32_t kind);

/**
 * The name of a cause, for logs; never NULL, whatever the number. The text is not to be freed.
 */
const char *shim6_cause_name(uint32_t cause);

/**
 * Command: sets up a context for a pair of ULIDs now. An event tells how it ends. `context` gets its name, and may be NULL.
 */
shim6_status shim6_establish(struct shim6 *shim,
                             uint64_t now,
                             const struct shim6_pair *ulids,
                             uint64_t *context);

/**
 * Command: forgets a context. Its packets take the path of their ULIDs again.
 */
shim6_status shim6_close(struct shim6 *shim, uint64_t now, uint64_t context);

/**
 * Command: the pair of locators that a context uses whenever it works, without interrupting anything for it; NULL takes the
 * wish back. What the peer sends on is for the peer to choose.
 */
shim6_status shim6_prefer(struct shim6 *shim,
                          uint64_t now,
                          uint64_t context,
                          const struct shim6_pair *pair);

/**
 * Command: has a context send on a pair of locators at once, and stay there until it fails or shim6_release is called.
 * SHIM6_STATUS_OK: it does. SHIM6_STATUS_PENDING: the pair is probed, and the context moves if the peer answers until the time
 * `until`; else nothing changes.
 */
shim6_status shim6_move_to(struct shim6 *shim,
                           uint64_t now,
                           uint64_t context,
                           const struct shim6_pair *pair,
                           uint64_t until);

/**
 * Command: a context may go back by itself to a pair that it prefers, after shim6_move_to.
 */
shim6_status shim6_release(struct shim6 *shim, uint64_t now, uint64_t context);

/**
 * Command: probes a pair of locators of a context, without any change to what it uses. An event tells if the peer answers until
 * the time `until`.
 */
shim6_status shim6_probe(struct shim6 *shim,
                         uint64_t now,
                         uint64_t context,
                         const struct shim6_pair *pair,
                         uint64_t until);

/**
 * Input: what an upper layer knows of the path of a context, a shim6_hint.
 */
shim6_status shim6_handle_hint(struct shim6 *shim, uint64_t now, uint64_t context, uint32_t hint);

/**
 * Command: says whether an upper layer may still use a context, however quiet it is (1 or 0): then it is not torn down.
 */
shim6_status shim6_set_in_use(struct shim6 *shim, uint64_t now, uint64_t context, uint32_t in_use);

/**
 * Command: has one flow take a path of its own: sets up another context for its pair of ULIDs, and sends the flow on it once it is
 * established. Another flow between the same hosts can use another path so: shim6_move_to the new context. `context` gets its
 * name, and may be NULL.
 */
shim6_status shim6_fork(struct shim6 *shim,
                        uint64_t now,
                        const struct shim6_flow *flow,
                        uint64_t *context);

/**
 * Command: has a flow take the path of its pair of ULIDs again. The forked context goes when nothing has passed on it for long,
 * or by shim6_close.
 */
shim6_status shim6_join(struct shim6 *shim,
                        const struct shim6_flow *flow);

/**
 * Command: whether there may be contexts for a pair of ULIDs, a shim6_protection. Pairs that are set to SHIM6_PROTECTION_NEVER
 * are kept until they are set back.
 */
shim6_status shim6_set_protection(struct shim6 *shim,
                                  uint64_t now,
                                  const struct shim6_pair *ulids,
                                  uint32_t protection);

/**
 * Command: this host prefers its locators in another way; those that are not among the `count` ones are of priority and weight
 * 0. The peers are told.
 */
shim6_status shim6_set_preferences(struct shim6 *shim,
                                   uint64_t now,
                                   const struct shim6_preference *preferences,
                                   uintptr_t count);

/**
 * The context that carries a flow, in a structure of `size` octets, sizeof(shim6_context_info). SHIM6_STATUS_NONE: none does.
 */
shim6_status shim6_session(const struct shim6 *shim,
                           const struct shim6_flow *flow,
                           struct shim6_context_info *info,
                           uintptr_t size);

/**
 * A context by its name, in a structure of `size` octets, sizeof(shim6_context_info). SHIM6_STATUS_NO_CONTEXT: there is none.
 */
shim6_status shim6_context(const struct shim6 *shim,
                           uint64_t context,
                           struct shim6_context_info *info,
                           uintptr_t size);

/**
 * The names of all contexts, the oldest first: as many as there is room for are written, and `count` says how many there are.
 * With a `capacity` of 0 `contexts` may be NULL.
 */
shim6_status shim6_contexts(const struct shim6 *shim,
                            uint64_t *contexts,
                            uintptr_t capacity,
                            uintptr_t *count);

/**
 * One of the pairs of locators that a context may use, the most preferred first, in a structure of `size` octets,
 * sizeof(shim6_path_info). SHIM6_STATUS_NONE past the last.
 */
shim6_status shim6_path(const struct shim6 *shim,
                        uint64_t context,
                        uintptr_t index,
                        struct shim6_path_info *info,
                        uintptr_t size);

/**
 * What went through, in a structure of `size` octets, sizeof(shim6_counters).
 */
shim6_status shim6_get_counters(const struct shim6 *shim, struct shim6_counters *counters, uintptr_t size);

/**
 * How many control messages were dropped for the reason with this index, from 0 on, and its name, which ends with a zero octet
 * and takes at most 40. SHIM6_STATUS_NONE past the last.
 */
shim6_status shim6_discard(const struct shim6 *shim,
                           uintptr_t index,
                           char *name,
                           uintptr_t capacity,
                           uint64_t *count);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHIM6_H */
