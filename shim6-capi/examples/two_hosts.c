/* Two hosts with two uplinks each, in one program. An uplink is a UDP socket on the loopback interface, which carries whole
 * IPv6 packets. A client on the first host asks the server on the second one, request by request, over UDP with real checksums.
 * In the middle the path that they use is cut; it has survived when all requests are answered.
 *
 *   two_hosts             0: survived; 1: did not; 2: something else is wrong
 *   two_hosts --without   the same without contexts, which does not survive
 *
 * What is of the shim is in setup(), upper_send(), arrive() and drain(), and in the loop of main().
 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shim6.h"

enum {
    HOSTS = 2,
    UPLINKS = 2,
    MTU = 1500,
    IPV6_HEADER = 40,
    UDP_HEADER = 8,
    UDP = 17,
    PAYLOAD = 64,
    CLIENT_PORT = 4000,
    SERVER_PORT = 53,
    REQUESTS = 300,
    CUT_AFTER = 100,
};

/* In microseconds. */
static const uint64_t PAUSE = 5000, AGAIN_AFTER = 200000, GIVE_UP_AFTER = 3000000, MOST_TIME = 20000000;

struct host {
    const char *name;
    shim6 *shim;
    shim6_address locators[UPLINKS];
    int sockets[UPLINKS];
    struct sockaddr_in names[UPLINKS];
};

struct client {
    uint32_t next;       /* the request that waits for its answer, or is sent next */
    int waiting;
    uint64_t due;        /* when to send it, or send it again */
    uint64_t last;       /* when the last answer came */
    uint64_t longest;    /* the longest time without one */
};

struct world {
    struct host hosts[HOSTS];
    struct client client;
    uint64_t started;
    int is_cut;
    unsigned long bad;
};

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static void check(shim6_status status, const char *what) {
    if (status != SHIM6_STATUS_OK) {
        fail("%s: %s", what, shim6_strerror(status));
    }
}

static uint64_t clock_now(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) {
        fail("no clock");
    }
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void entropy(uint8_t seed[SHIM6_SEED_LEN]) {
    FILE *source = fopen("/dev/urandom", "rb");
    if (source == NULL || fread(seed, 1, SHIM6_SEED_LEN, source) != SHIM6_SEED_LEN) {
        fail("/dev/urandom cannot be read");
    }
    fclose(source);
}

static const char *show(shim6_address address, char text[INET6_ADDRSTRLEN]) {
    struct in6_addr octets;
    memcpy(&octets, address.octets, sizeof octets);
    return inet_ntop(AF_INET6, &octets, text, INET6_ADDRSTRLEN);
}

static void show_pair(const char *what, shim6_pair pair) {
    char local[INET6_ADDRSTRLEN], peer[INET6_ADDRSTRLEN];
    printf("%s%s -> %s", what, show(pair.local, local), show(pair.peer, peer));
}

/* ---- Set up ---- */

/* An identity is made once, and kept: here it is saved, and read back as after a restart. */
static shim6_identity *make_identity(unsigned number) {
    shim6_address prefixes[UPLINKS];
    uint8_t seed[SHIM6_SEED_LEN], saved[512];
    shim6_identity *identity = NULL;
    shim6_address before, after;
    size_t length = 0;
    memset(prefixes, 0, sizeof prefixes);
    for (unsigned uplink = 0; uplink < UPLINKS; uplink++) {
        const uint8_t upper[6] = {0x20, 0x01, 0x0d, 0xb8, (uint8_t)(number + 1), (uint8_t)(uplink + 1)};
        memcpy(prefixes[uplink].octets, upper, sizeof upper);
    }
    entropy(seed);
    check(shim6_identity_generate(prefixes, UPLINKS, 1, seed, &identity), "new addresses");
    check(shim6_identity_address(identity, 0, &before), "an address");
    check(shim6_identity_save(identity, saved, sizeof saved, &length), "saving");
    shim6_identity_free(identity);
    check(shim6_identity_load(saved, length, &identity), "loading");
    check(shim6_identity_address(identity, 0, &after), "an address");
    if (memcmp(&before, &after, sizeof before) != 0) {
        fail("the addresses have changed");
    }
    return identity;
}

