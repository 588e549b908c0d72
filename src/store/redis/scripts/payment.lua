-- A payment as it is, with the server's time.
-- KEYS: payment, responses, last fence. ARGV: the payment's place among the responses, 1 to have its response too.
local record = redis.call('HMGET', KEYS[1], 'r', 'q', 't', 'g')
local response = false
local kept = 0
if ARGV[2] == '1' then
    response = redis.call('HGET', KEYS[2], ARGV[1])
    kept = response and 1 or 0
else
    kept = redis.call('HEXISTS', KEYS[2], ARGV[1])
end
local now = redis.call('TIME')
return {
    record[1], record[2], record[3], record[4], kept, response,
    redis.call('GET', KEYS[3]) or '0',
    string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)),
}
