-- Copy to counters, for checks, what was just read of them in the ledger, and make them fresh. Safe to come late or
-- twice: a state is applied only if its (epoch, version) is newer. Holds are not touched.
--
-- KEYS  counters
-- ARGV  1 epoch
--       then per counter: subject, micro-USD carried into its window ('' = not fixed yet, or nothing ever is), what is
--           counted of a rolling one as '<oldest bucket> <seconds>' ('' of others), number of buckets;
--           and per bucket: bucket, posted in micro-USD (rounded up), version
-- Answer: number of states applied
--
-- Of a rolling counter come all buckets the ledger has since the oldest counted one, so those it does not name are
-- dropped: older ones, and what a ledger before a restore had. Others were published meanwhile.

local MOST_UNPACKED = 300

local now = server_time_ms()
local epoch = tonumber(ARGV[1])
local now_text, fresh_until, kept_until = as_text(now), as_text(now + FRESH_MS), as_text(now + KEPT_MS)
local applied = 0
local at = 2

local function seed_one(key, subject, carry, bucket, posted, version)
    local known = call('HMGET', key, 'e:' .. bucket, 'v:' .. bucket)
    local known_epoch = tonumber(known[1] or -1)
    local fields = {'f', fresh_until, 't', now_text, 's', subject}
    if epoch > known_epoch or (epoch == known_epoch and tonumber(version) > tonumber(known[2])) then
        for _, each in ipairs({'p:' .. bucket, posted, 'v:' .. bucket, version, 'e:' .. bucket, ARGV[1]}) do
            fields[#fields + 1] = each
        end
        applied = applied + 1
    end
    if epoch >= known_epoch and carry ~= '' then
        fields[#fields + 1], fields[#fields + 2] = 'k', carry
    elseif epoch > known_epoch then
        call('HDEL', key, 'k')
    end
    call('HSET', key, unpack(fields))
end

local function drop(key, fields)
    for first = 1, #fields, MOST_UNPACKED do
        call('HDEL', key, unpack(fields, first, math.min(first + MOST_UNPACKED - 1, #fields)))
    end
end

local function seed_rolling(key, subject, oldest, span, states)
    local known, named, amounts, gone = {}, {}, {}, {'so', 'sp'}
    local fields = {'f', fresh_until, 't', now_text, 's', subject, 'o', oldest, 'w', span}
    local flat = call('HGETALL', key)
    for i = 1, #flat, 2 do
        known[flat[i]] = flat[i + 1]
        amounts[string.match(flat[i], '^p:(%d+)$') or ''] = flat[i + 1]
    end
    for _, state in ipairs(states) do
        local bucket, posted, version = unpack(state)
        named[bucket] = true
        local known_epoch = tonumber(known['e:' .. bucket] or -1)
        if epoch > known_epoch or (epoch == known_epoch and tonumber(version) > tonumber(known['v:' .. bucket])) then
            for _, each in ipairs({'p:' .. bucket, posted, 'v:' .. bucket, version, 'e:' .. bucket, ARGV[1]}) do
                fields[#fields + 1] = each
            end
            amounts[bucket] = posted
            applied = applied + 1
        end
    end
    for field, known_epoch in pairs(known) do
        local bucket = string.match(field, '^e:(%d+)$')
        if bucket and not named[bucket] and (tonumber(bucket) < tonumber(oldest) or tonumber(known_epoch) < epoch) then
            gone[#gone + 1], gone[#gone + 2], gone[#gone + 3] = 'p:' .. bucket, 'v:' .. bucket, field
            amounts[bucket] = nil
        end
    end
    drop(key, gone)
    local sum = 0
    for bucket, amount in pairs(amounts) do
        sum = sum + (bucket ~= '' and tonumber(bucket) >= tonumber(oldest) and amount or 0)
    end
    if sum <= LARGEST then
        for _, each in ipairs({'so', oldest, 'sp', as_text(sum)}) do
            fields[#fields + 1] = each
        end
    end
    call('HSET', key, unpack(fields))
end

for i = 1, #KEYS do
    local key, subject, carry, counted, number = KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
    at = at + 4
    if counted == '' then
        seed_one(key, subject, carry, ARGV[at], ARGV[at + 1], ARGV[at + 2])
    else
        local states = {}
        for n = 1, number do
            local first = at + 3 * (n - 1)
            states[n] = {ARGV[first], ARGV[first + 1], ARGV[first + 2]}
        end
        local oldest, span = string.match(counted, '^(%d+) (%d+)$')
        seed_rolling(key, subject, oldest, span, states)
    end
    keep(key, kept_until)
    at = at + 3 * number
end
return applied
