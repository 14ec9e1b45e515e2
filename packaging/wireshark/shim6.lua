-- Shim6 (RFC 5533), REAP (RFC 5534) and the extension of this stack (docs/protocol-extensions.md) for Wireshark and tshark.
--
-- Copy this one file into the personal or global Lua plugins folder, or say `tshark -X lua_script:shim6.lua`. See README.md
-- beside it. It takes the place of Wireshark's own dissector of protocol 140, whose filters (`shim6.*`) then find nothing:
-- the fields here are `shim6lua.*`, with the names that `shim6 decode --json` has, too.
--
-- It uses no library for bits, which differ between versions of Lua. It is one file, although a long one, because Wireshark loads
-- each file of a plugins folder by itself, and in no order that can be relied on.
--
-- SPDX-License-Identifier: MIT OR Apache-2.0

set_plugin_info({
    version = "0.1.0",
    description = "Shim6 and REAP (RFC 5533, RFC 5534)",
    author = "The Shim6 stack maintainers",
    repository = "packaging/wireshark",
})

local NAME = "shim6lua"
local PROTOCOL = 140
local IPV6_HEADER = 40

-- It fails if there is one of this name: this script, out of another folder.
local is_first, shim6 = pcall(Proto, NAME, "Shim6")
if not is_first then
    return
end

------------------------------------------------------------------------------------------------------------------------
-- Code points
------------------------------------------------------------------------------------------------------------------------

local MESSAGES = {
    [1] = "I1", [2] = "R1", [3] = "I2", [4] = "R2", [5] = "R1bis", [6] = "I2bis",
    [64] = "Update Request", [65] = "Update Acknowledgement", [66] = "Keepalive", [67] = "Probe", [68] = "Error",
}

local ERROR = 68
local PROBE = 67

local ERROR_CODES = {
    [0] = "unknown Shim6 message type",
    [1] = "critical option not recognized",
    [2] = "locator verification method failed",
    [3] = "Locator List Generation number out of sync",
    [4] = "error in the number of locators in a Locator Preference option",
}
for code = 120, 127 do
    ERROR_CODES[code] = "reserved for debugging"
end

local OPTION_NAMES = {
    [1] = "Responder Validator", [2] = "Locator List", [3] = "Locator Preferences",
    [4] = "CGA Parameter Data Structure", [5] = "CGA Signature", [6] = "ULID Pair",
    [7] = "Forked Instance Identifier", [10] = "Keepalive Timeout", [21302] = "Keepalive Timeout in milliseconds",
}

local VALIDATOR, LOCATOR_LIST, PREFERENCES, CGA_PARAMETERS, CGA_SIGNATURE = 1, 2, 3, 4, 5
local ULID_PAIR, FORKED_INSTANCE, KEEPALIVE_TIMEOUT, KEEPALIVE_TIMEOUT_MS = 6, 7, 10, 21302

local function set(...)
    local members = {}
    for _, member in ipairs({ ... }) do
        members[member] = true
    end
    return members
end

-- The options that are defined for a message; any other counts as unknown there (RFC 5533 section 5.15).
local ANNOUNCEMENT =
    set(LOCATOR_LIST, PREFERENCES, CGA_PARAMETERS, CGA_SIGNATURE, KEEPALIVE_TIMEOUT, KEEPALIVE_TIMEOUT_MS)
local I2_OPTIONS = set(VALIDATOR, ULID_PAIR, FORKED_INSTANCE)
for member in pairs(ANNOUNCEMENT) do
    I2_OPTIONS[member] = true
end
local DEFINED = {
    [1] = set(ULID_PAIR, FORKED_INSTANCE), [2] = set(VALIDATOR), [3] = I2_OPTIONS, [4] = ANNOUNCEMENT,
    [5] = set(VALIDATOR), [6] = I2_OPTIONS, [64] = ANNOUNCEMENT, [65] = {}, [66] = {}, [67] = {},
}
local NEEDS_VALIDATOR = set(2, 3, 5, 6)

local METHODS = { [1] = "HBA", [2] = "CGA" }
local STATES = { [0] = "Operational", [1] = "Exploring", [2] = "InboundOk", [3] = "not defined" }
local BROKEN, TRANSIENT = 0x01, 0x02

-- Probe Data of hosts that both know the option in milliseconds.
local DATA_IS_TEST, DATA_IS_LONG = 4294967295, 4294967294

------------------------------------------------------------------------------------------------------------------------
-- Fields
------------------------------------------------------------------------------------------------------------------------

