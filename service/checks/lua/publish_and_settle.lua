-- Copy committed states of counters, and consume the holds of the same commit, in one step: never the one without the
-- other, so posted + held never falls by publishing. Order-free and safe to repeat: a state is applied only if its
-- (epoch, version) is newer, a charge only once.
--
-- KEYS  counters, then one reservation per settlement
-- ARGV  1 number of counters   2 epoch
--       then per counter: bucket, posted in micro-USD (rounded up), version
--       then per settlement: reservation id, charge id, amount in micro-USD (rounded down), '1' when final,
--           '1' when the call failed, the charge's counters as '<budget>:<subject digest>' separated by spaces
-- Answer {states applied, holds lowered, holds settled, settlements after the end of their hold, settlements seen
--         before, settlements without a reservation, micro-USD above holds, micro-USD of calls that went denied routes}
--
-- A counter of one bucket is fresh when that is, as long as it was seeded lately: what was carried in, and a longer
-- life, come by seeding only. Of a rolling one the other buckets may be old, so only seeding makes it fresh.

local UNUSED_MS = 300000                  -- life of a counter no check has asked for: it only outlives a seeding's read
local AFTER_FAILURE_MS = 60000            -- a retry of the gateway follows at once, or never
local SEEDED_MS = 600000                  -- publishing keeps a counter fresh for so long after it was seeded
local MOST_FIELDS = 1000                  -- of a rolling counter nobody seeds any more, before old buckets are dropped

local now = server_time_ms()
local counter_count = tonumber(ARGV[1])
local epoch = tonumber(ARGV[2])
local fresh_until = as_text(now + FRESH_MS)

local applied, lowered, settled, late, repeated, unknown, overshoot, astray = 0, 0, 0, 0, 0, 0, 0, 0

-- Drop the buckets of a rolling counter that are counted no more, and were not a minute ago.
local function drop_old_buckets(key)
    local span = tonumber(call('HGET', key, 'w'))
    if not span then
        return
    end
    call('HDEL', key, 'so', 'sp')
    for _, field in ipairs(call('HKEYS', key)) do
        local bucket = string.match(field, '^p:(%d+)$')
        if bucket and (tonumber(bucket) + span + 60) * 1000 < now then
            call('HDEL', key, field, 'v:' .. bucket, 'e:' .. bucket)
        end
    end
end

-- Add to the sum of a rolling counter, if it is known and the bucket is part of it.
local function add_posted(key, bucket, micro_usd, oldest)
    if oldest and tonumber(bucket) >= tonumber(oldest) and micro_usd ~= 0
        and call('HINCRBY', key, 'sp', as_text(micro_usd)) > LARGEST then
        call('HDEL', key, 'so', 'sp')
    end
end

for i = 1, counter_count do
    local key = KEYS[i]
    local bucket, posted, version = ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
    local known = call('HMGET', key, 'e:' .. bucket, 'v:' .. bucket, 'f', 't', 'so', 'p:' .. bucket)
    local known_epoch = tonumber(known[1] or -1)
    if epoch > known_epoch or (epoch == known_epoch and tonumber(version) > tonumber(known[2])) then
        call('HSET', key, 'p:' .. bucket, posted, 'v:' .. bucket, version, 'e:' .. bucket, ARGV[2])
        applied = applied + 1
        if string.sub(key, -8) ~= ':rolling' then
            if known[3] and known[4] and tonumber(known[4]) + SEEDED_MS > now then
                call('HSET', key, 'f', fresh_until)
            end
        else
            add_posted(key, bucket, posted - (known[6] or 0), known[5])
            if known[3] and not known[1] and call('HLEN', key) > MOST_FIELDS then
                drop_old_buckets(key)
            end
        end
    end
    if not known[1] and not known[3] and call('PTTL', key) < 0 then
        keep(key, as_text(now + UNUSED_MS))
    end
end