static void open_uplink(struct host *host, unsigned uplink) {
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    int one = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (one < 0 || bind(one, (struct sockaddr *)&name, sizeof name) != 0 ||
        getsockname(one, (struct sockaddr *)&name, &length) != 0 || fcntl(one, F_SETFL, O_NONBLOCK) != 0) {
        fail("no UDP socket on 127.0.0.1");
    }
    host->sockets[uplink] = one;
    host->names[uplink] = name;
}

static void setup(struct world *world, int without) {
    static const char *const names[HOSTS] = {"client", "server"};
    shim6_config config;
    check(shim6_config_init(&config, sizeof config), "the defaults");
    if (without) {
        config.trigger_packets = 0;
    }
    memset(world, 0, sizeof *world);
    for (unsigned number = 0; number < HOSTS; number++) {
        struct host *host = &world->hosts[number];
        shim6_identity *identity = make_identity(number);
        uint8_t seed[SHIM6_SEED_LEN];
        host->name = names[number];
        for (unsigned uplink = 0; uplink < UPLINKS; uplink++) {
            check(shim6_identity_address(identity, uplink, &host->locators[uplink]), "an address");
            open_uplink(host, uplink);
        }
        entropy(seed);
        check(shim6_new(&config, sizeof config, identity, seed, &host->shim), "a shim");
        shim6_identity_free(identity);
    }
    world->started = clock_now();
    world->client.last = world->started;
}

static void tear_down(struct world *world) {
    for (unsigned number = 0; number < HOSTS; number++) {
        shim6_free(world->hosts[number].shim);
        for (unsigned uplink = 0; uplink < UPLINKS; uplink++) {
            close(world->hosts[number].sockets[uplink]);
        }
    }
}

/* ---- The network below the shim ---- */

/* The uplink of a host that has this address; UPLINKS if none. */
static unsigned uplink_of(const struct host *host, const uint8_t *address) {
    unsigned uplink = 0;
    while (uplink < UPLINKS && memcmp(host->locators[uplink].octets, address, sizeof host->locators[uplink].octets) != 0) {
        uplink++;
    }
    return uplink;
}

/* A packet leaves on the uplink that has its source address. The cut path swallows it in silence. */
static void transmit(struct world *world, unsigned number, const uint8_t *packet, size_t length) {
    const struct host *from = &world->hosts[number], *to = &world->hosts[1 - number];
    unsigned source = uplink_of(from, packet + 8), destination = uplink_of(to, packet + 24);
    if (source == UPLINKS || destination == UPLINKS) {
        world->bad++;
        return;
    }
    if (world->is_cut && source == 0 && destination == 0) {
        return;
    }
    /* What a full socket loses is lost, as on any network. */
    (void)sendto(from->sockets[source], packet, length, 0, (const struct sockaddr *)&to->names[destination],
                 sizeof to->names[destination]);
}

static void tell(const struct world *world, const struct host *host, const shim6_event *event) {
    printf("%+8.3f s  %s: %s", (double)(clock_now() - world->started) / 1e6, host->name, shim6_event_name(event->kind));
    if (event->kind == SHIM6_EVENT_KIND_ESTABLISHED) {
        show_pair(" for ", event->pair);
    } else if (event->kind == SHIM6_EVENT_KIND_PATH_CHANGED) {
        show_pair(" to ", event->pair);
        printf(", %s", shim6_cause_name(event->cause));
    } else if (event->kind == SHIM6_EVENT_KIND_REACHABILITY) {
        static const char *const states[] = {"operational", "exploring", "inbound-ok"};
        printf(" %s -> %s, %s", states[event->former_state % 3], states[event->state % 3], shim6_cause_name(event->cause));
    }
    putchar('\n');
}

/* After each input: what the shim wants to send, what it has for this host, and what it tells. */
static void drain(struct world *world, unsigned number) {
    struct host *host = &world->hosts[number];
    uint8_t buffer[MTU];
    size_t length;
    shim6_event event;
    shim6_status status;
    while ((status = shim6_poll_transmit(host->shim, buffer, sizeof buffer, &length)) == SHIM6_STATUS_OK) {
        transmit(world, number, buffer, length);
    }
    if (status != SHIM6_STATUS_NONE) {
        check(status, "what is to be sent");
    }
    /* ICMPv6 errors for sockets, of which there are none here. */
    while (shim6_poll_deliver(host->shim, buffer, sizeof buffer, &length) == SHIM6_STATUS_OK) {
    }
    while (shim6_poll_event(host->shim, &event, sizeof event) == SHIM6_STATUS_OK) {
        tell(world, host, &event);
    }
}

