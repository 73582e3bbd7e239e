-- Raise the configuration fence of a tenant; it never falls.
-- KEYS[1] {tenant}:cv   ARGV[1] version
local known = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) > known then
    redis.call('SET', KEYS[1], ARGV[1])
    return tonumber(ARGV[1])
end
return known
