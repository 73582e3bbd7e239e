-- The sweep's view of one counter: drop due holds, recompute held from the holds themselves and the sum of a rolling
-- counter from its buckets, and repair both. Redis does nothing else meanwhile, so of more holds than may be looked at in
-- one go the adding up is only begun here: add_up.lua goes on.
--
-- KEYS  1 a counter
-- ARGV  1 its bucket, '' of a rolling one   2 '1' while the ledger cannot be read: no hold lapses
--       3 how many holds may be looked at in one go
-- Answer {held before, held after (-1: add up), number of holds, lapsed, subject ('' when never seeded), of a rolling
--        one: first bucket it was seeded with (-1: none), seconds it counts, sum before, sum after (both 0: nobody has
--        added up)}, then per bucket something was copied to: bucket, epoch, version, posted; {} when there is no counter.

local now = server_time_ms()
local counter, bucket = KEYS[1], ARGV[1]
if call('EXISTS', counter) == 0 then
    return {}
end

local lapsed = 0
if ARGV[2] ~= '1' then
    local dropped
    repeat
        dropped = drop_due(counter, now)
        lapsed = lapsed + dropped
    until dropped < DUE_AT_ONCE or lapsed >= tonumber(ARGV[3])
end

local known = call('HMGET', counter, 'h', 's', 'o', 'w', 'so', 'sp')
local before = tonumber(known[1] or 0)
local number = call('ZCARD', counter .. ':z')
local after = 0
if number > tonumber(ARGV[3]) then
    call('HSET', counter, 'rx', '0', 'rs', '0')
    after = -1
else
    for _, member in ipairs(call('ZRANGE', counter .. ':z', 0, -1)) do
        after = after + string.match(member, '^%d+')
    end
    call('HDEL', counter, 'rx', 'rs')
    if after ~= before then
        call('HSET', counter, 'h', as_text(after))
    end
end

local answer = {
    before, after, number, lapsed, known[2] or '', tonumber(known[3] or -1), tonumber(known[4] or 0),
    tonumber(known[6] or 0), 0,
}
local function add(of_bucket)
    local copy = call('HMGET', counter, 'e:' .. of_bucket, 'v:' .. of_bucket, 'p:' .. of_bucket)
    if copy[1] then
        for _, figure in ipairs({of_bucket, copy[1], copy[2], copy[3]}) do
            answer[#answer + 1] = tonumber(figure)
        end
    end
end
if bucket ~= '' then
    add(bucket)
    return answer
end
for _, field in ipairs(call('HKEYS', counter)) do
    if string.sub(field, 1, 2) == 'e:' then
        add(string.sub(field, 3))
    end
end
if known[5] then
    local sum = 0
    for at = 10, #answer, 4 do
        sum = sum + (answer[at] >= tonumber(known[5]) and answer[at + 3] or 0)
    end
    answer[9] = math.min(sum, LARGEST)
    if sum > LARGEST then
        call('HDEL', counter, 'so', 'sp')
    elseif sum ~= answer[8] then
        call('HSET', counter, 'sp', as_text(sum))
    end
end
return answer
