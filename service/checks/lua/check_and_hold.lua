-- Decide one request against all its counters at once and, when asked to, place its hold in all of them.
--
-- KEYS  1 {t}:cv   2 {t}:r:<reservation id>   3… counters
-- ARGV  1 config_version of the caller
--       2 flags: 'h' place a hold, 'f' the request is priced free (of any other at least one micro-USD is held),
--         's' the ledger cannot be read at the moment: copies stale for up to 15 min are accepted, no hold lapses
--       3 reservation id   4 fingerprint of the request   5 amount, micro-USD   6 life of the hold, ms
--       7 requested model, '' when unknown
--       8, 9 the counters' windows and limits hold from (inclusive) to (exclusive), ms
--       10 one character per counter: 'e' it enforces, 's' it is a shadow
--       11 who places the hold: any text no other check has
--       12 '' when every counter has one bucket and nothing else; otherwise one character per counter: '1' just that,
--         'c' one bucket and what was carried into its window, 'r' rolling
--       13 '' when the call takes one route, through all counters; otherwise the routes it may take, by spaces:
--         '<amount>:<f: priced free, otherwise ->:<name>:<counters, from 1, by commas>'; each counter is in one at least.
--         The name, hexadecimal or '', is the same in every question of a request, whatever its windows and amounts are
--       then per counter: 'p:<bucket>', with 'c' 'p:<bucket> <most that counts of what was carried in, micro-USD>', of
--         a rolling one '<oldest counted bucket> <seconds of a bucket> <buckets>';
--         limit in micro-USD, without what was carried in
-- Answers, nothing changed but lapsed holds:
--       {'STALE_CONFIG', version}   a newer configuration exists: reload and ask again
--       {'STALE_WINDOW', now ms}    a window begins or ends between the two clocks: match for `now` and ask again
--       {'REUSED'}                  the id has a live hold of another request
--       {'MISSING', i, …}           counters (from 1) without a fresh copy: seed them and ask again
--       {'DENY', 0, 0, lapsed, figures}
-- Answers of the other kind:
--       {'ALLOW', expiry (0: no hold), amount held, lapsed, figures}
--       {'REPLAY', expiry, amount, lapsed, figures}   the same request has a live hold for a route: nothing changed
-- figures: per counter posted, held (the own hold included), 1 when it denies (a shadow too; of several routes any).
--       With 12 then per counter what was carried in, and when enough falls out of a rolling one that denies, ms (0:
--       that does not help). With 13 then per route 1 when it is allowed. lapsed: holds dropped.
--
-- A route is denied when an enforcing counter it goes through denies its amount, the call when all its routes are. A
-- counter holds the most of what the allowed routes through it may take.

local STALE_MS = 900000                   -- a copy older than this tells nothing, whoever cannot be read

local now = server_time_ms()
local fence = tonumber(call('GET', KEYS[1]) or 0)
local config_version = tonumber(ARGV[1])
if fence > config_version then
    return {'STALE_CONFIG', fence}
end
if now < tonumber(ARGV[8]) or now >= tonumber(ARGV[9]) then
    return {'STALE_WINDOW', now}
end

local flags, reservation_id = ARGV[2], ARGV[3]
local wants_hold = string.find(flags, 'h', 1, true)
local is_free = string.find(flags, 'f', 1, true)
local is_ledger_down = string.find(flags, 's', 1, true)
-- What is not free takes place, however cheap: estimates of nothing would pass in any number.
local amount = math.max(tonumber(ARGV[5]), is_free and 0 or 1)
local amount_text = as_text(amount)
local fresh_after = is_ledger_down and now - STALE_MS or now
local count = #KEYS - 2

