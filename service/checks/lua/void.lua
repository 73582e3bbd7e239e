-- Cancel a reservation and free what it still holds. Voiding one that has ended changes nothing.
--
-- KEYS  1 {t}:r:<reservation id>
-- ARGV  1 reservation id   2 who must have placed it, '' for anyone: one placed by another stays as it is
-- Answer {state, placed at, expiry, amount, consumed, requested model} after the step; {} when there is none.

local now = server_time_ms()
local reservation = read_reservation(KEYS[1], ARGV[1], 'rm')
if not reservation then
    return {}
end
local state = reservation.state
if state == 'live' and (ARGV[2] == '' or call('HGET', KEYS[1], 'by') == ARGV[2]) then
    state = reservation.expires > now and 'voided' or 'expired'
    reach(reservation.counters)
    release_all(reservation)
    call('HSET', KEYS[1], 'st', state)
    call('PEXPIREAT', KEYS[1], as_text(now + REMEMBERED_MS))
end
return {state, tonumber(reservation.at), reservation.expires, reservation.amount, reservation.consumed,
    reservation.extra}
