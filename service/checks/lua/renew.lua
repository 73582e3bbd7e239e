-- Let a live hold last longer (long streams). Renewing never shortens a hold, and one that has ended stays ended.
-- With a life of 0 this reads a reservation and changes nothing.
--
-- KEYS  1 {t}:r:<reservation id>
-- ARGV  1 reservation id   2 life from now, ms
-- Answer {state, placed at, expiry, amount, consumed, requested model} after the step; {} when there is none.

local now = server_time_ms()
local reservation = read_reservation(KEYS[1], ARGV[1], 'rm')
if not reservation then
    return {}
end
local state, expires = reservation.state, reservation.expires
local wanted = now + ARGV[2]
if state == 'live' and expires <= now then
    state = 'expired'
elseif state == 'live' and wanted > expires then
    expires = wanted
    local kept_until = as_text(now + KEPT_MS)
    for i, counter in ipairs(reservation.counters) do
        if move_hold(counter, hold_member(reservation, i), expires) then
            keep(counter, kept_until)
        end
    end
    call('HSET', KEYS[1], 'ex', as_text(expires))
    call('PEXPIREAT', KEYS[1], as_text(expires + REMEMBERED_MS))
end
return {state, tonumber(reservation.at), expires, reservation.amount, reservation.consumed, reservation.extra}
