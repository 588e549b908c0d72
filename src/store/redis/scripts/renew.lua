-- Renews or ends the lease of a channel. KEYS: channel, the mark of a move. ARGV[1] fence, ARGV[2] how long to hold, ms ('' it ends),
-- ARGV[3] its end by the caller's time ('' by the server's). Answers 1, or 2 when another lease holds the channel.
local mark = redis.call('GET', KEYS[2])
if mark then
    return redis.error_reply('STOREMOVED ' .. mark)
end
if redis.call('HGET', KEYS[1], 'lf') ~= ARGV[1] then
    return 2
end
if ARGV[2] == '' then
    redis.call('HDEL', KEYS[1], 'lf', 'lu', 'lw', 'lo')
    return 1
end
local ends = ARGV[3]
if ends == '' then
    local time = redis.call('TIME')
    ends = string.format('%020.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2])
end
redis.call('HSET', KEYS[1], 'lu', ends)
return 1