local FIELDS = {}
do
    local all = {}
    local function add(kind, name, label, ...)
        local made = ProtoField[kind](NAME .. "." .. name, label, ...)
        FIELDS[name] = made
        all[#all + 1] = made
    end
    local DEC, HEX, NONE = base.DEC, base.HEX, base.NONE

    -- RFC 5533 sections 5.1 to 5.3.
    add("uint8", "next_header", "Next Header", DEC)
    add("uint8", "hdr_ext_len", "Hdr Ext Len", DEC)
    add("uint8", "p", "P", DEC, { [0] = "control message", [1] = "payload" })
    add("uint8", "type", "Type", DEC, MESSAGES)
    add("uint8", "reserved1", "Reserved1", DEC)
    add("uint8", "type_specific", "Type-specific", DEC)
    add("uint8", "error_code", "Error Code", DEC, ERROR_CODES)
    add("uint8", "s", "S", DEC)
    add("uint16", "checksum", "Checksum", HEX)
    add("uint8", "checksum.status", "Checksum Status", DEC, { [0] = "Bad", [1] = "Good", [2] = "Unverified" })
    add("uint16", "checksum.expected", "Checksum expected", HEX)
    add("uint8", "r", "R", DEC)
    add("uint64", "initiator_context_tag", "Initiator Context Tag", HEX)
    add("uint64", "responder_context_tag", "Responder Context Tag", HEX)
    add("uint64", "receiver_context_tag", "Receiver Context Tag", HEX)
    add("uint64", "packet_context_tag", "Packet Context Tag", HEX)
    add("uint64", "tag", "Any context tag", HEX)
    add("uint32", "initiator_nonce", "Initiator Nonce", HEX)
    add("uint32", "responder_nonce", "Responder Nonce", HEX)
    add("uint32", "request_nonce", "Request Nonce", HEX)
    add("uint64", "reserved2", "Reserved2", DEC)
    add("uint16", "pointer", "Pointer", DEC)
    add("bytes", "packet_in_error", "Packet in error")
    add("bytes", "rest", "Octets without a meaning")
    add("uint32", "octets_after", "Octets after the header", DEC)

    -- RFC 5534 section 5.2.
    add("uint8", "precvd", "Precvd", DEC)
    add("uint8", "psent", "Psent", DEC)
    add("uint8", "sta", "Sta", DEC, STATES)
    for kind, label in pairs({ sent = "Probe sent", received = "Probe received" }) do
        add("none", kind, label)
        add("ipv6", kind .. ".source", "Source")
        add("ipv6", kind .. ".destination", "Destination")
        add("uint32", kind .. ".nonce", "Nonce", HEX)
        add("uint32", kind .. ".data", "Data", HEX)
        add("framenum", kind .. ".frame", "This probe was sent in frame", NONE)
    end

    -- RFC 5533 section 5.15.
    add("none", "option", "Option")
    add("uint16", "option.type", "Type", DEC, OPTION_NAMES)
    add("uint8", "option.critical", "C", DEC)
    add("uint16", "option.length", "Length", DEC)
    add("bytes", "option.contents", "Contents")
    add("bytes", "option.padding", "Padding")
    add("bytes", "validator", "Validator")
    add("uint32", "locator_list.generation", "Locator List Generation", HEX)
    add("uint8", "locator_list.num_locators", "Num Locators", DEC)
    add("uint8", "locator_list.verification_method", "Verification Method", DEC, METHODS)
    add("bytes", "locator_list.padding", "Padding")
    add("ipv6", "locator_list.locator", "Locator")
    add("uint32", "locator_preferences.generation", "Locator List Generation", HEX)
    add("uint8", "locator_preferences.element_len", "Element Len", DEC)
    add("none", "locator_preferences.element", "Element")
    add("uint8", "locator_preferences.flags", "Flags", HEX)
    add("bool", "locator_preferences.flags.broken", "BROKEN", 8, nil, BROKEN)
    add("bool", "locator_preferences.flags.transient", "TRANSIENT", 8, nil, TRANSIENT)
    add("uint8", "locator_preferences.priority", "Priority", DEC)
    add("uint8", "locator_preferences.weight", "Weight", DEC)
    add("bytes", "locator_preferences.rest", "More")
    add("bytes", "cga.parameters", "Parameters")
    add("bytes", "cga.modifier", "Modifier")
    add("ipv6", "cga.subnet_prefix", "Subnet Prefix (/64)")
    add("uint8", "cga.collision_count", "Collision Count", DEC)
    add("bytes", "cga.public_key", "Public Key")
    add("bytes", "cga.extensions", "Extension Fields")
    add("uint8", "cga.multi_prefix.p", "Multi-Prefix: the key is a public key", DEC)
    add("ipv6", "cga.multi_prefix.subnet_prefix", "Multi-Prefix: Subnet Prefix (/64)")
    add("bytes", "signature", "Signature")
    add("uint32", "ulid_pair.reserved2", "Reserved2", DEC)
    add("ipv6", "ulid_pair.sender", "Sender ULID")
    add("ipv6", "ulid_pair.receiver", "Receiver ULID")
    add("uint32", "forked_instance", "Forked Instance Identifier", DEC)
    add("uint16", "keepalive_timeout.reserved", "Reserved", DEC)
    add("uint16", "keepalive_timeout", "Keepalive Timeout (s)", DEC)
    add("uint32", "keepalive_timeout_ms", "Keepalive Timeout (ms)", DEC)

    -- What is known from other packets.
    add("string", "fault", "Fault")
    add("uint32", "context", "Context", DEC)
    add("ipv6", "context.sender_ulid", "Sender's ULID")
    add("ipv6", "context.receiver_ulid", "Receiver's ULID")
    add("ipv6", "context.ulid", "Any ULID")
    add("uint32", "context.forked_instance", "Forked Instance Identifier", DEC)
    add("uint64", "context.sender_tag", "Sender's Context Tag", HEX)
    add("uint64", "context.receiver_tag", "Receiver's Context Tag", HEX)
    add("framenum", "context.first_frame", "First message in frame", NONE)
    add("framenum", "context.established_in", "Context established in frame", NONE)
    add("bool", "context.re_established", "Re-established after a loss")
    add("framenum", "retransmission_of", "The same as in frame", NONE)
    add("framenum", "response_to", "Response to frame", NONE, frametype and frametype.REQUEST or nil)
    add("framenum", "response_in", "Response in frame", NONE, frametype and frametype.RESPONSE or nil)
    add("relative_time", "time", "Time since that frame")
    shim6.fields = all
end

------------------------------------------------------------------------------------------------------------------------
-- Expert information
------------------------------------------------------------------------------------------------------------------------

-- What a receiver drops or refuses a packet for, as `shim6 status` counts it and `shim6 decode` says it. The rank is the order
-- in which a receiver looks.
local FAULTS = {
    multicast = { 1, "An address of the packet is multicast" },
    unspecified_address = { 2, "An address of the packet is unspecified" },
    truncated = { 3, "Shorter than any Shim6 header" },
    payload_header_length = { 3, "Hdr Ext Len of a payload header is not 0" },
    length_past_end = { 4, "Hdr Ext Len reaches past the packet" },
    bad_checksum = { 5, "Bad checksum" },
    s_bit_set = { 6, "S bit set: not a Shim6 message" },
    unknown_message_type = { 7, "Unknown message type" },
    below_minimum_length = { 8, "Shorter than this message's minimum" },
    probe_state = { 9, "Undefined state" },
    probe_count = { 10, "The counts of probes do not fit" },
    option_past_end = { 11, "Option reaches past the message" },
    duplicate_option = { 11, "Duplicate option" },
    malformed_option = { 11, "Malformed option" },
    locator_count = { 11, "The number of locators does not fit the Length" },
    zero_locators = { 11, "Locator List without locators" },
    zero_element_len = { 11, "Element Len 0" },
    unknown_critical_option = { 11, "Critical option that is not defined for this message" },
    missing_option = { 12, "No Responder Validator, which this message must have" },
}

local EXPERTS = {}
do
    local all = {}
    local function add(name, text, group, severity)
        local made = ProtoExpert.new(NAME .. ".expert." .. name, text, group, severity)
        EXPERTS[name] = made
        all[#all + 1] = made
    end
    local group, severity = expert.group, expert.severity
    for name, fault in pairs(FAULTS) do
        add(name, fault[2], name == "bad_checksum" and group.CHECKSUM or group.MALFORMED, severity.ERROR)
    end
    add("cut", "Not all of it was captured: what is wrong with it cannot be told", group.UNDECODED, severity.NOTE)
    add("not_defined_option", "Not defined for this message: ignored", group.PROTOCOL, severity.NOTE)
    add("unknown_option", "Unknown option: ignored", group.UNDECODED, severity.NOTE)
    add("next_header", "Something follows a control message: ignored", group.PROTOCOL, severity.NOTE)
    add("reserved", "Reserved bits are not zero: ignored", group.PROTOCOL, severity.NOTE)
    add("padding", "Padding is not zero: ignored", group.PROTOCOL, severity.NOTE)
    add("too_large", "Larger than 1280 octets, which no control message may be", group.PROTOCOL, severity.WARN)
    add("method", "Unknown verification method", group.PROTOCOL, severity.WARN)
    add("no_proof", "A Locator List without CGA parameters: it cannot be verified unless they came before",
        group.PROTOCOL, severity.NOTE)
    add("cga", "Malformed CGA parameters", group.MALFORMED, severity.WARN)
    add("generation", "Not the generation of the sender's Locator List", group.SEQUENCE, severity.WARN)
    add("elements", "Not as many elements as the sender's list has locators", group.SEQUENCE, severity.WARN)
    add("first_record", "The first probe sent is not about this packet", group.PROTOCOL, severity.WARN)
    add("no_record", "InboundOk without a probe received", group.PROTOCOL, severity.WARN)
    add("error_message", "The peer could not process a message", group.RESPONSE_CODE, severity.WARN)
    add("context_lost", "The sender has no context with this tag", group.SEQUENCE, severity.WARN)
    add("unknown_tag", "No message of this capture set a context with this tag up", group.SEQUENCE, severity.CHAT)
    add("retransmission", "Retransmission", group.SEQUENCE, severity.NOTE)
    shim6.experts = all
end

shim6.prefs.ulids = Pref.bool("Upper layers have the ULIDs as addresses", true,
    "Behind a payload header, put the ULIDs in the place of the locators, as the receiver does: a TCP stream stays one stream "
        .. "across failures, and checksums are right. Takes a capture in which the context was set up.")
shim6.prefs.quoted = Pref.bool("Dissect the packet in an Error message", true,
    "Show the packet that an Error message carries back as a packet.")

------------------------------------------------------------------------------------------------------------------------
-- Contexts: what messages say of each other
------------------------------------------------------------------------------------------------------------------------

-- One for each capture, made by `shim6.init`. It grows while packets are read for the first time, in their order. Later
-- readings, in any order, only look up what is known of a frame.
local state

function shim6.init()
    state = {
        contexts = 0,
        -- Tag to the contexts that have it, oldest first.
        by_tag = {},
        -- ULIDs and instance to the latest context.
        by_ulids = {},
        -- Requests, by what the response to them carries.
        requests = {},
        -- Probes sent, by addresses and nonce.
        probes = {},
        -- Frame number to what is known of it.
        frames = {},
    }
end

local function key(...)
    return table.concat({ ... }, " ")
end

local function pair_key(one, other, instance)
    if other < one then
        one, other = other, one
    end
    return key(one, other, instance)
end

-- `sender` and `receiver` are ULIDs, as text and as an address.
local function new_context(link, sender, receiver, instance)
    local context = {
        number = state.contexts,
        instance = instance,
        first_frame = link.frame,
        -- By side: 1 is the initiator's, or whose message came first.
        ulids = { sender, receiver },
        tags = {},
        first_tags = {},
        locators = { { [sender.text] = true }, { [receiver.text] = true } },
        lists = {},
        milliseconds = {},
    }
    state.contexts = state.contexts + 1
    state.by_ulids[pair_key(sender.text, receiver.text, instance)] = context
    return context
end

local function set_tag(context, side, tag)
    if context.tags[side] == tag then
        return
    end
    context.tags[side] = tag
    context.first_tags[side] = context.first_tags[side] or tag
    local known = state.by_tag[tag] or {}
    state.by_tag[tag] = known
    known[#known + 1] = { context = context, side = side }
end

-- The context of a packet to or from who has allocated the tag, and that one's side. Tags are random, so that two contexts with
-- the same are rare; then addresses decide, and what is younger.
local function find_tag(tag, owner, other)
    local best, best_score
    for _, known in ipairs(state.by_tag[tag] or {}) do
        local score = known.context.locators[known.side][owner] and 2 or 0
        if known.context.locators[3 - known.side][other] then
            score = score + 1
        end
        if not best or score >= best_score then
            best, best_score = known, score
        end
    end
    if best then
        return best.context, best.side
    end
end

-- Notes that a message waits for a response that carries `name` and these values.
local function expect(link, name, ...)
    local place = key(name, ...)
    local before = state.requests[place]
    if before and before.context == link.context then
        link.retransmission_of = before.first or before.frame
        link.first = link.retransmission_of
    end
    state.requests[place] = link
end

local function answer(link, name, ...)
    local request = state.requests[key(name, ...)]
    if request then
        link.response_to, link.time = request.frame, link.at - request.at
        request.response_in = request.response_in or link.frame
    end
    return request
end

local function join(link, context, side)
    link.context, link.side = context, side
end

-- The context of who sends I1, I2 or I2bis.
local function join_as_initiator(message, link)
    local sender, receiver = message.ulids.sender, message.ulids.receiver
    local context = state.by_ulids[pair_key(sender.text, receiver.text, message.instance)]
    local side = context and (context.ulids[1].text == sender.text and 1 or 2)
    local tag = message.tags.initiator_context_tag
    -- Another tag than before: a host that has forgotten the context. No tag yet: both ends begin at once.
    if not context or (context.tags[side] and context.tags[side] ~= tag) then
        context, side = new_context(link, sender, receiver, message.instance), 1
    end
    join(link, context, side)
    set_tag(context, side, tag)
end

local function learn(message, link)
    local context, side = link.context, link.side
    if not context then
        return
    end
    if message.list then
        context.lists[side] = message.list
        for _, locator in ipairs(message.list.locators) do
            context.locators[side][locator] = true
        end
    end
    -- What counts is the latest message that makes the context, or an update that has one of the options.
    if message.type ~= 64 or message.timeout or message.timeout_ms then
        context.milliseconds[side] = message.timeout_ms ~= nil
    end
end

local function establish(link)
    local context = link.context
    link.re_established = context.recovering
    if not context.established or context.recovering then
        context.established = link.frame
        context.first_established = context.first_established or link.frame
        context.recovering = nil
    end
end

-- A message or payload that names its context by the receiver's tag.
local function join_by_tag(message, link)
    local context, receiver = find_tag(message.tags.receiver_context_tag, message.destination, message.source)
    if context then
        join(link, context, 3 - receiver)
    end
end

local TRACK = {}

TRACK[1] = function(message, link)
    join_as_initiator(message, link)
    expect(link, "I1", message.source, message.destination, message.values.initiator_nonce)
end

TRACK[2] = function(message, link)
    local request = answer(link, "I1", message.destination, message.source, message.values.initiator_nonce)
    if request then
        join(link, request.context, 3 - request.side)
    end
    expect(link, "R1", message.source, message.destination, message.values.responder_nonce)
end

TRACK[3] = function(message, link)
    join_as_initiator(message, link)
    learn(message, link)
    answer(link, "R1", message.destination, message.source, message.values.responder_nonce)
    expect(link, "I2", message.source, message.destination, message.values.initiator_nonce)
end

TRACK[4] = function(message, link)
    local addresses = { message.destination, message.source }
    local request = answer(link, "I2", addresses[1], addresses[2], message.values.initiator_nonce)
        or answer(link, "I1", addresses[1], addresses[2], message.values.initiator_nonce)
    if request and request.context then
        join(link, request.context, 3 - request.side)
        set_tag(link.context, link.side, message.tags.responder_context_tag)
        learn(message, link)
        establish(link)
    end
end

TRACK[5] = function(message, link)
    local context, side = find_tag(message.tags.packet_context_tag, message.source, message.destination)
    if context then
        join(link, context, side)
        local last = (context.latest or {})[3 - side]
        if last then
            link.response_to, link.time = last.frame, link.at - last.at
            last.response_in = last.response_in or link.frame
        end
    end
    expect(link, "R1bis", message.source, message.destination, message.values.responder_nonce)
end

TRACK[6] = function(message, link)
    local request = answer(link, "R1bis", message.destination, message.source, message.values.responder_nonce)
    if request and request.context then
        join(link, request.context, 3 - request.side)
        set_tag(link.context, link.side, message.tags.initiator_context_tag)
    else
        join_as_initiator(message, link)
    end
    link.context.recovering = true
    learn(message, link)
    expect(link, "I2", message.source, message.destination, message.values.initiator_nonce)
end

TRACK[64] = function(message, link)
    join_by_tag(message, link)
    learn(message, link)
    if link.context then
        expect(link, "Update", link.context.number, link.side, message.values.request_nonce)
    end
end

TRACK[65] = function(message, link)
    join_by_tag(message, link)
    if link.context then
        answer(link, "Update", link.context.number, 3 - link.side, message.values.request_nonce)
    end
end

TRACK[66] = join_by_tag

TRACK[PROBE] = function(message, link)
    join_by_tag(message, link)
    link.records = {}
    for position, record in ipairs(message.records) do
        local place = key(record.source, record.destination, record.nonce)
        if position == 1 then
            state.probes[place] = state.probes[place] or link.frame
        else
            link.records[position] = state.probes[place]
        end
    end
    local context = link.context
    link.has_held = context and context.milliseconds[1] and context.milliseconds[2]
end

TRACK[ERROR] = function(message, link)
    local quoted = message.quoted
    local known = quoted and state.by_tag[quoted] and state.by_tag[quoted][#state.by_tag[quoted]]
    if known then
        -- Who sent the packet in error gets the message.
        local to = known.context.locators[known.side][message.destination] and known.side or 3 - known.side
        join(link, known.context, 3 - to)
    end
end

-- What is known of a frame; on its first reading, what is to be known of it. Only the outermost header of a frame that is not
-- itself quoted counts.
local function link_of(message)
    local pinfo = message.pinfo
    local number = pinfo.number
    if message.is_quoted or pinfo.in_error_pkt then
        return {}
    end
    if pinfo.visited or state.frames[number] then
        return state.frames[number] or {}
    end
    local link = { frame = number, at = pinfo.rel_ts }
    state.frames[number] = link
    local track = message.is_payload and join_by_tag or TRACK[message.type]
    if not track or message.fault or not message.is_readable then
        return link
    end
    track(message, link)
    local context = link.context
    if context then
        link.established = context.established
        context.latest = context.latest or {}
        context.latest[link.side] = link
        link.tags = { context.tags[1], context.tags[2] }
        link.list = context.lists[link.side]
    end
    return link
end

------------------------------------------------------------------------------------------------------------------------
-- Reading
------------------------------------------------------------------------------------------------------------------------

local function note(item, name, text)
    if text then
        item:add_proto_expert_info(EXPERTS[name], text)
    else
        item:add_proto_expert_info(EXPERTS[name])
    end
end

-- A fault that is seen; the one that a receiver sees first is kept.
local function fault(message, item, name, text)
    if message.is_cut then
        return
    end
    note(item, name, text)
    if not message.fault or FAULTS[name][1] < FAULTS[message.fault][1] then
        message.fault = name
    end
end

-- At most 64 bits, from bit `first` on: the octets that they are in, and the number.
local function bits(tvb, first, width)
    local octet = math.floor(first / 8)
    local range = tvb(octet, math.ceil((first + width) / 8) - octet)
    return range, range:bitfield(first % 8, width)
end

local function plain(number)
    return type(number) == "number" and number or number:tonumber()
end

local function address(range)
    local found = range:ipv6()
    return { text = tostring(found), address = found }
end

local function all_zero(range)
    return not range:bytes():tohex():find("[^0]")
end

local function tag_text(tag)
    return string.format("0x%012x", tag)
end

local function title(name)
    local words = name:gsub("_", " "):gsub("(%a)(%a*)", function(first, rest)
        return first:upper() .. rest
    end)
    return words
end

local function checksum(tvb, length)
    local sum = 0
    for at = 0, length - 2, 2 do
        if at ~= 4 then
            sum = sum + tvb(at, 2):uint()
        end
    end
    while sum > 0xffff do
        sum = math.floor(sum / 0x10000) + sum % 0x10000
    end
    return 0xffff - sum
end

-- The rows of the RFCs' figures: field, first bit, number of bits.
local COMMON = { { "next_header", 0, 8 }, { "hdr_ext_len", 8, 8 }, { "p", 16, 1 } }
local PAYLOAD = { { "receiver_context_tag", 17, 47 } }
local R = { "r", 48, 1 }
local I1 = { R, { "initiator_context_tag", 49, 47 }, { "initiator_nonce", 96, 32 } }
local I2 = {
    R, { "initiator_context_tag", 49, 47 }, { "initiator_nonce", 96, 32 }, { "responder_nonce", 128, 32 },
    { "reserved2", 160, 32 },
}
local I2BIS = {
    R, { "initiator_context_tag", 49, 47 }, { "initiator_nonce", 96, 32 }, { "responder_nonce", 128, 32 },
    { "reserved2", 160, 49 }, { "packet_context_tag", 209, 47 },
}
local UPDATE = { R, { "receiver_context_tag", 49, 47 }, { "request_nonce", 96, 32 } }
local FIGURES = {
    [1] = I1,
    [2] = { { "reserved2", 48, 16 }, { "initiator_nonce", 64, 32 }, { "responder_nonce", 96, 32 } },
    [3] = I2,
    [4] = { R, { "responder_context_tag", 49, 47 }, { "initiator_nonce", 96, 32 } },
    [5] = { R, { "packet_context_tag", 49, 47 }, { "responder_nonce", 96, 32 } },
    [6] = I2BIS,
    [64] = UPDATE,
    [65] = UPDATE,
    [66] = { R, { "receiver_context_tag", 49, 47 }, { "reserved2", 96, 32 } },
    [PROBE] = {
        R, { "receiver_context_tag", 49, 47 }, { "precvd", 96, 4 }, { "psent", 100, 4 }, { "sta", 104, 2 },
        { "reserved2", 106, 22 },
    },
    [ERROR] = { { "pointer", 48, 16 } },
}
-- Octets with what no message of this type can be without.
local MINIMUM = {
    [1] = 16, [2] = 16, [3] = 24, [4] = 16, [5] = 16, [6] = 32, [64] = 16, [65] = 16, [66] = 16, [PROBE] = 56, [ERROR] = 16,
}
local RECORD = 40

local function wide(number)
    return UInt64.new(number % 4294967296, math.floor(number / 4294967296))
end

-- Fields as far as the octets go; false if they end before the last one.
local function read_figure(message, figure)
    for _, row in ipairs(figure) do
        local name, first, width = row[1], row[2], row[3]
        if first + width > 8 * message.length then
            return false
        end
        local range, value = bits(message.tvb, first, width)
        local number = plain(value)
        -- Reserved2 has as many as 49 bits.
        local item = message.tree:add(FIELDS[name], range, name == "reserved2" and wide(number) or value)
        message.values[name] = number
        message.items[name] = item
        if name:find("_context_tag", 1, true) then
            item:set_text(string.format("%s: %s", title(name), tag_text(number)))
            message.tags[name] = number
            message.tree:add(FIELDS.tag, range, value):set_hidden()
        elseif (name == "r" or name:find("^reserved")) and number ~= 0 then
            note(item, "reserved")
        end
    end
    return true
end

local function add_octets(tree, name, tvb, from, to)
    if to > from then
        return tree:add(FIELDS[name], tvb(from, to - from))
    end
end

local OPTION_READERS = {}

OPTION_READERS[VALIDATOR] = function(message, tree, at, length)
    add_octets(tree, "validator", message.tvb, at, at + length)
    return true
end

OPTION_READERS[CGA_SIGNATURE] = function(message, tree, at, length)
    add_octets(tree, "signature", message.tvb, at, at + length)
    return true
end

-- RFC 5533 section 5.15.2: the locators start at a multiple of 8 octets from the start of the option.
OPTION_READERS[LOCATOR_LIST] = function(message, tree, at, length)
    local tvb = message.tvb
    if length < 5 then
        return false, "malformed_option"
    end
    local count = tvb(at + 4, 1):uint()
    local locators = at - 4 + 8 * math.ceil((9 + count) / 8)
    if at + length ~= locators + 16 * count then
        return false, count == 0 and "zero_locators" or "locator_count"
    end
    tree:add(FIELDS["locator_list.generation"], tvb(at, 4))
    tree:add(FIELDS["locator_list.num_locators"], tvb(at + 4, 1))
    message.list = { generation = tvb(at, 4):uint(), count = count, locators = {} }
    for position = 0, count - 1 do
        local method, place = tvb(at + 5 + position, 1), tvb(locators + 16 * position, 16)
        local locator = tree:add(FIELDS["locator_list.locator"], place)
        local item = locator:add(FIELDS["locator_list.verification_method"], method)
        if not METHODS[method:uint()] then
            note(item, "method")
        end
        locator:append_text(", " .. (METHODS[method:uint()] or "unknown method"))
        message.list.locators[position + 1] = address(place).text
    end
    local padding = add_octets(tree, "locator_list.padding", tvb, at + 5 + count, locators)
    if padding and not all_zero(tvb(at + 5 + count, locators - at - 5 - count)) then
        note(padding, "padding")
    end
    return true, count == 0 and "zero_locators" or nil
end

-- RFC 5533 section 5.15.3: elements of 1, 2, 3 and more octets start alike.
OPTION_READERS[PREFERENCES] = function(message, tree, at, length)
    local tvb = message.tvb
    if length < 5 then
        return false, "malformed_option"
    end
    local size = tvb(at + 4, 1):uint()
    if size == 0 then
        return false, "zero_element_len"
    elseif (length - 5) % size ~= 0 then
        return false, "malformed_option"
    end
    local generation = tree:add(FIELDS["locator_preferences.generation"], tvb(at, 4))
    tree:add(FIELDS["locator_preferences.element_len"], tvb(at + 4, 1))
    local count = (length - 5) / size
    for position = 0, count - 1 do
        local from = at + 5 + position * size
        local element = tree:add(FIELDS["locator_preferences.element"], tvb(from, size))
        element:set_text(string.format("Element %d", position + 1))
        local flags = element:add(FIELDS["locator_preferences.flags"], tvb(from, 1))
        flags:add(FIELDS["locator_preferences.flags.broken"], tvb(from, 1))
        flags:add(FIELDS["locator_preferences.flags.transient"], tvb(from, 1))
        for offset, name in ipairs({ "priority", "weight" }) do
            if offset < size then
                element:add(FIELDS["locator_preferences." .. name], tvb(from + offset, 1))
            end
        end
        add_octets(element, "locator_preferences.rest", tvb, from + 3, from + size)
    end
    message.preferences = { generation = tvb(at, 4):uint(), count = count, item = generation }
    return true
end

-- The length of a DER SEQUENCE at `at`, in its shortest form; nil if there is none that ends before `stop`.
local function sequence_length(tvb, at, stop)
    if at + 2 > stop or tvb(at, 1):uint() ~= 0x30 then
        return nil
    end
    local header, length = 2, tvb(at + 1, 1):uint()
    if length == 0x81 or length == 0x82 then
        local octets = length - 0x80
        if at + 2 + octets > stop then
            return nil
        end
        header, length = 2 + octets, tvb(at + 2, octets):uint()
        if length < (octets == 1 and 0x80 or 0x100) then
            return nil
        end
    elseif length >= 0x80 then
        return nil
    end
    return at + header + length <= stop and header + length or nil
end

local MULTI_PREFIX = 0x0012

-- Where the Multi-Prefix extension's data is (RFC 5535 section 5); false if the extension fields (RFC 4581) are malformed.
local function extensions(tvb, at, stop)
    local found
    while at < stop do
        if at + 4 > stop then
            return false
        end
        local kind, length = tvb(at, 2):uint(), tvb(at + 2, 2):uint()
        if at + 4 + length > stop then
            return false
        elseif kind == MULTI_PREFIX then
            if found or length < 12 or (length - 4) % 8 ~= 0 then
                return false
            end
            found = { from = at + 4, to = at + 4 + length }
        end
        at = at + 4 + length
    end
    return true, found
end

local function prefix(tree, name, range)
    local octets = range:bytes()
    octets:append(ByteArray.new("0000000000000000"))
    tree:add(FIELDS[name], range, octets:tvb("Prefix")(0, 16):ipv6())
end

-- RFC 3972 section 3. Whether it is right is for who verifies the locators.
OPTION_READERS[CGA_PARAMETERS] = function(message, tree, at, length)
    local tvb, stop = message.tvb, at + length
    local key_length = length >= 25 and sequence_length(tvb, at + 25, stop)
    local well_formed, multi_prefix
    if key_length then
        well_formed, multi_prefix = extensions(tvb, at + 25 + key_length, stop)
    end
    message.has_proof = true
    if not well_formed then
        local item = add_octets(tree, "cga.parameters", tvb, at, stop)
        note(item or tree, "cga")
        return true
    end
    tree:add(FIELDS["cga.modifier"], tvb(at, 16))
    prefix(tree, "cga.subnet_prefix", tvb(at + 16, 8))
    tree:add(FIELDS["cga.collision_count"], tvb(at + 24, 1))
    add_octets(tree, "cga.public_key", tvb, at + 25, at + 25 + key_length)
    add_octets(tree, "cga.extensions", tvb, at + 25 + key_length, stop)
    if multi_prefix then
        local range, p = bits(tvb, 8 * multi_prefix.from, 1)
        tree:add(FIELDS["cga.multi_prefix.p"], range, p)
        for from = multi_prefix.from + 4, multi_prefix.to - 8, 8 do
            prefix(tree, "cga.multi_prefix.subnet_prefix", tvb(from, 8))
        end
    end
    return true
end

OPTION_READERS[ULID_PAIR] = function(message, tree, at, length)
    if length ~= 36 then
        return false, "malformed_option"
    end
    local tvb = message.tvb
    tree:add(FIELDS["ulid_pair.reserved2"], tvb(at, 4))
    tree:add(FIELDS["ulid_pair.sender"], tvb(at + 4, 16))
    tree:add(FIELDS["ulid_pair.receiver"], tvb(at + 20, 16))
    message.ulids = { sender = address(tvb(at + 4, 16)), receiver = address(tvb(at + 20, 16)) }
    return true
end

OPTION_READERS[FORKED_INSTANCE] = function(message, tree, at, length)
    if length ~= 4 then
        return false, "malformed_option"
    end
    tree:add(FIELDS.forked_instance, message.tvb(at, 4))
    message.instance = message.tvb(at, 4):uint()
    return true
end

OPTION_READERS[KEEPALIVE_TIMEOUT] = function(message, tree, at, length)
    if length ~= 4 then
        return false, "malformed_option"
    end
    tree:add(FIELDS["keepalive_timeout.reserved"], message.tvb(at, 2))
    tree:add(FIELDS.keepalive_timeout, message.tvb(at + 2, 2))
    message.timeout = message.tvb(at + 2, 2):uint()
    return true
end

OPTION_READERS[KEEPALIVE_TIMEOUT_MS] = function(message, tree, at, length)
    if length ~= 4 then
        return false, "malformed_option"
    end
    tree:add(FIELDS.keepalive_timeout_ms, message.tvb(at, 4))
    message.timeout_ms = message.tvb(at, 4):uint()
    return true
end

-- The option at `at`; gives where the next one is.
local function read_option(message, at, seen)
    local tvb, stop = message.tvb, message.length
    local kind = math.floor(tvb(at, 2):uint() / 2)
    local critical, length = tvb(at + 1, 1):bitfield(7, 1), tvb(at + 2, 2):uint()
    local total = 11 + length - (length + 3) % 8
    local reach = math.min(at + total, stop)
    local item = message.tree:add(FIELDS.option, tvb(at, reach - at))
    item:set_text(string.format("Option: %s (%d)", OPTION_NAMES[kind] or "unknown", kind))
    local type_range, type_value = bits(tvb, 8 * at, 15)
    item:add(FIELDS["option.type"], type_range, type_value)
    item:add(FIELDS["option.critical"], tvb(at + 1, 1), critical)
    item:add(FIELDS["option.length"], tvb(at + 2, 2))
    local is_defined = (DEFINED[message.type] or {})[kind]
    local is_there, is_read, wrong = at + 4 + length <= stop, false, nil
    if is_there and OPTION_READERS[kind] then
        is_read, wrong = OPTION_READERS[kind](message, item, at + 4, length)
    end
    if not is_read then
        add_octets(item, "option.contents", tvb, at + 4, is_there and at + 4 + length or stop)
    end
    if at + total > stop then
        fault(message, item, "option_past_end")
    elseif is_defined and seen[kind] then
        fault(message, item, "duplicate_option")
    elseif is_defined and wrong then
        fault(message, item, wrong)
    elseif not is_defined and critical == 1 then
        fault(message, item, "unknown_critical_option")
    elseif not is_defined then
        note(item, OPTION_NAMES[kind] and "not_defined_option" or "unknown_option")
    end
    if at + total <= stop then
        local padding = add_octets(item, "option.padding", tvb, at + 4 + length, reach)
        if padding and not all_zero(tvb(at + 4 + length, reach - at - 4 - length)) then
            note(padding, "padding")
        end
    end
    seen[kind] = true
    return reach
end

-- The options from `at` to the message's end.
local function read_options(message, at)
    local seen = {}
    while at + 4 <= message.length do
        at = read_option(message, at, seen)
    end
    local rest = add_octets(message.tree, "rest", message.tvb, at, message.length)
    if rest then
        fault(message, rest, "option_past_end")
    end
    if NEEDS_VALIDATOR[message.type] and not seen[VALIDATOR] then
        fault(message, message.tree, "missing_option")
    end
    if message.list and not message.has_proof then
        note(message.tree, "no_proof")
    end
end

local function read_record(message, kind, at, position)
    local tvb = message.tvb
    local item = message.tree:add(FIELDS[kind], tvb(at, RECORD))
    item:set_text(string.format("Probe %s %d", kind, position))
    local source, destination = address(tvb(at, 16)), address(tvb(at + 16, 16))
    local nonce, data = tvb(at + 32, 4), tvb(at + 36, 4)
    item:add(FIELDS[kind .. ".source"], tvb(at, 16))
    item:add(FIELDS[kind .. ".destination"], tvb(at + 16, 16))
    item:add(FIELDS[kind .. ".nonce"], nonce)
    local data_item = item:add(FIELDS[kind .. ".data"], data)
    item:append_text(string.format(": %s -> %s, nonce 0x%08x", source.text, destination.text, nonce:uint()))
    message.records[#message.records + 1] = {
        source = source.text, destination = destination.text, nonce = nonce:uint(), data = data:uint(),
        kind = kind, item = item, data_item = data_item,
    }
end

-- The records of a Probe, and the options behind them.
local function read_probe(message)
    local values, at = message.values, 16
    local is_long_enough = message.length >= MINIMUM[PROBE]
    if is_long_enough and values.sta == 3 then
        fault(message, message.items.sta, "probe_state")
    end
    if is_long_enough and values.psent == 0 then
        fault(message, message.items.psent, "probe_count")
    end
    for _, count in ipairs({ { "sent", values.psent }, { "received", values.precvd } }) do
        for position = 1, count[2] do
            if at + RECORD > message.length then
                local rest = add_octets(message.tree, "rest", message.tvb, at, message.length)
                if is_long_enough then
                    fault(message, rest or message.items.psent, "probe_count")
                end
                message.is_readable = false
                return
            end
            read_record(message, count[1], at, position)
            at = at + RECORD
        end
    end
    local first = message.records[1]
    if values.psent > 0 and (first.source ~= message.source or first.destination ~= message.destination) then
        note(first.item, "first_record")
    end
    if values.sta == 2 and values.precvd == 0 then
        note(message.items.sta, "no_record")
    end
    read_options(message, at)
end

-- The tag in the packet that an Error message carries back, to tell whose it is: where most messages have one.
local function quoted_tag(tvb, at)
    local header = at + IPV6_HEADER
    local is_payload = tvb(header + 2, 1):bitfield(0, 1) == 1
    local _, tag = bits(tvb, 8 * header + (is_payload and 17 or 49), 47)
    return plain(tag)
end

local function read_error(message)
    local tvb, stop = message.tvb, message.length
    message.quotes_shim6 = stop >= 8 + IPV6_HEADER + 12 and tvb(8 + 6, 1):uint() == PROTOCOL
    if message.quotes_shim6 then
        message.quoted = quoted_tag(tvb, 8)
    end
    local code = message.values.error_code
    note(message.items.error_code, "error_message", ERROR_CODES[code])
    message.packet_in_error = add_octets(message.tree, "packet_in_error", tvb, 8, stop)
end

local function judge_checksum(message, is_whole)
    local item, tree = message.items.checksum, message.tree
    local status = 2
    if is_whole then
        local expected = checksum(message.tvb, message.length)
        local found = message.values.checksum
        status = (found == expected or (expected == 0 and found == 0xffff)) and 1 or 0
        item:append_text(status == 1 and " [correct]" or string.format(" [should be 0x%04x]", expected))
        if status == 0 then
            fault(message, item, "bad_checksum", string.format("Bad checksum, should be 0x%04x", expected))
        end
        tree:add(FIELDS["checksum.expected"], message.tvb(4, 2), expected):set_generated()
    end
    tree:add(FIELDS["checksum.status"], message.tvb(4, 2), status):set_generated()
end

-- What is not a payload header. `claimed` is what Hdr Ext Len says.
local function read_control(message, claimed)
    local tvb, available = message.tvb, message.length
    local is_whole = claimed <= available
    message.length = math.min(claimed, available)
    message.type = tvb(2, 1):bitfield(1, 7)
    local is_known = MESSAGES[message.type] ~= nil
    local specific = message.type == ERROR and "error_code" or is_known and "reserved1" or "type_specific"
    local header = { { "type", 17, 7 }, { specific, 24, 7 }, { "s", 31, 1 }, { "checksum", 32, 16 } }
    local has_header = read_figure(message, header)
    message.items.hdr_ext_len:append_text(string.format(" (%d octets)", claimed))
    if not is_whole and available >= 8 then
        fault(message, message.items.hdr_ext_len, "length_past_end")
    end
    if message.values.next_header ~= 59 then
        note(message.items.next_header, "next_header")
    end
    if not has_header then
        return
    end
    judge_checksum(message, is_whole)
    if message.values.s == 1 then
        fault(message, message.items.s, "s_bit_set")
    end
    if not is_known then
        fault(message, message.items.type, "unknown_message_type")
        add_octets(message.tree, "rest", tvb, 6, message.length)
        return
    end
    if message.length < MINIMUM[message.type] then
        fault(message, message.items.type, "below_minimum_length")
    end
    local rows = FIGURES[message.type]
    message.is_readable = read_figure(message, rows)
    if not message.is_readable then
        return
    end
    if message.type == PROBE then
        read_probe(message)
    elseif message.type == ERROR then
        read_error(message)
    else
        local last = rows[#rows]
        read_options(message, (last[2] + last[3]) / 8)
    end
end

local function check_addresses(message)
    local source, destination = message.source, message.destination
    if source:find("^ff%x%x:") or destination:find("^ff%x%x:") then
        fault(message, message.tree, "multicast")
    elseif source == "::" or destination == "::" then
        fault(message, message.tree, "unspecified_address")
    end
end

------------------------------------------------------------------------------------------------------------------------
-- Showing
------------------------------------------------------------------------------------------------------------------------

-- One line on a message.
local function summary(message)
    local values, tags = message.values, message.tags
    if message.is_payload then
        local tag = tags.receiver_context_tag
        return "Payload" .. (tag and ", to tag " .. tag_text(tag) or "")
    end
    local name = message.type and (MESSAGES[message.type] or "Message of unknown type " .. message.type)
    local parts = { name or "The start of a header" }
    local function add(...)
        parts[#parts + 1] = string.format(...)
    end
    if message.type == PROBE and values.sta then
        add("%s", STATES[values.sta])
        add("%d sent", values.psent)
        add("%d received", values.precvd)
    elseif message.type == ERROR and values.pointer then
        add("%s", ERROR_CODES[values.error_code] or "code " .. values.error_code)
        add("pointer %d", values.pointer)
    end
    if message.list then
        add("%d locators", message.list.count)
    end
    if message.preferences then
        add("preferences")
    end
    if tags.initiator_context_tag or tags.responder_context_tag then
        add("from tag %s", tag_text(tags.initiator_context_tag or tags.responder_context_tag))
    end
    if tags.receiver_context_tag or tags.packet_context_tag then
        add("to tag %s", tag_text(tags.receiver_context_tag or tags.packet_context_tag))
    end
    return table.concat(parts, ", ")
end

local function show_responses(tree, link)
    if link.retransmission_of then
        local item = tree:add(FIELDS.retransmission_of, link.retransmission_of)
        item:set_generated()
        note(item, "retransmission")
    end
    if link.response_to then
        tree:add(FIELDS.response_to, link.response_to):set_generated()
        -- Clocks of captures have microseconds at least, and a binary fraction is not exactly one of these.
        local nanoseconds = math.floor(math.max(link.time, 0) * 1e9 + 0.5)
        local seconds = math.floor(nanoseconds / 1e9)
        tree:add(FIELDS.time, NSTime.new(seconds, nanoseconds - seconds * 1e9)):set_generated()
    end
    if link.response_in then
        tree:add(FIELDS.response_in, link.response_in):set_generated()
    end
end

local function show_context(tree, link)
    local context, side = link.context, link.side
    local sender, receiver = context.ulids[side], context.ulids[3 - side]
    local item = tree:add(FIELDS.context, context.number)
    item:append_text(string.format(": %s to %s", sender.text, receiver.text))
    item:set_generated()
    local function add(name, ...)
        local made = item:add(FIELDS[name], ...)
        made:set_generated()
        return made
    end
    add("context.sender_ulid", sender.address)
    add("context.receiver_ulid", receiver.address)
    for _, ulid in ipairs({ sender, receiver }) do
        item:add(FIELDS["context.ulid"], ulid.address):set_hidden()
    end
    if context.instance ~= 0 then
        add("context.forked_instance", context.instance)
    end
    for whose, owner in pairs({ sender = side, receiver = 3 - side }) do
        local tag = link.tags[owner] or context.first_tags[owner]
        if tag then
            local made = add("context." .. whose .. "_tag", wide(tag))
            made:set_text(string.format("%s's Context Tag: %s", title(whose), tag_text(tag)))
        end
    end
    add("context.first_frame", context.first_frame)
    local established = link.established or context.first_established
    if established then
        add("context.established_in", established)
    end
    if link.re_established then
        add("context.re_established", true)
    end
end

local function show_probe(message, link)
    for position, frame in pairs(link.records or {}) do
        local record = message.records[position]
        if record then
            record.item:add(FIELDS[record.kind .. ".frame"], frame):set_generated()
        end
    end
    local first = message.records[1]
    if not link.has_held or not first or first.kind ~= "sent" then
        return
    end
    if first.data == DATA_IS_TEST then
        first.data_item:append_text(" (a test of a pair that is preferred)")
    elseif first.data == DATA_IS_LONG then
        first.data_item:append_text(" (the first probe received came long ago)")
    elseif message.values.precvd > 0 then
        first.data_item:append_text(string.format(" (the first probe received came %d us before)", first.data))
    end
end

local function show_preferences(message, link)
    local preferences, list = message.preferences, link.list
    if not preferences or not list then
        return
    end
    if preferences.generation ~= list.generation then
        note(preferences.item, "generation")
    elseif preferences.count ~= list.count then
        note(preferences.item, "elements")
    end
end

local function show(message, link)
    local tree, pinfo = message.tree, message.pinfo
    local text = summary(message)
    tree:set_text("Shim6 " .. text)
    if link.context then
        show_context(tree, link)
        text = string.format("[%d] %s", link.context.number, text)
    elseif message.tags.receiver_context_tag and not message.is_quoted and not pinfo.in_error_pkt then
        note(message.items.receiver_context_tag, "unknown_tag")
    end
    show_responses(tree, link)
    if message.type == PROBE then
        show_probe(message, link)
    elseif message.type == 5 then
        note(tree, "context_lost")
    end
    show_preferences(message, link)
    if message.fault then
        tree:add(FIELDS.fault, message.fault):set_generated()
        tree:append_text(" [" .. message.fault .. "]")
        text = text .. " [" .. message.fault .. "]"
    end
    if message.is_cut then
        note(tree, "cut")
    end
    pinfo.cols.protocol = "Shim6"
    pinfo.cols.info = text
end

------------------------------------------------------------------------------------------------------------------------
-- The dissector
------------------------------------------------------------------------------------------------------------------------

local next_headers = DissectorTable.get("ip.proto")
local data = Dissector.get("data")
local ipv6 = Dissector.get("ipv6")
-- How many Error messages the octets at hand are quoted in.
local depth = 0

-- Dissectors of others raise errors for malformed packets, which they have shown by then.
local function dissect_payload(message, link, root)
    local pinfo = message.pinfo
    local payload = message.tvb:range(8):tvb()
    local before = { tostring(pinfo.src), tostring(pinfo.dst) }
    local is_changed = false
    if link.context and shim6.prefs.ulids then
        local sender, receiver = link.context.ulids[link.side], link.context.ulids[3 - link.side]
        is_changed = sender.text ~= before[1] or receiver.text ~= before[2]
        pinfo.src, pinfo.dst = sender.address, receiver.address
    end
    -- Nothing that is quoted may count as a segment of its stream.
    if depth > 0 then
        data:call(payload, pinfo, root)
        return
    end
    local called, consumed = pcall(next_headers.try, next_headers, message.values.next_header, payload, pinfo, root)
    if called and consumed == 0 then
        data:call(payload, pinfo, root)
    end
    if is_changed then
        pinfo.cols.info:prepend(string.format("[via %s -> %s] ", before[1], before[2]))
    end
end

local function dissect_quoted(message)
    local pinfo = message.pinfo
    local source, destination, info = pinfo.src, pinfo.dst, tostring(pinfo.cols.info)
    depth = depth + 1
    pcall(ipv6.call, ipv6, message.tvb(8, message.length - 8):tvb(), pinfo, message.packet_in_error)
    depth = depth - 1
    pinfo.src, pinfo.dst = source, destination
    pinfo.cols.protocol, pinfo.cols.info = "Shim6", info
end

function shim6.dissector(tvb, pinfo, root)
    local length = tvb:len()
    local message = {
        tvb = tvb, pinfo = pinfo, length = length, tree = root:add(shim6, tvb()),
        source = tostring(pinfo.src), destination = tostring(pinfo.dst),
        values = {}, items = {}, tags = {}, records = {}, instance = 0,
        is_quoted = depth > 0, is_readable = false,
    }
    message.ulids = {
        sender = { text = message.source, address = pinfo.src },
        receiver = { text = message.destination, address = pinfo.dst },
    }
    message.is_payload = length >= 3 and tvb(2, 1):bitfield(0, 1) == 1
    local claimed = message.is_payload and 8 or length >= 2 and 8 * (tvb(1, 1):uint() + 1) or 8
    message.is_cut = length < tvb:reported_len() and length < claimed
    local has_common = read_figure(message, COMMON)
    if length < 8 then
        fault(message, message.tree, "truncated")
    end
    -- Those of payload are for its context to check.
    if not message.is_payload or length < 8 then
        check_addresses(message)
    end
    if message.is_payload then
        message.is_readable = read_figure(message, PAYLOAD)
        if length >= 8 and message.values.hdr_ext_len ~= 0 then
            fault(message, message.items.hdr_ext_len, "payload_header_length")
        end
        message.tree:set_len(math.min(length, 8))
    elseif has_common then
        read_control(message, claimed)
        message.tree:set_len(message.length)
        if IPV6_HEADER + claimed > 1280 then
            note(message.items.hdr_ext_len, "too_large")
        end
    end
    if length > claimed or message.is_payload and length == claimed then
        message.tree:add(FIELDS.octets_after, length - claimed):set_generated()
    end
    local link = link_of(message)
    show(message, link)
    if message.is_payload and message.is_readable and not message.fault and length > 8 then
        dissect_payload(message, link, root)
    elseif message.packet_in_error and message.quotes_shim6 and shim6.prefs.quoted and depth == 0 then
        dissect_quoted(message)
    end
    return length
end

next_headers:set(PROTOCOL, shim6)
