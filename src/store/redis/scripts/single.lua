-- One command of its own. KEYS: its key, the mark of a move. ARGV: the command (RAISE: to at least this number), its arguments.
local mark = redis.call('GET', KEYS[2])
if mark then
    return redis.error_reply('STOREMOVED ' .. mark)
end
if ARGV[1] ~= 'RAISE' then
    return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
end
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[2]) then
    redis.call('SET', KEYS[1], ARGV[2])
end
return 1
