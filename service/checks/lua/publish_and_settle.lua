-- Copy committed states of counters, and consume the holds of the same commit, in one step: never the one without the
-- other, so posted + held never falls by publishing. Order-free and safe to repeat: a state is applied only if its
-- (epoch, version) is newer, a charge only once.
--
-- KEYS  counters, then one reservation per settlement
-- ARGV  1 number of counters   2 epoch   3 '1' when seeding: the states were just read from the ledger, for a check
--       then per counter: bucket, posted in micro-USD (rounded up), version, subject
--       then per settlement: reservation id, charge id, amount in micro-USD (rounded down), '1' when final,
--           '1' when the call failed, the charge's counters as '<budget>:<subject digest>' separated by spaces
-- Answer {states applied, holds lowered, holds settled, settlements after the end of their hold, settlements seen
--         before, settlements without a reservation, overshoot in micro-USD}

local FRESH_MS = 90000
local UNUSED_MS = 300000                  -- life of a counter no check has asked for: it only outlives a seeding's read
local AFTER_FAILURE_MS = 60000            -- a retry of the gateway follows at once, or never

local now = server_time_ms()
local counter_count = tonumber(ARGV[1])
local epoch = tonumber(ARGV[2])
local is_seeding = ARGV[3] == '1'
local fresh_until, kept_until = as_text(now + FRESH_MS), as_text(now + KEPT_MS)

local applied, lowered, settled, late, repeated, unknown, overshoot = 0, 0, 0, 0, 0, 0, 0

for i = 1, counter_count do
    local key = KEYS[i]
    local bucket, posted, version, subject = ARGV[4 * i], ARGV[4 * i + 1], ARGV[4 * i + 2], ARGV[4 * i + 3]
    local known = call('HMGET', key, 'e:' .. bucket, 'v:' .. bucket, 'f')
    local known_epoch = tonumber(known[1] or -1)
    local is_new = not known[1] and not known[3]
    if epoch > known_epoch or (epoch == known_epoch and tonumber(version) > tonumber(known[2])) then
        call('HSET', key, 'p:' .. bucket, posted, 'v:' .. bucket, version, 'e:' .. bucket, ARGV[2])
        applied = applied + 1
        if known[3] then
            call('HSET', key, 'f', fresh_until)
        end
    end
    if is_seeding then
        call('HSET', key, 'f', fresh_until, 's', subject)
        keep(key, kept_until)
    elseif is_new and call('PTTL', key) < 0 then
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
        if is_posted[string.match(counter, '}:c:([^:]+:[^:]+):')] then
            left = math.max(amount - micro_usd, 0)
        end
        after[i] = as_text(left)
        if left < amount and call('ZSCORE', counter .. ':z', hold_member(reservation, i)) then
            if left > 0 then
                -- Before the old member goes: an emptied set would lose its time to live.
                local member = after[i] .. ':' .. reservation.at .. ':' .. reservation.id
                call('ZADD', counter .. ':z', as_text(reservation.expires), member)
            end
            call('ZREM', counter .. ':z', hold_member(reservation, i))
            add_held(counter, left - amount)
        end
    end
    reservation.left = after
    call('HSET', key, 'lo', table.concat(after, ' '))
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
            call('HSET', key, charge, '1')
            return repeat_key, repeated
        end
    end
    return key, first
end

-- Bring the end of a hold forward in every counter that still has it.
local function cut(key, reservation, expires)
    local expires_text = as_text(expires)
    for i, counter in ipairs(reservation.counters) do
        if call('ZADD', counter .. ':z', 'XX', 'CH', expires_text, hold_member(reservation, i)) == 1 then
            local due = tonumber(call('HGET', counter, 'd') or expires)
            call('HSET', counter, 'd', as_text(math.min(due, expires)))
        end
    end
    call('HSET', key, 'ex', expires_text)
    call('PEXPIREAT', key, as_text(expires + REMEMBERED_MS))
end

local at = 4 + counter_count * 4
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
        call('HSET', key, charge, '1', 'st', reservation.state == 'live' and 'expired' or reservation.state)
        release_all(reservation)
    else
        local before, held = reservation.consumed, reservation.amount
        overshoot = overshoot + math.max(before + amount - held, 0) - math.max(before - held, 0)
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

return {applied, lowered, settled, late, repeated, unknown, overshoot}
