-- Take back a configuration fence that names a version the database does not have (it was restored to an earlier state).
--
-- KEYS  1 {t}:cv
-- ARGV  1 the version seen   2 the version the database has
-- Answer 1 when lowered, 0 when the fence moved meanwhile.

if call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
call('SET', KEYS[1], ARGV[2])
return 1
