-- Decide one request against all its counters at once and, when asked to, place its hold in all of them.
--
-- KEYS  1 {t}:cv   2 {t}:r:<reservation id>   3… counters
-- ARGV  1 config_version of the caller
--       2 flags: 'h' place a hold, 'f' the request is priced free (of any other at least one micro-USD is held),
--         's' the ledger cannot be read at the moment: copies stale for up to 15 min are accepted, no hold lapses
--       3 reservation id   4 fingerprint of the request   5 amount, micro-USD   6 life of the hold, ms
--       7 requested model, '' when unknown
--       8, 9 the counters' windows hold from (inclusive) to (exclusive), ms
--       10 one character per counter: 'e' it enforces, 's' it is a shadow
--       11 who places the hold: any text no other check has
--       then per counter: 'p:<bucket>', limit in micro-USD
-- Answers, nothing changed but lapsed holds:
--       {'STALE_CONFIG', version}   a newer configuration exists: reload and ask again
--       {'STALE_WINDOW', now ms}    a window begins or ends between the two clocks: match for `now` and ask again
--       {'REUSED'}                  the id has a live hold of another request
--       {'MISSING', i, …}           counters (from 1) without a fresh copy: seed them and ask again
--       {'DENY', 0, 0, lapsed, figures}
-- Answers of the other kind:
--       {'ALLOW', expiry (0: no hold), amount held, lapsed, figures}
--       {'REPLAY', expiry, amount, lapsed, figures}   the same request has a live hold: nothing changed
-- figures: per counter posted, held (the own hold included), 1 when it denies (a shadow too). lapsed: holds dropped.

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

local earlier = wants_hold and read_reservation(KEYS[2], reservation_id, 'fp')
local is_live = earlier and earlier.state == 'live'
local is_replay = is_live and earlier.expires > now
if is_replay and earlier.extra ~= ARGV[4] then
    return {'REUSED'}
end

local posted, held, due, limit, denies = {}, {}, {}, {}, {}
local missing = {'MISSING'}
for i = 1, count do
    local known = call('HMGET', KEYS[i + 2], 'f', 'h', 'd', ARGV[10 + 2 * i])
    if not known[1] or tonumber(known[1]) <= fresh_after then
        missing[#missing + 1] = i
    end
    held[i] = tonumber(known[2] or 0)
    due[i] = tonumber(known[3])
    posted[i] = tonumber(known[4] or 0)
    limit[i] = tonumber(ARGV[11 + 2 * i])
end
if #missing > 1 then
    return missing
end

if fence < config_version then
    call('SET', KEYS[1], ARGV[1])
end

-- An earlier hold of the same id lapsed, but may not have been dropped everywhere: it gives way to the new one.
if is_live and not is_replay then
    release_all(earlier)
    for i = 1, count do
        held[i] = tonumber(call('HGET', KEYS[i + 2], 'h') or 0)
    end
end

local is_denied = false
local lapsed = 0
for i = 1, count do
    local dropped, freed
    repeat
        dropped = 0
        if due[i] and due[i] <= now and not is_ledger_down then
            dropped, freed, due[i] = drop_due(KEYS[i + 2], now)
            held[i] = held[i] - freed
            lapsed = lapsed + dropped
        end
        denies[i] = not is_replay and (limit[i] == 0 or (not is_free and posted[i] + held[i] + amount > limit[i]))
    until dropped < DUE_AT_ONCE or not denies[i]
    is_denied = is_denied or (denies[i] and string.sub(ARGV[10], i, i) == 'e')
end

local answer = {'ALLOW', 0, 0, lapsed}
if is_replay then
    answer = {'REPLAY', earlier.expires, earlier.amount, lapsed}
elseif is_denied then
    answer = {'DENY', 0, 0, lapsed}
elseif wants_hold then
    local expires, now_text = now + ARGV[6], as_text(now)
    local expires_text = as_text(expires)
    local member = amount_text .. ':' .. now_text .. ':' .. reservation_id
    for i = 1, count do
        -- Only a shadow budget gets this far with more held than Lua can count; it is over its limit either way.
        if amount > 0 and held[i] + amount <= LARGEST then
            local key = KEYS[i + 2]
            call('HINCRBY', key, 'h', amount_text)
            call('ZADD', key .. ':z', expires_text, member)
            if held[i] == 0 then
                call('PEXPIREAT', key .. ':z', as_text(now + KEPT_MS))
            end
            if not due[i] or due[i] > expires then
                call('HSET', key, 'd', expires_text)
            end
            held[i] = held[i] + amount
        end
    end
    if earlier then
        call('HDEL', KEYS[2], 'lo')
    end
    call('HSET', KEYS[2], 'st', 'live', 'fp', ARGV[4], 'at', now_text, 'ex', expires_text, 'am', amount_text,
        'co', '0', 'rm', ARGV[7], 'by', ARGV[11], 'cs', table.concat(KEYS, ' ', 3))
    call('PEXPIREAT', KEYS[2], as_text(expires + REMEMBERED_MS))
    answer = {'ALLOW', expires, amount, lapsed}
end

for i = 1, count do
    local at = 3 * i
    answer[at + 2], answer[at + 3], answer[at + 4] = posted[i], held[i], denies[i] and 1 or 0
end
return answer
