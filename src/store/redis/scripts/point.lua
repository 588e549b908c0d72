-- Points a name (an identifier, a script) at whom it belongs to, when it points where the caller saw it point, or there already.
-- KEYS: the shard's names, the mark of a move. ARGV[1] name, ARGV[2] what was seen ('' nothing), ARGV[3] to whom, ARGV[4] 'once': for ever.
-- Answers whether it points there now, what is stored, and the server's time. What is stored: to whom, then the time, 16 digits.
local mark = redis.call('GET', KEYS[2])
if mark then
    return redis.error_reply('STOREMOVED ' .. mark)
end
local found = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local time = redis.call('TIME')
local now = string.format('%016.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local same = string.sub(found, 1, -17) == ARGV[3]
if found ~= '' and ARGV[4] == 'once' then
    return { same and 1 or 0, found, now }
end
if found ~= ARGV[2] and not same then
    return { 0, found, now }
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. now)
return { 1, ARGV[3] .. now, now }