-- Lower what a reservation holds in the counters something was posted to; the rest stays.
local function consume(key, reservation, micro_usd, posted_to)
    local is_posted = {}
    for _, name in ipairs(words(posted_to)) do
        is_posted[name] = true
    end
    local before = reservation.left
    local after = {}
    for i, counter in ipairs(reservation.counters) do
        local amount = tonumber(before[i] or reservation.amount)
        local left = amount
        if is_posted[counter_name(counter)] then
            left = math.max(amount - micro_usd, 0)
        end
        after[i] = as_text(left)
        if left < amount and call('ZSCORE', counter .. ':z', hold_member(reservation, i)) then
            if left > 0 then
                -- Before the old member goes: an emptied set would lose its time to live.
                local member = after[i] .. ':' .. reservation.at .. ':' .. reservation.id
                call('ZADD', counter .. ':z', as_text(reservation.expires), member)
                local up_to = added_up_to(counter)
                if up_to then
                    note_change(counter, up_to, up_to, 0, reservation.expires, left)
                end
            end
            remove_hold(counter, hold_member(reservation, i))
            add_held(counter, left - amount)
        end
    end
    reservation.left = after
    call('HSET', key, 'lo', table.concat(after, ' '))
end

-- Whether a charge went a route its check had denied: it is in a counter that no allowed one goes through.
local function is_astray(reservation, posted_to)
    local is_posted = {}
    for _, name in ipairs(#reservation.avoided > 0 and words(posted_to) or {}) do
        is_posted[name] = true
    end
    for _, name in ipairs(reservation.avoided) do
        if is_posted[name] then
            return true
        end
    end
    return false
end

-- Where end clients choose ids, calls under one id hold under 'x', 'x#2', … 'x#16' (see repeats.py): a charge consumes
-- the first that lives. All its charges are noted at 'x', so that none is applied twice.
local MOST_REPEATS = 16
local function find_hold(key, id, charge)
    local first = read_reservation(key, id, charge)
    if not first or first.extra or (first.state == 'live' and first.expires > now) then
        return key, first
    end
    for number = 2, MOST_REPEATS do
        local repeat_key = key .. '#' .. number
        local repeated = read_reservation(repeat_key, id .. '#' .. number, charge)
        if not repeated then
            break
        elseif repeated.state == 'live' and repeated.expires > now then
            reach(repeated.counters)
            call('HSET', key, charge, '1')
            return repeat_key, repeated
        end
    end
    return key, first
end

-- Bring the end of a hold forward in every counter that still has it.
local function cut(key, reservation, expires)
    for i, counter in ipairs(reservation.counters) do
        if move_hold(counter, hold_member(reservation, i), expires) then
            local due = tonumber(call('HGET', counter, 'd') or expires)
            call('HSET', counter, 'd', as_text(math.min(due, expires)))
        end
    end
    call('HSET', key, 'ex', as_text(expires))
    call('PEXPIREAT', key, as_text(expires + REMEMBERED_MS))
end

local at = 3 + counter_count * 3
for i = counter_count + 1, #KEYS do
    local charge = 'c:' .. ARGV[at + 1]
    local amount = math.max(tonumber(ARGV[at + 2]), 0)
    local is_final, is_failure = ARGV[at + 3] == '1', ARGV[at + 4] == '1'
    local key, reservation = find_hold(KEYS[i], ARGV[at], charge)
    if not reservation then
        unknown = unknown + 1
    elseif reservation.extra then
        repeated = repeated + 1
    elseif reservation.state ~= 'live' or reservation.expires <= now then
        late = late + 1
        reach(reservation.counters)
        call('HSET', key, charge, '1', 'st', reservation.state == 'live' and 'expired' or reservation.state)
        release_all(reservation)
    else
        local before, held = reservation.consumed, reservation.amount
        if is_astray(reservation, ARGV[at + 5]) then
            astray = astray + amount
        else
            overshoot = overshoot + math.max(before + amount - held, 0) - math.max(before - held, 0)
        end
        reach(reservation.counters)
        call('HSET', key, charge, '1', 'co', as_text(before + amount), 'st', is_final and 'settled' or 'live')
        if is_final then
            settled = settled + 1
            release_all(reservation)
            call('PEXPIREAT', key, as_text(now + REMEMBERED_MS))
        else
            lowered = lowered + 1
            consume(key, reservation, amount, ARGV[at + 5])
            if is_failure and reservation.expires > now + AFTER_FAILURE_MS then
                cut(key, reservation, now + AFTER_FAILURE_MS)
            end
        end
    end
    at = at + 6
end

return {applied, lowered, settled, late, repeated, unknown, overshoot, astray}
