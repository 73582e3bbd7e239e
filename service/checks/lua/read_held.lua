-- Read what is held in a counter, after holds that are due were dropped.
--
-- KEYS  1 a counter
-- ARGV  1 how many holds may be dropped in one go
-- Answer {held, 1 when more are due: ask again, else 0}

local counter, now = KEYS[1], server_time_ms()
local due = tonumber(call('HGET', counter, 'd'))
local dropped = 0
while due and due <= now and dropped < tonumber(ARGV[1]) do
    local number, _, next_due = drop_due(counter, now)
    dropped, due = dropped + number, next_due
end
return {tonumber(call('HGET', counter, 'h') or 0), due and due <= now and 1 or 0}
