-- Drops stored responses older than a moment. KEYS: their times, the responses, the mark of a move. ARGV: the moment, how many at most.
local mark = redis.call('GET', KEYS[3])
if mark then
    return redis.error_reply('STOREMOVED ' .. mark)
end
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #old > 0 then
    redis.call('ZREM', KEYS[1], unpack(old))
    redis.call('HDEL', KEYS[2], unpack(old))
end
return #old
