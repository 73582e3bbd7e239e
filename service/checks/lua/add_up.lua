-- Add up some more holds of a counter, the first due first; with the last of them, compare with held and repair it.
-- Holds come, go and move meanwhile: whoever changes one that is added up already changes the sum (`rs`), so that it is
-- right at any moment, and at the end for all. It does not matter who goes on, or how many.
--
-- KEYS  1 a counter
-- ARGV  1 how many holds may be looked at in one go; those due in the same millisecond are taken together
-- Answer {held before, held after (-1: go on)}; {} when nobody has begun.

local counter = KEYS[1]
local known = call('HMGET', counter, 'rx', 'rs', 'h')
local up_to, sum = tonumber(known[1]), tonumber(known[2] or 0)
if not up_to then
    return {}
end
local found = call('ZRANGEBYSCORE', counter .. ':z', as_text(up_to), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1] + 1)
local is_end = #found / 2 <= tonumber(ARGV[1])
if not is_end then
    local last = found[#found]
    if found[2] == last then
        found = call('ZRANGEBYSCORE', counter .. ':z', last, last, 'WITHSCORES')
        up_to = last + 1
    else
        up_to = tonumber(last)
    end
end
for i = 1, #found, 2 do
    if is_end or tonumber(found[i + 1]) < up_to then
        sum = sum + string.match(found[i], '^%d+')
    end
end
if not is_end then
    call('HSET', counter, 'rx', as_text(up_to), 'rs', as_text(sum))
    return {tonumber(known[3] or 0), -1}
end
call('HDEL', counter, 'rx', 'rs')
if sum ~= tonumber(known[3] or 0) then
    call('HSET', counter, 'h', as_text(sum))
end
return {tonumber(known[3] or 0), sum}
