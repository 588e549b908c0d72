-- Takes a channel for one request, or says why not.
-- KEYS: channel, its used identifiers and offers, its charges, responses of the shard, last fence of the shard, the mark of a move.
-- ARGV[1] revision of the record that the caller has ('' none), ARGV[2] what makes this attempt the same when it is sent again,
-- ARGV[3] the holder and its purpose, ARGV[4] how long to hold, ms, ARGV[5] the caller's time and ARGV[6] the end by it, 20 digits
-- each ('' both: the server's), ARGV[7] identifier and ARGV[8] offer ('' both: upkeep), ARGV[9] what the places of its responses begin with,
-- ARGV[10] names of attempts of this process whose answers were lost: nobody has those leases.
local mark = redis.call('GET', KEYS[6])
if mark then
    return redis.error_reply('STOREMOVED ' .. mark)
end
local held = redis.call('HMGET', KEYS[1], 'r', 'lf', 'lu', 'lw', 'lo')
if not held[1] then
    return { 'unknown' }
end
if ARGV[7] ~= '' then
    local number = redis.call('HGET', KEYS[2], ARGV[7])
    if number then
        local response = redis.call('HGET', KEYS[4], ARGV[9] .. number)
        return { 'charged', number, redis.call('LINDEX', KEYS[3], number - 1), response }
    end
    if redis.call('HEXISTS', KEYS[2], ARGV[8]) == 1 then
        return { 'nonce' }
    end
end
local now, ends = ARGV[5], ARGV[6]
if now == '' then
    local time = redis.call('TIME')
    local millis = time[1] * 1000 + math.floor(time[2] / 1000)
    now, ends = string.format('%020.0f', millis), string.format('%020.0f', millis + ARGV[4])
end
local answer
if held[2] and held[5] == ARGV[2] then
    answer = { 'held', held[2], held[3], now }
elseif held[2] and now < held[3] and not string.find(ARGV[10], held[5], 1, true) then
    answer = { 'busy', held[4], held[3], now }
else
    local fence = redis.call('INCR', KEYS[5])
    redis.call('HSET', KEYS[1], 'lf', fence, 'lu', ends, 'lw', ARGV[3], 'lo', ARGV[2])
    answer = { 'held', tostring(fence), ends, now }
end
answer[5] = held[1]
if held[1] ~= ARGV[1] then
    local record = redis.call('HMGET', KEYS[1], 'q', 't', 'a', 'h')
    for place = 1, 4 do
        answer[5 + place] = record[place]
    end
end
return answer
