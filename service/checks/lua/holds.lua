-- Put in front of every script of this folder: the parts of holds that more than one of them needs.
--
-- Keys of a tenant, all with its hash tag (one slot, so scripts may derive names from names):
--   {t}:cv                                       configuration fence: the newest config_version
--   {t}:c:<budget>:<subject digest>:<window>     a counter: one budget, one subject, one window; of a rolling budget
--                                                one for ever, its <window> is 'rolling'. Hash:
--       p:<bucket> v:<bucket> e:<bucket>         posted micro-USD (rounded up), version, epoch: the ledger's copy; one
--                                                bucket, or those of a rolling counter, where a missing one is 0
--       f t                                      fresh_until, ms: seeded, and may be trusted until then; seeded at, ms
--       s                                        the subject's text, for the sweep
--       k                                        micro-USD carried into the window, once that is fixed
--       o w                                      rolling: the first bucket it was seeded with; the seconds it counts
--       so sp                                    rolling: `sp` is the sum of all p:<bucket> from bucket `so` on,
--                                                always; `so` is never before `o`. Both are missing while nobody has
--                                                added up since a bucket was dropped, and above LARGEST
--       h                                        held micro-USD = the sum of :z, always
--       d                                        no hold is due before, ms (a lower bound of the scores of :z)
--       rx rs                                    while the holds are added up: `rs` is the sum of those in :z that are due
--                                                before `rx` (ms), always
--   {t}:c:…:z                                    its holds: sorted set of '<micro-USD>:<placed at>:<reservation id>' by
--                                                expiry in ms; a hold of nothing is not in it
--   {t}:r:<reservation id>                       a reservation. Hash: st live|settled|voided|expired, fp fingerprint,
--       at placed, by whom, ex expiry (ms), am amount, co consumed, rm requested model, cs its counters (keys, by
--       spaces), lo what is left in each of them once something was consumed or where they hold different amounts (am
--       is the largest), ro '<name>:<1|0>' by spaces: which of several routes were allowed, av the counters (as charges
--       name them) that only denied ones go through, c:<charge id> charges applied
--
-- Limits are not kept here: they travel with the call, and the fence lets no older configuration decide after a newer.
-- All amounts are integers below 2^53, in which Lua is exact; a number joined to text by `..` would keep 14 digits, so
-- that is done by string.format. A failing script would keep its earlier writes: arguments come from our own code only,
-- and everything that can be refused is refused before the first write. Calls are few: they are what a script costs.

local call = redis.call
local LARGEST = 9000000000000000          -- micro-USD: nine billion dollars
local FRESH_MS = 90000                    -- how long a copy is trusted after it was seeded or published
local KEPT_MS = 93600000                  -- a used counter lives 26 h from its last seeding: longer than any hold in it
local REMEMBERED_MS = 600000              -- an ended reservation still answers, and knows its charges, for ten minutes
local DUE_AT_ONCE = 100

local function server_time_ms()
    local time = call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function as_text(whole)
    return string.format('%.0f', whole)
end

