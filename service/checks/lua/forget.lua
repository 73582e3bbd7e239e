-- Forget the copy of one bucket if it still is what the sweep saw, so that the next check seeds it from the ledger.
-- Holds stay.
--
-- KEYS  1 a counter
-- ARGV  1 bucket   2 epoch   3 version
-- Answer 1 when forgotten, 0 when it changed meanwhile.

local bucket = ARGV[1]
local known = call('HMGET', KEYS[1], 'e:' .. bucket, 'v:' .. bucket)
if known[1] ~= ARGV[2] or known[2] ~= ARGV[3] then
    return 0
end
call('HDEL', KEYS[1], 'f', 'so', 'sp', 'p:' .. bucket, 'v:' .. bucket, 'e:' .. bucket)
return 1