/* ---- UDP above the shim ---- */

/* The Internet checksum of UDP over IPv6 (RFC 8200 section 8.1), of a whole packet; 0xffff when it is right. */
static uint16_t udp_sum(const uint8_t *packet, size_t length) {
    uint32_t sum = (uint32_t)(length - IPV6_HEADER) + UDP;
    for (size_t at = 8; at < length; at += 2) {
        sum += (uint32_t)(packet[at] << 8) + (at + 1 < length ? packet[at + 1] : 0);
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

static void put16(uint8_t *at, unsigned value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static unsigned get16(const uint8_t *at) {
    return (unsigned)at[0] << 8 | at[1];
}

/* Makes a datagram, and sends it through the shim. */
static void upper_send(struct world *world, unsigned number, unsigned source_port, unsigned port, uint32_t request) {
    struct host *host = &world->hosts[number];
    uint8_t buffer[SHIM6_HEADROOM + IPV6_HEADER + UDP_HEADER + PAYLOAD];
    uint8_t *packet = buffer + SHIM6_HEADROOM, *udp = packet + IPV6_HEADER;
    size_t offset = SHIM6_HEADROOM, length = sizeof buffer - SHIM6_HEADROOM;
    shim6_status status;
    memset(buffer, 0x5a, sizeof buffer);
    memcpy(packet, (const uint8_t[8]){0x60, 0, 0, 0, 0, UDP_HEADER + PAYLOAD, UDP, 64}, 8);
    /* Always these two: the ULIDs. */
    memcpy(packet + 8, host->locators[0].octets, 16);
    memcpy(packet + 24, world->hosts[1 - number].locators[0].octets, 16);
    put16(udp, source_port);
    put16(udp + 2, port);
    put16(udp + 4, UDP_HEADER + PAYLOAD);
    put16(udp + 6, 0);
    put16(udp + UDP_HEADER, request >> 16);
    put16(udp + UDP_HEADER + 2, request & 0xffff);
    put16(udp + 6, udp_sum(packet, length) ^ 0xffffu);
    status = shim6_send(host->shim, clock_now(), buffer, &offset, &length);
    if (status == SHIM6_STATUS_OK) {
        transmit(world, number, buffer + offset, length);
    } else if (status != SHIM6_STATUS_NONE) {
        check(status, "sending");
    }
    drain(world, number);
}

static void answered(struct world *world, uint64_t now) {
    struct client *client = &world->client;
    if (now - client->last > client->longest) {
        client->longest = now - client->last;
    }
    client->last = now;
    client->next++;
    client->waiting = 0;
    client->due = now + PAUSE;
    if (client->next == CUT_AFTER) {
        world->is_cut = 1;
        printf("%+8.3f s  the path of the first uplinks is cut\n", (double)(now - world->started) / 1e6);
    }
}

/* A datagram for this host, with ULIDs in it and a right checksum, whichever way it came. */
static void upper_receive(struct world *world, unsigned number, const uint8_t *packet, size_t length) {
    const uint8_t *udp = packet + IPV6_HEADER;
    uint32_t request;
    if (length != IPV6_HEADER + UDP_HEADER + PAYLOAD || packet[6] != UDP || udp_sum(packet, length) != 0xffff ||
        uplink_of(&world->hosts[number], packet + 24) != 0 || uplink_of(&world->hosts[1 - number], packet + 8) != 0) {
        world->bad++;
        return;
    }
    request = (uint32_t)get16(udp + UDP_HEADER) << 16 | get16(udp + UDP_HEADER + 2);
    if (get16(udp + 2) == SERVER_PORT) {
        upper_send(world, number, SERVER_PORT, get16(udp), request);
    } else if (world->client.waiting && request == world->client.next) {
        answered(world, clock_now());
    }
}

/* All that has arrived on one uplink. */
static void arrive(struct world *world, unsigned number, int socket) {
    struct host *host = &world->hosts[number];
    uint8_t buffer[MTU];
    ssize_t octets;
    while ((octets = recv(socket, buffer, sizeof buffer, 0)) >= 0) {
        size_t offset = 0, length = (size_t)octets;
        shim6_status status = shim6_receive(host->shim, clock_now(), buffer, &offset, &length);
        if (status == SHIM6_STATUS_OK) {
            upper_receive(world, number, buffer + offset, length);
        } else if (status != SHIM6_STATUS_NONE) {
            check(status, "receiving");
        }
        drain(world, number);
    }
}

/* ---- The loop ---- */

static void client_turn(struct world *world, uint64_t now) {
    struct client *client = &world->client;
    if (client->due <= now && client->next < REQUESTS) {
        client->waiting = 1;
        client->due = now + AGAIN_AFTER;
        upper_send(world, 0, CLIENT_PORT, SERVER_PORT, client->next);
    }
}

/* Waits for a packet, for a timeout of one of the shims or for the client, whichever is first. */
static void wait_for_something(struct world *world, struct pollfd polled[HOSTS * UPLINKS]) {
    uint64_t now = clock_now(), next = world->client.due, wait;
    for (unsigned number = 0; number < HOSTS; number++) {
        uint64_t timeout = shim6_poll_timeout(world->hosts[number].shim);
        next = timeout < next ? timeout : next;
    }
    wait = next > now ? (next - now + 999) / 1000 : 0;
    if (poll(polled, HOSTS * UPLINKS, wait < 1000 ? (int)wait : 1000) < 0) {
        fail("poll");
    }
}

static int report(const struct world *world) {
    const struct client *client = &world->client;
    const uint64_t waited = clock_now() - client->last, longest = waited > client->longest ? waited : client->longest;
    const shim6_pair ulids = {world->hosts[0].locators[0], world->hosts[1].locators[0]};
    const shim6_flow flow = {.ulids = ulids, .local_port = CLIENT_PORT, .peer_port = SERVER_PORT, .protocol = UDP};
    shim6_context_info session;
    shim6_counters counters;
    int survived = client->next == REQUESTS && world->bad == 0;
    if (shim6_session(world->hosts[0].shim, &flow, &session, sizeof session) == SHIM6_STATUS_OK) {
        show_pair("the session of ", session.ulids);
        show_pair(" is on ", session.locators);
        putchar('\n');
    }
    check(shim6_get_counters(world->hosts[0].shim, &counters, sizeof counters), "counters");
    printf("%" PRIu32 " of %d requests answered, longest wait %.3f s, %lu bad packets; %" PRIu64 " packets rewritten, %" PRIu64
           " restored, %" PRIu64 " sent again: %s\n",
           client->next, REQUESTS, (double)longest / 1e6, world->bad, counters.rewritten, counters.restored,
           counters.replayed, survived ? "survived" : "did not survive");
    return survived ? 0 : 1;
}

int main(int count, char **arguments) {
    static struct world world;
    struct pollfd polled[HOSTS * UPLINKS];
    uint64_t now;
    int without = count == 2 && strcmp(arguments[1], "--without") == 0, verdict;
    if (count > 2 || (count == 2 && !without)) {
        fail("usage: %s [--without]", arguments[0]);
    }
    setup(&world, without);
    printf("libshim6 %s\n", shim6_version());
    for (unsigned at = 0; at < HOSTS * UPLINKS; at++) {
        polled[at].fd = world.hosts[at / UPLINKS].sockets[at % UPLINKS];
        polled[at].events = POLLIN;
    }
    now = clock_now();
    while (world.client.next < REQUESTS && now - world.client.last < GIVE_UP_AFTER && now - world.started < MOST_TIME) {
        wait_for_something(&world, polled);
        for (unsigned at = 0; at < HOSTS * UPLINKS; at++) {
            if (polled[at].revents != 0) {
                arrive(&world, at / UPLINKS, polled[at].fd);
            }
        }
        now = clock_now();
        for (unsigned number = 0; number < HOSTS; number++) {
            if (shim6_poll_timeout(world.hosts[number].shim) <= now) {
                check(shim6_handle_timeout(world.hosts[number].shim, now), "a timeout");
                drain(&world, number);
            }
        }
        client_turn(&world, now);
    }
    verdict = report(&world);
    tear_down(&world);
    return verdict;
}