local function words(text)
    local list = {}
    for word in string.gmatch(text or '', '%S+') do
        list[#list + 1] = word
    end
    return list
end

-- What charges call a counter: '<budget>:<subject digest>'.
local function counter_name(key)
    return string.match(key, '}:c:([^:]+:[^:]+):')
end

-- Change held; should the counter itself be gone, leave nothing behind.
local function add_held(counter, micro_usd)
    if micro_usd ~= 0 and call('HINCRBY', counter, 'h', as_text(micro_usd)) < 0 then
        if call('HEXISTS', counter, 'f') == 1 then
            call('HSET', counter, 'h', '0')
        else
            call('DEL', counter)
        end
    end
end

-- What the fields 'st', 'at', 'ex', 'am', 'co', 'cs', 'lo', 'av' say; nil when there is no reservation.
local function read_reservation(key, id, extra_field)
    local known = call('HMGET', key, 'st', 'at', 'ex', 'am', 'co', 'cs', 'lo', 'av', extra_field)
    if not known[1] then
        return nil
    end
    return {
        id = id, state = known[1], at = known[2], expires = tonumber(known[3]), amount = tonumber(known[4]),
        amount_text = known[4], consumed = tonumber(known[5]), counters = words(known[6]), left = words(known[7]),
        avoided = words(known[8]), extra = known[9],
    }
end

-- The member of counter `i` of a reservation.
local function hold_member(reservation, i)
    return (reservation.left[i] or reservation.amount_text) .. ':' .. reservation.at .. ':' .. reservation.id
end

-- Ask for the keys of counters before the first write. In a cluster a slot may be on its way, key by key: a key that has
-- left, or never was, is refused in the middle of a script, whose earlier writes would stay.
local function reach(counters)
    for _, counter in ipairs(counters) do
        call('EXISTS', counter, counter .. ':z')
    end
end

-- Until when (ms) the holds of a counter are added up so far; nil when nobody does that.
local function added_up_to(counter)
    return tonumber(call('HGET', counter, 'rx') or nil)
end

-- Keep the sum of the holds added up so far: one that was due then and held so much is due now and holds so much.
local function note_change(counter, up_to, due_before, held_before, due_after, held_after)
    local change = (due_after < up_to and held_after or 0) - (due_before < up_to and held_before or 0)
    if change ~= 0 then
        call('HINCRBY', counter, 'rs', as_text(change))
    end
end

-- Take a hold out of the holds of a counter. Returns whether it was there.
local function remove_hold(counter, member)
    local up_to = added_up_to(counter)
    local due = up_to and call('ZSCORE', counter .. ':z', member)
    if due then
        note_change(counter, up_to, tonumber(due), tonumber(string.match(member, '^%d+')), up_to, 0)
    end
    return call('ZREM', counter .. ':z', member) == 1
end

-- Let a hold end at another time. Returns whether it is there and did not end then anyway.
local function move_hold(counter, member, expires)
    local up_to = added_up_to(counter)
    local due = up_to and call('ZSCORE', counter .. ':z', member)
    if due then
        local micro_usd = tonumber(string.match(member, '^%d+'))
        note_change(counter, up_to, tonumber(due), micro_usd, expires, micro_usd)
    end
    return call('ZADD', counter .. ':z', 'XX', 'CH', as_text(expires), member) == 1
end

-- Take what a reservation still holds out of all its counters; a second time changes nothing.
local function release_all(reservation)
    for i, counter in ipairs(reservation.counters) do
        if remove_hold(counter, hold_member(reservation, i)) then
            add_held(counter, -tonumber(reservation.left[i] or reservation.amount))
        end
    end
end

-- Drop holds that are due, the oldest first, at most DUE_AT_ONCE. Returns how many, what they held, and the new `d`.
local function drop_due(counter, now)
    local due = call('ZRANGEBYSCORE', counter .. ':z', '-inf', as_text(now), 'LIMIT', 0, DUE_AT_ONCE)
    local freed = 0
    if #due > 0 then
        local up_to = added_up_to(counter)
        for _, member in ipairs(due) do
            local micro_usd = tonumber(string.match(member, '^%d+'))
            freed = freed + micro_usd
            if up_to then
                note_change(counter, up_to, tonumber(call('ZSCORE', counter .. ':z', member)), micro_usd, up_to, 0)
            end
        end
        call('ZREM', counter .. ':z', unpack(due))
        add_held(counter, -freed)
    end
    local next_due = call('ZRANGE', counter .. ':z', 0, 0, 'WITHSCORES')[2]
    if next_due then
        call('HSET', counter, 'd', next_due)
    else
        call('HDEL', counter, 'd')
    end
    return #due, freed, tonumber(next_due)
end

-- Let a counter and its holds live until an instant (ms, as text).
local function keep(counter, expires)
    call('PEXPIREAT', counter, expires)
    call('PEXPIREAT', counter .. ':z', expires)
end
