-- Look up reservations of a tenant, those that ended lately too.
--
-- KEYS  {t}:r:<reservation id> each
-- Answer per key the requested model ('' when unknown); nil when there is no reservation.

local found = {}
for i, key in ipairs(KEYS) do
    local known = call('HMGET', key, 'st', 'rm')
    found[i] = known[1] and (known[2] or '')
end
return found