-- Nearly every call takes one route through counters of one bucket. Functions for all else are made where they are
-- needed: making one costs as much as a good part of reading a counter.
local kinds = ARGV[12] ~= '' and ARGV[12]
local carried, rolling, moved, asked_of, read_counter
if kinds then
    carried, rolling, moved = {}, {}, {}

    asked_of = function(spec)
        local oldest, step, number = string.match(spec, '^(%d+) (%d+) (%d+)$')
        return {oldest = tonumber(oldest), step = tonumber(step), number = tonumber(number)}
    end

    -- Return what is posted from the oldest bucket on: the sum that is known less what fell out of it, or all anew.
    local function sum_from(key, asked, known_oldest, known_sum)
        local first, sum = tonumber(known_oldest or 0), 0
        if first < asked.oldest and asked.oldest - first <= asked.number * asked.step then
            local fields = {}
            for bucket = first, asked.oldest - 1, asked.step do
                fields[#fields + 1] = string.format('p:%.0f', bucket)
            end
            sum = tonumber(known_sum)
            for _, amount in ipairs(call('HMGET', key, unpack(fields))) do
                sum = sum - (amount or 0)
            end
            return sum
        end
        local flat = call('HGETALL', key)
        for n = 1, #flat, 2 do
            local bucket = string.match(flat[n], '^p:(%d+)$')
            if bucket and tonumber(bucket) >= asked.oldest then
                sum = sum + flat[n + 1]
            end
        end
        return sum
    end

    -- Return fresh_until, held, when a hold is due, what is posted, and `rx`. Of a rolling counter everything is posted
    -- from the oldest counted bucket on, so that nothing escapes which was booked by a clock ahead of this one. What was
    -- seeded for buckets that begin later is not fresh.
    read_counter = function(i, spec)
        local kind = string.sub(kinds, i, i)
        if kind == '1' then
            carried[i] = 0
            return call('HMGET', KEYS[i + 2], 'f', 'h', 'd', spec, 'rx')
        end
        if kind == 'c' then
            local bucket, most = string.match(spec, '^(%S+) (%d+)$')
            local known = call('HMGET', KEYS[i + 2], 'f', 'h', 'd', bucket, 'rx', 'k')
            carried[i] = math.min(tonumber(known[6] or 0), tonumber(most))
            return known
        end
        local known = call('HMGET', KEYS[i + 2], 'f', 'h', 'd', 'sp', 'rx', 'so')
        carried[i], rolling[i] = 0, spec
        if known[1] and not (known[6] and string.find(spec, known[6] .. ' ', 1, true) == 1) then
            local asked, seeded_from = asked_of(spec), call('HGET', KEYS[i + 2], 'o')
            if not seeded_from or tonumber(seeded_from) > asked.oldest then
                return {false}
            end
            local sum = sum_from(KEYS[i + 2], asked, known[6], known[4])
            known[4] = math.min(sum, LARGEST)
            if sum <= LARGEST then
                moved[#moved + 1] = {KEYS[i + 2], as_text(asked.oldest), as_text(sum)}
            end
        end
        return known
    end
end

-- Several routes. most: per counter the most that one of them which is not free asks of it.
local routes, most
if ARGV[13] ~= '' then
    routes, most = {}, {}
    for asked, free, name, positions in string.gmatch(ARGV[13], '(%d+):([f-]):(%x*):(%S*)') do
        local route = {is_free = free == 'f', name = name, counters = {}}
        route.amount = math.max(tonumber(asked), route.is_free and 0 or 1)
        for position in string.gmatch(positions, '%d+') do
            local i = tonumber(position)
            route.counters[#route.counters + 1] = i
            if not route.is_free then
                most[i] = math.max(most[i] or 0, route.amount)
            end
        end
        routes[#routes + 1] = route
    end
end

local earlier = wants_hold and read_reservation(KEYS[2], reservation_id, 'fp')
local is_live = earlier and earlier.state == 'live'
local is_replay = is_live and earlier.expires > now
if is_replay and earlier.extra ~= ARGV[4] then
    return {'REUSED'}
end

-- What was allowed is allowed again, what was denied is not, in whatever order and windows it is asked about now. Routes
-- nobody asked about then may be taken if the hold covers them; if it covers none of all, they may be taken as the call
-- was told: some way is allowed. Only if every route is one that was denied the hold is of no use: it is decided anew.
if is_replay and (routes or #earlier.avoided > 0) then
    local decided, covered, avoided = {}, {}, {}
    for name, bit in string.gmatch(call('HGET', KEYS[2], 'ro') or '', '(%x+):([01])') do
        decided[name] = decided[name] == '0' and '0' or bit
    end
    for i, counter in ipairs(earlier.counters) do
        covered[counter_name(counter)] = tonumber(earlier.left[i] or earlier.amount)
    end
    for _, name in ipairs(earlier.avoided) do
        avoided[name] = true
    end
    local ways = routes
    if not ways then
        ways = {{amount = amount, counters = {}}}
        for i = 1, count do
            ways[1].counters[i] = i
        end
    end
    local is_any_allowed, is_any_new = false, false
    for _, way in ipairs(ways) do
        local bit = decided[way.name or '']
        way.is_allowed, way.is_new = bit ~= '0', not bit
        for _, i in ipairs(bit and {} or way.counters) do
            local name = counter_name(KEYS[i + 2])
            way.is_allowed = way.is_allowed and (covered[name] or -1) >= way.amount
            way.is_new = way.is_new and not avoided[name]
        end
        is_any_allowed, is_any_new = is_any_allowed or way.is_allowed, is_any_new or way.is_new
    end
    if not is_any_allowed then
        for _, way in ipairs(ways) do
            way.is_allowed = way.is_new
        end
        is_replay = is_any_new
    end
end

local posted, held, due, up_to, limit, denies = {}, {}, {}, {}, {}, {}
local missing = {'MISSING'}
for i = 1, count do
    local known = kinds and read_counter(i, ARGV[12 + 2 * i])
        or call('HMGET', KEYS[i + 2], 'f', 'h', 'd', ARGV[12 + 2 * i], 'rx')
    if not known[1] or tonumber(known[1]) <= fresh_after then
        missing[#missing + 1] = i
    end
    held[i] = tonumber(known[2] or 0)
    due[i] = tonumber(known[3])
    posted[i] = tonumber(known[4] or 0)
    up_to[i] = tonumber(known[5])
    limit[i] = tonumber(ARGV[13 + 2 * i])
    if kinds then
        carried[i] = limit[i] > 0 and carried[i] or 0  -- a limit of 0 denies, whatever was left before
        limit[i] = math.min(limit[i] + carried[i], LARGEST)
    end
end
if #missing > 1 then
    return missing
end

-- While a slot is on its way a cluster lets in what names known keys only: a check under the id of an earlier one.
if earlier and not is_replay then
    reach(earlier.counters)
    reach({unpack(KEYS, 3)})
end

if fence < config_version then
    call('SET', KEYS[1], ARGV[1])
end
for _, each in ipairs(moved or {}) do
    call('HSET', each[1], 'so', each[2], 'sp', each[3])
end

-- An earlier hold of the same id lapsed, but may not have been dropped everywhere, or is of no use: it gives way.
if is_live and not is_replay then
    release_all(earlier)
    if earlier.expires > now then
        call('HSET', KEYS[2], 'st', 'voided')
    end
    for i = 1, count do
        held[i] = tonumber(call('HGET', KEYS[i + 2], 'h') or 0)
    end
end

local is_denied = false
local lapsed = 0
local asked = not is_free and amount
for i = 1, count do
    if routes then
        asked = most[i]
    end
    local dropped, freed
    repeat
        dropped = 0
        if due[i] and due[i] <= now and not is_ledger_down then
            dropped, freed, due[i] = drop_due(KEYS[i + 2], now)
            held[i] = held[i] - freed
            lapsed = lapsed + dropped
        end
        denies[i] = not is_replay and (limit[i] == 0 or (asked and posted[i] + held[i] + asked > limit[i]))
    until dropped < DUE_AT_ONCE or not denies[i]
    is_denied = is_denied or (denies[i] and string.sub(ARGV[10], i, i) == 'e')
end

-- shares: per counter what its hold is to be, nil where no allowed route goes through; least: the least it denies.
local shares, least
if routes and not is_replay then
    shares, least, amount, is_denied = {}, {}, 0, true
    for _, route in ipairs(routes) do
        route.is_allowed = true
        for _, i in ipairs(route.counters) do
            local is_too_much = not route.is_free and posted[i] + held[i] + route.amount > limit[i]
            if is_too_much then
                least[i] = math.min(least[i] or route.amount, route.amount)
            end
            if (is_too_much or limit[i] == 0) and string.sub(ARGV[10], i, i) == 'e' then
                route.is_allowed = false
            end
        end
        if route.is_allowed then
            is_denied = false
            amount = math.max(amount, route.amount)
            for _, i in ipairs(route.counters) do
                shares[i] = math.max(shares[i] or 0, route.amount)
            end
        end
    end
    amount_text = as_text(amount)
end

-- When so much has fallen out of the rolling counters that deny, their oldest buckets first, that what they deny fits.
local resets = {}
if kinds then
    for i = 1, count do
        local wanted = not is_free and amount
        if routes then
            wanted = least and least[i]
        end
        if rolling[i] and denies[i] and wanted and limit[i] > 0 then
            local asked, excess, fields = asked_of(rolling[i]), posted[i] + held[i] + wanted - limit[i], {}
            for n = 0, asked.number do  -- one more than is counted: that of a clock ahead
                fields[n + 1] = string.format('p:%.0f', asked.oldest + n * asked.step)
            end
            for n, bucket_amount in ipairs(call('HMGET', KEYS[i + 2], unpack(fields))) do
                excess = excess - (bucket_amount or 0)
                if excess <= 0 then
                    resets[i] = (asked.oldest + (n - 1 + asked.number) * asked.step) * 1000
                    break
                end
            end
        end
    end
end

local answer = {'ALLOW', 0, 0, lapsed}
if is_replay then
    answer = {'REPLAY', earlier.expires, earlier.amount, lapsed}
elseif is_denied then
    answer = {'DENY', 0, 0, lapsed}
elseif wants_hold then
    local expires, now_text = now + ARGV[6], as_text(now)
    local expires_text = as_text(expires)
    local origin = ':' .. now_text .. ':' .. reservation_id
    local member = amount_text .. origin
    local share, share_text = amount, amount_text
    local holding, left, avoided = {}, {}, {}
    for i = 1, count do
        if shares then
            share = shares[i] or 0
            share_text = as_text(share)
            member = share_text .. origin
            if shares[i] then
                holding[#holding + 1], left[#left + 1] = KEYS[i + 2], share_text
            else
                avoided[#avoided + 1] = counter_name(KEYS[i + 2])
            end
        end
        -- Only a shadow budget gets this far with more held than Lua can count; it is over its limit either way.
        if share > 0 and held[i] + share <= LARGEST then
            local key = KEYS[i + 2]
            call('HINCRBY', key, 'h', share_text)
            call('ZADD', key .. ':z', expires_text, member)
            if up_to[i] then
                note_change(key, up_to[i], up_to[i], 0, expires, share)
            end
            if held[i] == 0 then
                call('PEXPIREAT', key .. ':z', as_text(now + KEPT_MS))
            end
            if not due[i] or due[i] > expires then
                call('HSET', key, 'd', expires_text)
            end
            held[i] = held[i] + share
        end
    end
    if earlier then
        call('HDEL', KEYS[2], 'lo', 'ro', 'av')
    end
    call('HSET', KEYS[2], 'st', 'live', 'fp', ARGV[4], 'at', now_text, 'ex', expires_text, 'am', amount_text,
        'co', '0', 'rm', ARGV[7], 'by', ARGV[11],
        'cs', shares and table.concat(holding, ' ') or table.concat(KEYS, ' ', 3))
    if shares then
        local bits = {}
        for number, route in ipairs(routes) do
            bits[number] = route.name .. (route.is_allowed and ':1' or ':0')
        end
        call('HSET', KEYS[2], 'lo', table.concat(left, ' '), 'ro', table.concat(bits, ' '),
            'av', table.concat(avoided, ' '))
    end
    call('PEXPIREAT', KEYS[2], as_text(expires + REMEMBERED_MS))
    answer = {'ALLOW', expires, amount, lapsed}
end

for i = 1, count do
    local at = 3 * i
    answer[at + 2], answer[at + 3], answer[at + 4] = posted[i], held[i], denies[i] and 1 or 0
end
if kinds then
    for i = 1, count do
        answer[#answer + 1], answer[#answer + 2] = carried[i], resets[i] or 0
    end
end
if routes then
    for _, route in ipairs(routes) do
        answer[#answer + 1] = route.is_allowed and 1 or 0
    end
end
return answer
