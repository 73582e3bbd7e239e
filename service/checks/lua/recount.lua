-- The sweep's view of one counter: drop every due hold, recompute held from the holds themselves, and repair it.
--
-- KEYS  1 a counter
-- ARGV  1 bucket   2 '1' while the ledger cannot be read: no hold lapses
-- Answer {epoch, version, posted, held before, held after, number of holds, lapsed,
--        subject ('' when never seeded)}; {} when there is no counter.
--        epoch -1: nothing was copied to this bucket yet.

local now = server_time_ms()
local counter, bucket = KEYS[1], ARGV[1]
if call('EXISTS', counter) == 0 then
    return {}
end
local known = call('HMGET', counter, 'e:' .. bucket, 'v:' .. bucket, 'p:' .. bucket, 's')

local lapsed = 0
if ARGV[2] ~= '1' then
    local dropped
    repeat
        dropped = drop_due(counter, now)
        lapsed = lapsed + dropped
    until dropped < DUE_AT_ONCE
end

local before = tonumber(call('HGET', counter, 'h') or 0)
local members = call('ZRANGE', counter .. ':z', 0, -1)
local after = 0
for _, member in ipairs(members) do
    after = after + string.match(member, '^%d+')
end
if after ~= before then
    call('HSET', counter, 'h', as_text(after))
end
return {tonumber(known[1] or -1), tonumber(known[2] or 0), tonumber(known[3] or 0), before, after, #members, lapsed, known[4] or ''}
